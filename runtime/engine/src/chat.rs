//! The model's own chat template: messages in, prompt text out, as `transformers` would render it.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A parsed template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
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
        environment.add_template_owned(NAME, source)?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// Renders `messages`, ending where the assistant is to speak.
    pub fn render(&self, messages: &[Message]) -> Result<String, String> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|e| e.to_string())?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| context! { role => &m.role, content => &m.content })
            .collect();
        template
            .render(context! {
                messages => messages,
                bos_token => &self.bos,
                eos_token => &self.eos,
                add_generation_prompt => true,
            })
            // The detail is the template's own complaint; the rest names lines of the template.
            .map_err(|e| e.detail().map_or_else(|| e.to_string(), str::to_owned))
    }

    /// Whether a rendered prompt begins with the begin-of-sequence token already.
    pub fn wrote_bos(&self, prompt: &str) -> bool {
        !self.bos.is_empty() && prompt.starts_with(&self.bos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message {
            role: role.to_owned(),
            content: content.to_owned(),
        }
    }

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned()).expect("parses")
    }

    #[test]
    fn blocks_leave_no_white_space_and_python_methods_work() {
        let template = template(
            "{{ bos_token }}\n  {% for m in messages %}\n[{{ m['content'].split('|')[-1].strip() }}]\n  {% endfor %}\n{% if add_generation_prompt %}A:{% endif %}",
        );
        let prompt = template
            .render(&[message("user", "x | hi ")])
            .expect("renders");
        assert_eq!(prompt, "<s>\n[hi]\nA:");
        assert!(template.wrote_bos(&prompt));
    }

    #[test]
    fn a_templates_own_complaint_is_the_error() {
        let template = template("{{ raise_exception('roles must alternate') }}");
        assert_eq!(template.render(&[]), Err("roles must alternate".to_owned()));
    }
}
