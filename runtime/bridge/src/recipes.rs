//! Recipes: what is asked by itself when something is said on a topic, and where its answer goes.
//!
//! In: the `[[recipe]]` tables of `cloister.toml`, messages. Out: asks, as if somebody had asked them.
//! Must never let an answer set off a recipe, take old news for new, or log what was said.

mod pattern;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cloister_program::config_file;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ask::{self, Ask, Form};
use crate::broker::Message;
use crate::topics::Topics;

use pattern::Pattern;

/// How many steps a template may take: a few thousand lines of output.
const FUEL: u64 = 100_000;

/// How often in a minute a recipe asks, unless it says.
const PER_MINUTE: usize = 10;

const A_MINUTE: Duration = Duration::from_secs(60);

/// What stands in a table. What is not named here is a field of the ask.
#[derive(Deserialize)]
struct Table {
    name: String,
    topic: String,
    prompt: String,
    result: String,
    per_minute: Option<usize>,
    #[serde(flatten)]
    ask: Map<String, Value>,
}

/// One recipe.
#[derive(Debug)]
pub struct Recipe {
    /// Its name, for logs and figures.
    pub name: String,
    topic: Pattern,
    result: Pattern,
    /// The fields of its asks but for the prompt.
    ask: Map<String, Value>,
    per_minute: usize,
    asked_at: Mutex<VecDeque<Instant>>,
    asked: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

/// All of them.
#[derive(Debug)]
pub struct Recipes {
    recipes: Vec<Recipe>,
    templates: Environment<'static>,
}

impl Recipes {
    /// The recipes of this file.
    ///
    /// # Errors
    /// One that cannot be meant so, by its name: a template or a field that is wrong; a result that
    /// would set off a recipe, or that would be an ask to this box.
    pub fn read(file: Option<&Path>, topics: &Topics) -> Result<Self> {
        let mut recipes = Self {
            recipes: Vec::new(),
            templates: Environment::new(),
        };
        recipes
            .templates
            .set_undefined_behavior(UndefinedBehavior::Strict);
        recipes.templates.set_fuel(Some(FUEL));
        // A prompt is no HTML, whatever a recipe is named.
        recipes
            .templates
            .set_auto_escape_callback(|_| AutoEscape::None);
        for table in config_file::tables::<Table>(file, "recipe")? {
            let name = table.name.clone();
            recipes
                .add(table, topics)
                .with_context(|| format!("the recipe {name:?}"))?;
        }
        recipes.check_loops()?;
        Ok(recipes)
    }

    fn add(&mut self, table: Table, topics: &Topics) -> Result<()> {
        if table.name.is_empty() || self.recipes.iter().any(|known| known.name == table.name) {
            bail!("each recipe needs a name of its own");
        }
        let recipe = Recipe {
            topic: Pattern::parse(&table.topic).context("\"topic\"")?,
            result: Pattern::parse(&table.result).context("\"result\"")?,
            ask: table.ask,
            per_minute: table.per_minute.unwrap_or(PER_MINUTE),
            asked_at: Mutex::default(),
            asked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            name: table.name,
        };
        if recipe.per_minute == 0 {
            bail!("\"per_minute\" is 0, and it would never ask; leave the recipe out");
        }
        if !recipe.result.can_be_filled_from(&recipe.topic) {
            bail!(
                "each + or # in \"result\" stands for that of \"topic\", which has fewer of them"
            );
        }
        for ours in topics.own_patterns() {
            let ours = Pattern::parse(&ours).expect("our own patterns are right");
            if recipe.topic.meets(&ours) {
                bail!("\"topic\" would listen to the boxes' own topics ({ours})");
            }
            if recipe.result.meets(&ours) {
                bail!("\"result\" would speak on the boxes' own topics ({ours})");
            }
        }
        self.templates
            .add_template_owned(recipe.name.clone(), table.prompt)
            .map_err(|error| {
                anyhow::anyhow!(
                    "\"prompt\" is no template: {}, in line {}",
                    error.detail().unwrap_or("it cannot be read"),
                    error.line().unwrap_or(1)
                )
            })?;
        let tried = recipe.ask_for("?", topics).map_err(anyhow::Error::msg)?;
        if let Some(unknown) = tried.ignored.first() {
            bail!("the key \"{unknown}\" is unknown");
        }
        if recipe.ask.contains_key("id") || recipe.ask.contains_key("reply_to") || tried.stream {
            bail!("an ask by a recipe has no \"id\", \"reply_to\" or \"stream\"");
        }
        self.recipes.push(recipe);
        Ok(())
    }

