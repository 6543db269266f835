//! Templates: system messages and tools that the owner marked, of which what the model makes is stored, so that
//! no request waits for it again, after a restart neither.
//!
//! In: files that the owner names, or a request of the owner's. Out: a prefix on the disk. A user's turn is never
//! part of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use cloister_engine::{
    Client, Conversation, Engine, Event, GenerateError, Generation, Message, Priority,
};

use cloister_program::output;

use super::api_error::ApiError;
use super::chat::request::ChatRequest;
use super::models::Models;
use super::peer::Asker;
use crate::settings::WrongUse;

/// A file that the owner names.
#[derive(Clone, Debug)]
pub struct Template {
    path: PathBuf,
    conversation: Conversation,
}

impl Template {
    /// Reads the files.
    ///
    /// # Errors
    /// [`WrongUse`], which names the file.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>, WrongUse> {
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Result<Self, WrongUse> {
        let wrong = |reason: &dyn std::fmt::Display| {
            WrongUse(format!("the template {}: {reason}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let conversation = if path.extension().is_some_and(|e| e == "json") {
            let request = ChatRequest::parse(text.as_bytes());
            let request = request.map_err(|error| wrong(&error.message()))?;
            request.ask.conversation()
        } else {
            vec![Message::new("system", text)].into()
        };
        Ok(Self {
            path: path.to_owned(),
            conversation,
        })
    }
}

/// Stores the template of a request, and returns when it is on the disk.
pub async fn store(
    engine: &Arc<Engine>,
    conversation: Conversation,
    asker: &Asker,
) -> Result<(), ApiError> {
    let (client, priority) = (asker.client.clone(), asker.priority);
    match begin(engine.clone(), conversation, client, priority).await? {
        None => Ok(()),
        Some(generation) => Ok(stored(generation).await.map(|_| ())?),
    }
}

/// Has `engine` store the templates, one after the other, while it answers others. Does not keep it loaded.
pub fn store_all(engine: &Arc<Engine>, templates: Vec<Template>) {
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        for template in templates {
            let Some(engine) = engine.upgrade() else {
                return;
            };
            let (client, priority) = (owner(), Priority::Automation);
            let begun = begin(engine, template.conversation, client, priority).await;
            let error = match begun {
                Ok(None) => continue,
                Ok(Some(generation)) => match stored(generation).await {
                    Ok(_) => continue,
                    Err(error) => error.to_string(),
                },
                Err(error) => error.message().to_owned(),
            };
            tracing::warn!("the template {}: {error}", template.path.display());
        }
    });
}

/// Has each of the models store the templates; says what has come of it.
pub async fn warm(models: &Models, templates: &[Template]) -> anyhow::Result<()> {
    models
        .with_each(|engine| async move {
            for Template { path, conversation } in templates {
                let at = || format!("{}: the template {}", engine.info().id, path.display());
                let (client, priority) = (owner(), Priority::Interactive);
                let begun = begin(engine.clone(), conversation.clone(), client, priority).await;
                let begun = begun.map_err(|error| anyhow::anyhow!("{}", error.message()));
                match begun.with_context(at)? {
                    None => output::print(format_args!("{} is stored already", at()))?,
                    Some(generation) => {
                        let tokens = stored(generation).await.with_context(at)?;
                        output::print(format_args!("{} is stored: {tokens} tokens", at()))?;
                    }
                }
            }
            Ok(())
        })
        .await
}

/// The owner's files are nobody else's prompts.
fn owner() -> Client {
    Client("the owner's templates".to_owned())
}

async fn begin(
    engine: Arc<Engine>,
    conversation: Conversation,
    client: Client,
    priority: Priority,
) -> Result<Option<Generation>, ApiError> {
    let begun = tokio::task::spawn_blocking(move || {
        let template = engine.template(&conversation)?;
        Ok(engine.store(template, client, priority)?)
    });
    let failed = |_| ApiError::invalid("this template cannot be turned into a prompt");
    begun.await.map_err(failed)?
}

/// Waits until a template is on the disk; gives its tokens.
async fn stored(mut generation: Generation) -> Result<usize, GenerateError> {
    while let Some(event) = generation.next().await {
        match event {
            Event::Done(completion) => return Ok(completion.usage.prompt),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    Err(GenerateError::Stopped)
}
