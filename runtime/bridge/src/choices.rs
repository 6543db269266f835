//! What is asked for where an ask does not say: which model, and how much it may think.
//!
//! In: values that somebody sets over MQTT. Out: the fields that they add to a request; told to whoever watches.
//! Kept in the journal's file, so that a restart changes nothing. Must never override what an ask says.

use rusqlite::{Connection, OptionalExtension, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

/// The value that leaves it to the engine.
pub const DEFAULT: &str = "default";

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The model, by its name in the engine's list.
    Model,
    /// How much to think, by a name of [`thinking`].
    Think,
}

/// How much a model may think, and the most tokens of that; -1 is no limit. As `serve`'s levels, but as
/// budgets: they say nothing to a model that does not think, where a level would be refused. Not `none`, which
/// Home Assistant takes for an unknown state.
const THINKING: [(&str, i64); 5] = [
    ("off", 0),
    ("minimal", 128),
    ("low", 512),
    ("medium", 2048),
    ("high", -1),
];

/// What [`Setting::Think`] may be.
pub fn thinking() -> Vec<&'static str> {
    let levels = THINKING.iter().map(|(name, _)| *name);
    [DEFAULT].into_iter().chain(levels).collect()
}

/// What is set; nothing in place of [`DEFAULT`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    think: Option<String>,
}

impl Defaults {
    /// What this one is set to.
    pub fn value(&self, setting: Setting) -> &str {
        let value = match setting {
            Setting::Model => &self.model,
            Setting::Think => &self.think,
        };
        value.as_deref().unwrap_or(DEFAULT)
    }

    /// Whether the engine decides everything.
    pub fn are_unset(&self) -> bool {
        *self == Self::default()
    }

    /// Adds to a request what it does not say itself.
    pub fn add_to(&self, request: &mut Map<String, Value>) {
        if let Some(model) = &self.model {
            request
                .entry("model")
                .or_insert_with(|| model.as_str().into());
        }
        let level = THINKING
            .iter()
            .find(|(name, _)| self.think.as_deref() == Some(name));
        if let Some((_, tokens)) = level
            && !request.contains_key("think")
        {
            request.insert("thinking_budget_tokens".into(), json!(tokens));
        }
    }
}

/// The settings of this box, and the models that there are to choose from.
#[derive(Default)]
pub struct Choices {
    models: watch::Sender<Vec<String>>,
    defaults: watch::Sender<Defaults>,
    /// Told when all that is announced is to be announced again.
    pub renew: Notify,
}

impl Choices {
    /// Begins with what was kept.
    pub fn kept(defaults: Defaults) -> Self {
        Self {
            defaults: watch::Sender::new(defaults),
            ..Self::default()
        }
    }

    /// What is set, and each change of it.
    pub fn defaults(&self) -> watch::Receiver<Defaults> {
        self.defaults.subscribe()
    }

    /// The models that there are, and each change of them.
    pub fn models(&self) -> watch::Receiver<Vec<String>> {
        self.models.subscribe()
    }

    /// Takes the engine's list.
    pub fn there_are(&self, models: Vec<String>) {
        self.models.send_if_modified(|known| {
            let changed = *known != models;
            *known = models;
            changed
        });
    }

    /// Sets one; it holds for every ask from now on. The error says what the value may be.
    pub fn set(&self, setting: Setting, value: &str) -> std::result::Result<Defaults, String> {
        let known = match setting {
            Setting::Model => {
                let models = self.models.borrow();
                let mut known = vec![DEFAULT.to_owned()];
                known.extend(models.iter().cloned());
                known
            }
            Setting::Think => thinking().into_iter().map(String::from).collect(),
        };
        if !known.iter().any(|known| known == value) {
            // Not the value: this goes to the log.
            return Err(format!("it is none of {}", known.join(", ")));
        }
        let value = Some(value.to_owned()).filter(|value| value != DEFAULT);
        self.defaults.send_modify(|defaults| match setting {
            Setting::Model => defaults.model = value,
            Setting::Think => defaults.think = value,
        });
        Ok(self.defaults.borrow().clone())
    }
}

/// Reads what was kept.
pub fn load(db: &Connection) -> Result<Defaults> {
    let kept: Option<String> = db
        .query_row("SELECT value FROM defaults", [], |row| row.get(0))
        .optional()?;
    let kept = kept.and_then(|kept| serde_json::from_str(&kept).ok());
    Ok(kept.unwrap_or_default())
}

/// Keeps it.
pub fn keep(db: &Connection, defaults: &Defaults) -> Result<()> {
    let value = serde_json::to_string(defaults).expect("strings always serialize");
    db.execute(
        "INSERT OR REPLACE INTO defaults (one, value) VALUES (1, ?)",
        [value],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Choices {
        let choices = Choices::default();
        choices.there_are(vec!["small".into(), "large".into()]);
        choices
    }

    fn added(choices: &Choices, request: Value) -> Value {
        let Value::Object(mut request) = request else {
            panic!("a request is an object");
        };
        choices.defaults().borrow().add_to(&mut request);
        request.into()
    }

    #[test]
    fn what_is_set_is_added_where_the_request_does_not_say() {
        let choices = choices();
        assert_eq!(added(&choices, json!({})), json!({}));
        choices.set(Setting::Model, "large").unwrap();
        choices.set(Setting::Think, "low").unwrap();
        assert_eq!(
            added(&choices, json!({})),
            json!({"model": "large", "thinking_budget_tokens": 512})
        );
        let own = json!({"model": "small", "think": true});
        assert_eq!(added(&choices, own.clone()), own);
        choices.set(Setting::Model, DEFAULT).unwrap();
        choices.set(Setting::Think, "off").unwrap();
        assert_eq!(
            added(&choices, json!({})),
            json!({"thinking_budget_tokens": 0})
        );
    }

    #[test]
    fn what_cannot_be_had_is_not_set() {
        let choices = choices();
        choices.set(Setting::Think, "low").unwrap();
        for (setting, value, known) in [
            (Setting::Model, "huge", "default, small, large"),
            (Setting::Think, "none", "default, off, minimal"),
        ] {
            let error = choices.set(setting, value).unwrap_err();
            assert!(error.contains(known), "{error}");
        }
        let defaults = choices.defaults();
        assert_eq!(defaults.borrow().value(Setting::Model), DEFAULT);
        assert_eq!(defaults.borrow().value(Setting::Think), "low");
    }

    #[test]
    fn it_is_kept_in_the_journals_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.sqlite");
        let db = crate::answers::open(&file).unwrap();
        assert!(load(&db).unwrap().are_unset());
        let choices = choices();
        choices.set(Setting::Model, "large").unwrap();
        keep(&db, &choices.set(Setting::Think, "off").unwrap()).unwrap();
        drop(db);
        let db = crate::answers::open(&file).unwrap();
        assert_eq!(load(&db).unwrap(), *choices.defaults().borrow());
    }
}
