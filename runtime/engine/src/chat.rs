//! A conversation: messages, tools, and whether to think. [`ChatTemplate`] turns it into a prompt.

pub(crate) mod control;
mod jinja;
mod json_dumps;
mod limits;
mod template;

use crate::reasoning::part;
use crate::tools::{Tool, ToolCall};
pub use jinja::{Jinja, TemplateTask};
pub use template::{ChatTemplate, RunTemplate};

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text; of a tool, the result.
    pub content: String,
    /// What an assistant thought before it, for templates that have a place for that.
    pub reasoning: Option<String>,
    /// What an assistant called.
    pub calls: Vec<ToolCall>,
}

impl Message {
    /// A message as a client sends it. A thought that an assistant's text begins with is taken out of it.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let (role, content) = (role.into(), content.into());
        let (reasoning, content) = match part(&content) {
            Some((thought, answer)) if role == "assistant" => {
                (Some(thought.to_owned()), answer.to_owned())
            }
            _ => (None, content),
        };
        Self {
            role,
            content,
            reasoning,
            calls: Vec::new(),
        }
    }
}

/// What is to be answered.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// The messages so far.
    pub messages: Vec<Message>,
    /// Whether the model is to think first; `None` leaves it to its template.
    pub think: Option<bool>,
    /// What the model may call.
    pub tools: Vec<Tool>,
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_assistant_thought_stands_beside_what_it_said() {
        let message = Message::new("assistant", "\n<think>\nHm.\n</think>\n\nYes.");
        assert_eq!(message.reasoning.as_deref(), Some("Hm."));
        assert_eq!(message.content, "Yes.");
        let user = "<think>x</think>y";
        assert_eq!(Message::new("user", user).content, user);
    }
}
