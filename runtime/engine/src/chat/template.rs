//! The model's own chat template: a conversation in, prompt text out, as `transformers` would render it.
//!
//! A template comes with a model file, and may be anybody's: what it may use is bounded (`limits.rs`).

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::{Conversation, Message, json_dumps, limits};
use crate::reasoning::{CLOSE, begin};
use crate::tools::{self, ToolCall};

/// A parsed template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// Whether it knows thoughts, so that the model was made to think.
    pub thinks: bool,
    /// Whether it describes tools to the model, in the form that calls are read in here.
    tools: bool,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Parses `source`; `bos` and `eos` are the texts of the vocabulary's special tokens.
    ///
    /// # Errors
    /// It is no template, or longer than one is.
    pub fn new(source: String, bos: String, eos: String) -> Result<Self, String> {
        if source.len() > limits::MOST_SOURCE {
            return Err(format!(
                "it has {} bytes; no chat template needs more than {}",
                source.len(),
                limits::MOST_SOURCE
            ));
        }
        limits::on_a_deep_stack(|| Self::parse(source, bos, eos))?.map_err(|e| e.to_string())
    }

    fn parse(source: String, bos: String, eos: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // As transformers sets up Jinja for chat templates.
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
        let thinks = source.contains(CLOSE);
        let speaks = source.contains(tools::OPEN);
        environment.add_filter("tojson", json_dumps::filter);
        environment.add_filter("join", limits::join);
        environment.add_template_owned(NAME, source)?;
        let names = environment.get_template(NAME)?.undeclared_variables(false);
        Ok(Self {
            tools: speaks && names.contains("tools"),
            thinks,
            environment,
            bos,
            eos,
        })
    }

    /// Renders `conversation`, ending where the assistant is to speak: in a thought, or after one.
    pub fn render(&self, conversation: &Conversation) -> Result<String, String> {
        limits::on_a_deep_stack(|| self.render_here(conversation))?
    }

    fn render_here(&self, conversation: &Conversation) -> Result<String, String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(limits::fuel(conversation)));
        let template = environment.get_template(NAME).map_err(|e| e.to_string())?;
        let given = &conversation.messages;
        let told = (!self.tools).then(|| tools::told(given, &conversation.tools));
        let messages = told.as_ref().unwrap_or(given).iter().map(value);
        let messages: Vec<Value> = messages.collect();
        let tools = match &conversation.tools[..] {
            [] => Value::UNDEFINED,
            tools => tools
                .iter()
                .map(|tool| Value::from(Serde(&tool.json)))
                .collect(),
        };
        let think = match conversation.think {
            None => Value::UNDEFINED,
            Some(think) => think.into(),
        };
        let mut prompt = template
            .render(context! {
                messages => messages,
                tools => tools,
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
    let call = |call: &ToolCall| {
        let arguments = Value::from(Serde(&call.arguments));
        context! { type => "function", function => context! { name => &call.name, arguments => arguments } }
    };
    let calls = match &message.calls[..] {
        [] => Value::UNDEFINED,
        calls => calls.iter().map(call).collect(),
    };
    context! {
        role => &message.role,
        content => &message.content,
        reasoning_content => reasoning,
        tool_calls => calls,
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
}
