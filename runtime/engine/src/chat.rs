//! The model's own chat template: messages in, prompt text out, as `transformers` would render it.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use crate::reasoning::{CLOSE, begin, part};

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
    /// What an assistant thought before it, for templates that have a place for that.
    pub reasoning: Option<String>,
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
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }
}

/// A parsed template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// Whether it knows thoughts, so that the model was made to think.
    pub thinks: bool,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Parses `source`; `bos` and `eos` are the texts of the vocabulary's special tokens.
    pub fn new(source: String, bos: String, eos: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // As transformers sets up Jinja for chat templates.
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()?,
        );
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        let thinks = source.contains(CLOSE);
        environment.add_template_owned(NAME, source)?;
        Ok(Self {
            thinks,
            environment,
            bos,
            eos,
        })
    }

    /// Renders `conversation`, ending where the assistant is to speak: in a thought, or after one.
    pub fn render(&self, conversation: &Conversation) -> Result<String, String> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|e| e.to_string())?;
        let messages: Vec<Value> = conversation.messages.iter().map(value).collect();
        let think = match conversation.think {
            None => Value::UNDEFINED,
            Some(think) => think.into(),
        };
        let mut prompt = template
            .render(context! {
                messages => messages,
                bos_token => &self.bos,
                eos_token => &self.eos,
                add_generation_prompt => true,
                // Qwen3's name for it, and DeepSeek's.
                enable_thinking => think.clone(),
                thinking => think,
            })
            // The detail is the template's own complaint; the rest names lines of the template.
            .map_err(|e| e.detail().map_or_else(|| e.to_string(), str::to_owned))?;
        if let Some(think) = conversation.think
            && self.thinks
        {
            begin(&mut prompt, think);
        }
        Ok(prompt)
    }

    /// Whether a rendered prompt begins with the begin-of-sequence token already.
    pub fn wrote_bos(&self, prompt: &str) -> bool {
        !self.bos.is_empty() && prompt.starts_with(&self.bos)
    }
}

/// A message as templates read it.
fn value(message: &Message) -> Value {
    let reasoning = match &message.reasoning {
        None => Value::UNDEFINED,
        Some(reasoning) => reasoning.as_str().into(),
    };
    context! {
        role => &message.role,
        content => &message.content,
        reasoning_content => reasoning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned()).expect("parses")
    }

    #[test]
    fn blocks_leave_no_white_space_and_python_methods_work() {
        let template = template(
            "{{ bos_token }}\n  {% for m in messages %}\n[{{ m['content'].split('|')[-1].strip() }}]\n  {% endfor %}\n{% if add_generation_prompt %}A:{% endif %}",
        );
        let prompt = template
            .render(&vec![Message::new("user", "x | hi ")].into())
            .expect("renders");
        assert_eq!(prompt, "<s>\n[hi]\nA:");
        assert!(template.wrote_bos(&prompt));
    }

    #[test]
    fn a_templates_own_complaint_is_the_error() {
        let template = template("{{ raise_exception('roles must alternate') }}");
        assert_eq!(
            template.render(&Conversation::default()),
            Err("roles must alternate".to_owned())
        );
    }

    #[test]
    fn a_thought_is_opened_or_closed_as_asked_whatever_the_template_does() {
        let rendered = |source: &str, think| {
            let conversation = Conversation {
                think,
                ..Conversation::default()
            };
            template(source).render(&conversation).expect("renders")
        };
        let (open, closed) = ("A:<think>\n", "A:<think>\n\n</think>\n\n");
        // One that says nothing, one that always opens, and one that does as it is told, as Qwen3's.
        let silent = "{{ 'A:' }}{# </think> #}";
        let opens = "{{ 'A:<think>\n' }}{# </think> #}";
        let asks = "{{ 'A:' }}{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}";
        assert_eq!(rendered(silent, None), "A:");
        assert_eq!(rendered(opens, None), open);
        assert_eq!(rendered(asks, None), "A:");
        for source in [silent, opens, asks] {
            assert_eq!(rendered(source, Some(true)), open, "{source}");
            assert_eq!(rendered(source, Some(false)), closed, "{source}");
        }
        // A model that knows no thoughts is not taught any.
        assert_eq!(rendered("{{ 'A:' }}", Some(false)), "A:");
    }

    #[test]
    fn what_an_assistant_thought_stands_beside_what_it_said() {
        let message = Message::new("assistant", "\n<think>\nHm.\n</think>\n\nYes.");
        assert_eq!(message.reasoning.as_deref(), Some("Hm."));
        assert_eq!(message.content, "Yes.");
        let user = "<think>x</think>y";
        assert_eq!(Message::new("user", user).content, user);
    }
}
