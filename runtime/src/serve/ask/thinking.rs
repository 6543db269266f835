//! How much a request lets the model think.
//!
//! In: `think`, as Ollama's clients say it; `reasoning_effort` and `reasoning.effort`, as OpenAI's do;
//! `thinking_budget_tokens` and `chat_template_kwargs.enable_thinking`, as llama-server's do. Out: whether to
//! think, and for how many tokens. What contradicts itself is refused.

use cloister_engine::ModelInfo;
use serde_json::Value;

use crate::serve::api_error::ApiError;
use crate::serve::fields::Fields;

/// What a request says about the thought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    /// Whether to think; `None` leaves it to the model.
    pub think: Option<bool>,
    budget: Budget,
    /// The field that asks for a thought.
    asked_by: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Budget {
    /// The configuration's.
    #[default]
    Unsaid,
    Unlimited,
    Tokens(usize),
}

/// How much a level lets the model think. R1 knows no levels, so that they are budgets.
const LEVELS: [(&str, Option<Budget>); 7] = [
    ("none", None),
    ("minimal", Some(Budget::Tokens(128))),
    ("low", Some(Budget::Tokens(512))),
    ("medium", Some(Budget::Tokens(2048))),
    ("high", Some(Budget::Unlimited)),
    ("xhigh", Some(Budget::Unlimited)),
    ("max", Some(Budget::Unlimited)),
];

impl Thinking {
    /// Takes the fields that concern the thought.
    ///
    /// # Errors
    /// The field that says what nobody can do, or something else than another one said.
    pub fn parse(fields: &mut Fields) -> Result<Self, ApiError> {
        let mut thinking = Self::default();
        match fields.take("think") {
            None => {}
            Some(Value::Bool(think)) => thinking.say("think", Some(think), Budget::Unsaid)?,
            Some(level) => thinking.level("think", &level)?,
        }
        if let Some(level) = fields.take("reasoning_effort") {
            thinking.level("reasoning_effort", &level)?;
        }
        if let Some(value) = fields.take("reasoning") {
            let mut reasoning = Fields::of(value, "reasoning")?;
            if let Some(level) = reasoning.take("effort") {
                thinking.level("reasoning.effort", &level)?;
            }
            // The thought is never summed up: it comes as it is.
            reasoning.ignore(&["summary", "generate_summary"]);
            reasoning.finish()?;
        }
        if let Some(value) = fields.take("chat_template_kwargs") {
            let mut given = Fields::of(value, "chat_template_kwargs")?;
            if given.has("enable_thinking") {
                let think = given.flag("enable_thinking")?;
                thinking.say(
                    "chat_template_kwargs.enable_thinking",
                    Some(think),
                    Budget::Unsaid,
                )?;
            }
            given.finish()?;
        }
        let name = "thinking_budget_tokens";
        match fields.integer(name, -1, i64::from(i32::MAX))? {
            None => {}
            Some(0) => thinking.say(name, Some(false), Budget::Unsaid)?,
            Some(-1) => thinking.say(name, None, Budget::Unlimited)?,
            Some(tokens) => thinking.say(name, None, Budget::Tokens(tokens as usize))?,
        }
        Ok(thinking)
    }

    fn level(&mut self, field: &'static str, level: &Value) -> Result<(), ApiError> {
        let known = LEVELS.iter().find(|(name, _)| level == name);
        let Some((_, budget)) = known else {
            let names = LEVELS.map(|(name, _)| name).join(", ");
            let message = format!("{field} must be one of {names}, not {level}");
            return Err(ApiError::field(field, message));
        };
        self.say(field, Some(budget.is_some()), budget.unwrap_or_default())
    }

    fn say(
        &mut self,
        field: &'static str,
        think: Option<bool>,
        budget: Budget,
    ) -> Result<(), ApiError> {
        let said = self.think;
        self.think = think.or(said);
        if budget != Budget::Unsaid {
            self.budget = budget;
        }
        let differs = said.is_some() && think.is_some() && said != think;
        if differs || self.think == Some(false) && self.budget != Budget::Unsaid {
            let message = format!("{field} says something else than another field of this request");
            return Err(ApiError::field(field, message));
        }
        if think == Some(true) {
            self.asked_by.get_or_insert(field);
        }
        Ok(())
    }

    /// Refuses a thought that `model` cannot have.
    pub fn check(&self, model: &ModelInfo) -> Result<(), ApiError> {
        match self.asked_by {
            Some(field) if !model.thinks => Err(ApiError::unsupported(
                field,
                format!(
                    "{} does not think before it answers, so that {field} cannot ask it to",
                    model.id
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The most tokens of the thought, where nothing is said those of the `configured` budget.
    pub fn budget(&self, configured: Option<usize>) -> Option<usize> {
        match (self.think, self.budget) {
            // Should it think all the same, that is ended at once.
            (Some(false), _) => Some(0),
            (_, Budget::Unsaid) => configured,
            (_, Budget::Unlimited) => None,
            (_, Budget::Tokens(tokens)) => Some(tokens),
        }
    }
}