    fn check_loops(&self) -> Result<()> {
        for (n, recipe) in self.recipes.iter().enumerate() {
            for other in &self.recipes {
                if recipe.result.meets(&other.topic) {
                    bail!(
                        "the result of the recipe {:?} ({}) would set off the recipe {:?} ({}), which could go on for ever; take another topic",
                        recipe.name,
                        recipe.result,
                        other.name,
                        other.topic
                    );
                }
            }
            // The broker may send what two patterns match once or twice.
            for other in &self.recipes[..n] {
                if recipe.topic != other.topic && recipe.topic.meets(&other.topic) {
                    bail!(
                        "the recipes {:?} ({}) and {:?} ({}) listen to the same messages by different patterns; give both the same",
                        other.name,
                        other.topic,
                        recipe.name,
                        recipe.topic
                    );
                }
            }
        }
        Ok(())
    }

    /// What is to be listened to.
    pub fn filters(&self) -> Vec<String> {
        let mut filters: Vec<_> = self.recipes.iter().map(|r| r.topic.to_string()).collect();
        filters.sort();
        filters.dedup();
        filters
    }

    /// The recipes that a message on this topic sets off.
    pub fn on<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Recipe> {
        self.recipes
            .iter()
            .filter(move |recipe| recipe.topic.matches(topic))
    }

    /// What a recipe asks of a message, and where the answer's text goes; `None` where it asks nothing,
    /// and that is counted. The error is a sentence that quotes nothing of what was said.
    pub fn ask(
        &self,
        recipe: &Recipe,
        message: &Message,
        topics: &Topics,
    ) -> Result<Option<(Ask, String)>, String> {
        if message.retained || !recipe.may_ask(Instant::now()) {
            recipe.skipped.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        let asked = self.render(recipe, message).and_then(|prompt| {
            let ask = recipe.ask_for(&prompt, topics)?;
            let result = recipe.result.filled_from(&recipe.topic, &message.topic);
            // Its own words name the topic, which is partly the message's.
            topics
                .check_answer_topic(&result)
                .map_err(|_| "the result would go where no answer may go".to_owned())?;
            Ok((ask, result))
        });
        let counter = match asked {
            Ok(_) => &recipe.asked,
            Err(_) => &recipe.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        asked.map(Some)
    }

    fn render(&self, recipe: &Recipe, message: &Message) -> Result<String, String> {
        let text = std::str::from_utf8(&message.payload)
            .map_err(|_| "the message is not valid UTF-8".to_owned())?;
        let levels: Vec<_> = message.topic.split('/').collect();
        let mut said = json!({"text": text, "topic": message.topic, "levels": levels});
        if let Ok(json) = serde_json::from_str(text) {
            said["json"] = json;
        }
        let template = self.templates.get_template(&recipe.name);
        template
            .and_then(|template| template.render(Serde(said)))
            // Its own words may quote the message.
            .map_err(|error| {
                format!(
                    "the template fails: {}, in line {}",
                    error.kind(),
                    error.line().unwrap_or(1)
                )
            })
    }

    /// Counts that what a recipe asked has no answer.
    pub fn failed(&self, name: &str) {
        let named = self.recipes.iter().filter(|recipe| recipe.name == name);
        named.for_each(|recipe| {
            recipe.failed.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// What they did since the start, by name.
    pub fn figures(&self) -> Value {
        let figures = self.recipes.iter().map(|recipe| {
            let so_far = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let figures = json!({
                "asked": so_far(&recipe.asked),
                "failed": so_far(&recipe.failed),
                "skipped": so_far(&recipe.skipped),
            });
            (recipe.name.clone(), figures)
        });
        Value::Object(figures.collect())
    }
}

impl Recipe {
    /// An ask in the words of its table, read as one that came over MQTT.
    fn ask_for(&self, prompt: &str, topics: &Topics) -> Result<Ask, String> {
        let mut fields = self.ask.clone();
        fields.insert("prompt".into(), prompt.into());
        let fields = Value::Object(fields).to_string();
        ask::parse(fields.as_bytes(), Form::Json, topics).map_err(|refused| refused.error.message)
    }

    /// Whether it has asked less than its share in the last minute; then this counts.
    fn may_ask(&self, now: Instant) -> bool {
        let mut asked_at = self
            .asked_at
            .lock()
            .expect("no code panics while it counts");
        while asked_at
            .front()
            .is_some_and(|first| now.duration_since(*first) >= A_MINUTE)
        {
            asked_at.pop_front();
        }
        let may = asked_at.len() < self.per_minute;
        if may {
            asked_at.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests;
