//! The model's own chat template: a conversation in, prompt text out, as `transformers` would render it.
//!
//! A template comes with a model file, and may be anybody's: what it may use is bounded (`limits.rs`), and where there
//! is another process to render it in, it is rendered there.

use serde_json::{Map, Value, json};

use super::jinja::{Jinja, TemplateTask};
use super::{Conversation, Message, limits};
use crate::reasoning::{CLOSE, begin};
use crate::tools::{self, ToolCall};

/// Has another process do something with the source of a template, one that bounds its memory and can be lost; an
/// error is a line for the user.
pub type RunTemplate = fn(source: &str, task: TemplateTask<'_>) -> Result<String, String>;

/// A template with the special tokens that it may name.
pub struct ChatTemplate {
    place: Place,
    bos: String,
    eos: String,
    /// Whether it knows thoughts, so that the model was made to think.
    pub thinks: bool,
    /// Whether it describes tools to the model, in the form that calls are read in here.
    tools: bool,
}

/// Where it is rendered.
enum Place {
    Here(Box<Jinja>),
    Elsewhere { source: String, run: RunTemplate },
}

impl Place {
    fn run(&self, task: TemplateTask<'_>) -> Result<String, String> {
        match self {
            Self::Here(jinja) => limits::on_a_deep_stack(|| jinja.run(task))?,
            Self::Elsewhere { source, run } => run(source, task),
        }
    }
}

impl ChatTemplate {
    /// Parses `source`; `bos` and `eos` are the texts of the vocabulary's special tokens. It is rendered by `elsewhere`,
    /// or in this process, whose memory it can then use up.
    ///
    /// # Errors
    /// It is no template, or longer than one is.
    pub fn new(
        source: String,
        bos: String,
        eos: String,
        elsewhere: Option<RunTemplate>,
    ) -> Result<Self, String> {
        let thinks = source.contains(CLOSE);
        let speaks = source.contains(tools::OPEN);
        let place = match elsewhere {
            Some(run) => Place::Elsewhere { source, run },
            None => {
                let jinja = limits::on_a_deep_stack(|| Jinja::parse(&source))??;
                Place::Here(Box::new(jinja))
            }
        };
        let variables = place.run(TemplateTask::Variables)?;
        Ok(Self {
            tools: speaks && variables.lines().any(|name| name == "tools"),
            thinks,
            place,
            bos,
            eos,
        })
    }

    /// Renders `conversation`, ending where the assistant is to speak: in a thought, or after one.
    pub fn render(&self, conversation: &Conversation) -> Result<String, String> {
        let variables = self.variables(conversation).to_string();
        let mut prompt = self.place.run(TemplateTask::Render(&variables))?;
        if let Some(think) = conversation.think
            && self.thinks
        {
            begin(&mut prompt, think);
        }
        Ok(prompt)
    }

    /// What templates know, by the names that transformers gives it. What there is none of is left out.
    fn variables(&self, conversation: &Conversation) -> Value {
        let given = &conversation.messages;
        let told = (!self.tools).then(|| tools::told(given, &conversation.tools));
        let messages = told.as_ref().unwrap_or(given).iter().map(value);
        let mut variables = json!({
            "messages": messages.collect::<Value>(),
            "bos_token": self.bos,
            "eos_token": self.eos,
            "add_generation_prompt": true,
        });
        if !conversation.tools.is_empty() {
            let tools = conversation.tools.iter().map(|tool| tool.json.clone());
            variables["tools"] = tools.collect();
        }
        if let Some(think) = conversation.think {
            // Qwen3's name for it, and DeepSeek's.
            for name in ["enable_thinking", "thinking"] {
                variables[name] = think.into();
            }
        }
        variables
    }

    /// Whether a rendered prompt begins with the begin-of-sequence token already.
    pub fn wrote_bos(&self, prompt: &str) -> bool {
        !self.bos.is_empty() && prompt.starts_with(&self.bos)
    }
}

/// A message as templates read it.
fn value(message: &Message) -> Value {
    let mut value = Map::new();
    value.insert("role".to_owned(), message.role.as_str().into());
    value.insert("content".to_owned(), message.content.as_str().into());
    if let Some(reasoning) = &message.reasoning {
        value.insert("reasoning_content".to_owned(), reasoning.as_str().into());
    }
    if !message.calls.is_empty() {
        let call = |call: &ToolCall| json!({"type": "function", "function": {"name": call.name, "arguments": call.arguments}});
        let calls = message.calls.iter().map(call);
        value.insert("tool_calls".to_owned(), calls.collect());
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> ChatTemplate {
        let (bos, eos) = ("<s>".to_owned(), "</s>".to_owned());
        ChatTemplate::new(source.to_owned(), bos, eos, None).expect("parses")
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
