//! A chat template as Jinja: parsed and rendered as `transformers` does it.
//!
//! In: the template's source, and its variables as JSON. Out: text. A template comes with a model file and may be
//! anybody's: `limits.rs` bounds its time, but neither all of its memory nor, without a deep stack, its depth. Both are
//! for the process to bound that this runs in.

use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::{json_dumps, limits};

/// A parsed template.
pub struct Jinja {
    environment: Environment<'static>,
}

/// What is to be done with the source of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateTask<'a> {
    /// Tell the names of its variables, one on a line, in order.
    Variables,
    /// Render it with the variables of this JSON object.
    Render(&'a str),
}

const NAME: &str = "chat";

impl Jinja {
    /// Parses `source`.
    ///
    /// # Errors
    /// It is no template, or longer than one is.
    pub fn parse(source: &str) -> Result<Self, String> {
        if source.len() > limits::MOST_SOURCE {
            return Err(format!(
                "it has {} bytes; no chat template needs more than {}",
                source.len(),
                limits::MOST_SOURCE
            ));
        }
        let environment = environment(source).map_err(|error| error.to_string())?;
        Ok(Self { environment })
    }

    /// Does what is asked with it.
    ///
    /// # Errors
    /// The template's own complaint about what it is rendered with, or the limit that it exceeds.
    pub fn run(&self, task: TemplateTask<'_>) -> Result<String, String> {
        let template = self.environment.get_template(NAME);
        let done = template.and_then(|template| match task {
            TemplateTask::Variables => {
                // A set: without an order, each call would give another.
                let names = BTreeSet::from_iter(template.undeclared_variables(false));
                Ok(Vec::from_iter(names).join("\n"))
            }
            TemplateTask::Render(variables) => {
                let mut environment = self.environment.clone();
                environment.set_fuel(Some(limits::fuel(variables.len())));
                let variables: Value = serde_json::from_str(variables)
                    .map_err(|error| Error::new(ErrorKind::CannotDeserialize, error.to_string()))?;
                environment.get_template(NAME)?.render(variables)
            }
        });
        // The detail is the template's own complaint; the rest names lines of the template.
        done.map_err(|error| {
            error
                .detail()
                .map_or_else(|| error.to_string(), str::to_owned)
        })
    }
}

/// As transformers sets up Jinja for chat templates.
fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.set_unknown_method_callback(limits::method);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_filter("tojson", json_dumps::filter);
    environment.add_filter("join", limits::join);
    environment.add_template_owned(NAME, source.to_owned())?;
    Ok(environment)
}
