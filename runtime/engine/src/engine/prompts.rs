//! From a conversation to the tokens that a model reads.

use std::sync::PoisonError;

use super::{Engine, Prompt};
use crate::chat::{Conversation, Message, control};
use crate::error::PromptError;
use crate::llama::Token;
use crate::reasoning::Stage;

impl Engine {
    /// Renders and tokenizes a conversation with the model's own template.
    ///
    /// # Errors
    /// When the model has no template, its template refuses the messages or knows no thoughts where one is
    /// asked for, or there are more bytes than the context can hold whatever they say.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt, PromptError> {
        let template = self.template.as_ref().ok_or(PromptError::NoTemplate)?;
        if conversation.think == Some(true) && !template.thinks {
            return Err(PromptError::NoThought);
        }
        // The cores belong to the slots: however many ask, one core at most turns text into tokens.
        let _turn = self
            .tokenizing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let render = |conversation: &Conversation| {
            let text = template.render(&self.control.cut(conversation));
            text.map_err(PromptError::Template)
        };
        let text = render(conversation)?;
        let add_special = self.model.adds_bos() && !template.wrote_bos(&text);
        let mut prompt = self.tokenize(&text, add_special)?;
        if self.prefixes.is_some()
            && let Some(said) = said_by_others(conversation)
        {
            let same = |other: &String| {
                let pairs = text.bytes().zip(other.bytes());
                pairs.take_while(|(a, b)| a == b).count()
            };
            let [one, other] = said;
            let bytes = same(&render(&one)?).min(same(&render(&other)?));
            let before = &text[..text.floor_char_boundary(bytes)];
            let before = self.tokens(before, add_special);
            prompt.template = shared(&before, &prompt.tokens);
        }
        Ok(prompt)
    }

    /// The beginning that all prompts have whose conversation begins with the system messages of this one and
    /// has its tools, whatever a user says after them. Its other messages are not looked at.
    ///
    /// # Errors
    /// As [`Engine::prompt`], and when there is nothing that could be stored, or nowhere to store it.
    pub fn template(&self, conversation: &Conversation) -> Result<Prompt, PromptError> {
        if self.prefixes.is_none() {
            return Err(PromptError::NoStore);
        }
        let [one, other] = said_by_others(conversation).ok_or(PromptError::EmptyTemplate)?;
        let (mut prompt, other) = (self.prompt(&one)?, self.prompt(&other)?);
        let same = shared(&prompt.tokens, &other.tokens);
        prompt.tokens.truncate(same);
        if prompt.tokens.is_empty() {
            return Err(PromptError::EmptyTemplate);
        }
        Ok(prompt)
    }

    fn tokenize(&self, text: &str, add_special: bool) -> Result<Prompt, PromptError> {
        let (bytes, n_ctx) = (text.len(), self.info.n_ctx as usize);
        let least = bytes.div_ceil(self.longest_token);
        if least > n_ctx {
            return Err(PromptError::TooManyBytes {
                bytes,
                least,
                n_ctx,
            });
        }
        let tokens = self.tokens(text, add_special);
        if tokens.is_empty() {
            let nothing = "it makes nothing of them, and a prompt needs a token";
            return Err(PromptError::Template(nothing.to_owned()));
        }
        Ok(Prompt {
            tokens,
            stage: Stage::after(text),
            template: 0,
        })
    }

    /// The tokens of a text that may have seams.
    fn tokens(&self, text: &str, add_special: bool) -> Vec<Token> {
        let mut tokens = Vec::new();
        for (i, piece) in control::pieces(text).enumerate() {
            tokens.extend(self.model.tokenize(piece, add_special && i == 0));
        }
        tokens
    }

    /// Tokenizes a prompt that has its template's text already, special tokens written out.
    ///
    /// # Errors
    /// When there are more bytes than the context can hold, or no token.
    pub fn raw_prompt(&self, text: &str) -> Result<Prompt, PromptError> {
        let _turn = self
            .tokenizing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let add_special = self.model.adds_bos();
        self.tokenize(text, add_special)
    }
}

/// The conversation with two other users, who say different things after its system messages. None without any
/// of these, and without tools.
fn said_by_others(conversation: &Conversation) -> Option<[Conversation; 2]> {
    let messages = conversation.messages.iter();
    let system = messages.take_while(|message| message.role == "system");
    let system: Vec<Message> = system.cloned().collect();
    if system.is_empty() && conversation.tools.is_empty() {
        return None;
    }
    Some(["a", "0"].map(|said| Conversation {
        messages: [&system[..], &[Message::new("user", said)]].concat(),
        think: conversation.think,
        tools: conversation.tools.clone(),
    }))
}

/// How many tokens two prompts begin with together.
fn shared(one: &[Token], other: &[Token]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(a, b)| a == b).count()
}
