//! Who may say and hear what on the broker that `up` starts: Mosquitto's list of rights.
//!
//! In: the box's name, and what `cloister.toml` and the environment say of topics. Out: the text of an `acl_file`.
//! Must never let anybody but the bridge speak in the box's name, or hear what others ask; nor the bridge speak elsewhere
//! than in the box's name and on topics for answers, but for what the owner wrote down.

use std::path::Path;

use anyhow::Result;
use cloister_program::node::Node;
use cloister_program::{config_file, topics};

use crate::settings::{self, WrongUse};

/// Who the bridge is to the broker.
pub const BRIDGE: &str = "bridge";

/// Who the house is to the broker.
pub const HOUSE: &str = "house";

/// What others may publish, below the box's own topics.
const ASKED: [&str; 6] = [
    "ask",
    "cancel",
    "stop",
    "warm-up",
    "default/model/set",
    "default/think/set",
];

/// What they may hear there.
const TOLD: [&str; 6] = [
    "answer/#",
    "stream/#",
    "status",
    "state",
    "default/model",
    "default/think",
];

/// What others may announce to Home Assistant, and say below that: all of its kinds that MQTT knows. As `device` the box
/// announces itself.
const ANNOUNCED: [&str; 28] = [
    "alarm_control_panel",
    "binary_sensor",
    "button",
    "camera",
    "climate",
    "cover",
    "device_automation",
    "device_tracker",
    "event",
    "fan",
    "humidifier",
    "image",
    "lawn_mower",
    "light",
    "lock",
    "notify",
    "number",
    "scene",
    "select",
    "sensor",
    "siren",
    "switch",
    "tag",
    "text",
    "update",
    "vacuum",
    "valve",
    "water_heater",
];

/// What of a recipe the broker must let through.
#[derive(serde::Deserialize)]
pub struct Recipe {
    topic: String,
    result: String,
}

/// Of the table `[bridge]`. The bridge looks at the whole of it.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    reply_prefixes: Option<Vec<String>>,
    discovery_prefix: Option<String>,
}

/// What decides on the rights.
pub struct Rights<'a> {
    /// The name of this box in topics.
    node: &'a Node,
    /// Where Home Assistant looks for devices.
    discovery: String,
    /// The levels below which askers may want their answers.
    replies: Vec<String>,
    /// What is asked by itself.
    recipes: Vec<Recipe>,
}

impl<'a> Rights<'a> {
    /// For the box of this name, as its bridge is told: by the environment, then by this file.
    ///
    /// # Errors
    /// The file cannot be read; it names levels of topics that cannot be.
    pub fn gather(node: &'a Node, config: Option<&Path>) -> Result<Self> {
        let table: Table = settings::table(config, "bridge")?;
        let replies = match std::env::var("CLOISTER_REPLY_PREFIXES") {
            Ok(given) => Some(given.split(',').map(str::to_owned).collect()),
            Err(_) => table.reply_prefixes,
        };
        let replies = replies.unwrap_or_else(|| vec![topics::REPLIES.to_owned()]);
        let replies = replies
            .iter()
            .map(|levels| topics::beginning(levels).map(str::to_owned))
            .collect::<Result<_, _>>()
            .map_err(|why| WrongUse(format!("reply-prefixes: {why}")))?;
        let discovery = std::env::var("CLOISTER_DISCOVERY_PREFIX").ok();
        let discovery = discovery.or(table.discovery_prefix);
        Ok(Self {
            node,
            discovery: discovery.unwrap_or_else(|| "homeassistant".into()),
            replies,
            recipes: config_file::tables(config, "recipe")
                .map_err(|error| WrongUse(error.to_string()))?,
        })
    }

    /// As Mosquitto reads it: what stands before the first user holds for who has no login.
    pub fn text(&self) -> String {
        let others = self.of_others();
        let bridge = self.of_the_bridge();
        format!("{others}user {HOUSE}\n{others}user {BRIDGE}\n{bridge}")
    }

    /// They ask, hear answers, and have topics of their own.
    fn of_others(&self) -> String {
        let (node, discovery) = (self.node, &self.discovery);
        let mut lines = String::new();
        let mut may = |what: &str, topic: &str| lines += &format!("topic {what} {topic}\n");
        for leaf in ASKED {
            may("write", &format!("cloister/{node}/{leaf}"));
        }
        for leaf in TOLD {
            may("read", &format!("cloister/{node}/{leaf}"));
        }
        for (what, leaf) in [
            ("write", "ask"),
            ("write", "cancel"),
            ("read", "answer/#"),
            ("read", "stream/#"),
        ] {
            may(what, &format!("cloister/pool/+/{leaf}"));
        }
        may("readwrite", "house/#");
        may("read", &format!("{discovery}/#"));
        may("write", &format!("{discovery}/status"));
        for kind in ANNOUNCED {
            may("write", &format!("{discovery}/{kind}/#"));
        }
        // The bridge refuses recipes on the boxes' own topics; one that slipped through would open them here.
        let own = |topic: &str| topic.starts_with(['#', '+', '$']) || topic.starts_with("cloister");
        for levels in self.replies.iter().filter(|levels| !own(levels)) {
            may("read", &format!("{levels}/#"));
        }
        for recipe in &self.recipes {
            for (what, topic) in [("readwrite", &recipe.topic), ("read", &recipe.result)] {
                if !own(topic) {
                    may(what, topic);
                }
            }
        }
        lines
    }

    fn of_the_bridge(&self) -> String {
        let (node, discovery) = (self.node, &self.discovery);
        // Home Assistant takes no dots there.
        let device = node.to_string().replace('.', "_");
        let mut lines = format!(
            "topic readwrite cloister/{node}/#\ntopic readwrite cloister/pool/#\ntopic read {discovery}/status\ntopic write {discovery}/device/{device}/config\n"
        );
        for levels in &self.replies {
            lines += &format!("topic write {levels}/#\n");
        }
        for Recipe { topic, result } in &self.recipes {
            lines += &format!("topic read {topic}\ntopic write {result}\n");
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The topics that one user may publish on, with their answers wanted below `answers` and `tasks`.
    fn may_write(user: &str) -> Vec<String> {
        let recipe = |topic: &str, result: &str| Recipe {
            topic: topic.into(),
            result: result.into(),
        };
        let rights = Rights {
            node: &Node::parse("attic.lan").unwrap(),
            discovery: "homeassistant".into(),
            replies: vec!["answers".into(), "cloister/other".into()],
            recipes: vec![
                recipe("home/+/text", "home/+/summary"),
                recipe("#", "x"),
                recipe("cloister/attic.lan/state", "y"),
            ],
        };
        let text = rights.text();
        let parts = text.split("user ");
        let part = match user {
            "" => parts.into_iter().next(),
            user => parts.into_iter().find(|part| part.starts_with(user)),
        };
        let lines = part.unwrap().lines();
        let writes = lines.filter(|line| line.contains("write "));
        writes
            .filter_map(|line| line.rsplit(' ').next())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn others_ask_and_never_answer() {
        let anybody = may_write("");
        assert_eq!(may_write(HOUSE), anybody);
        for topic in ["cloister/attic.lan/ask", "home/+/text"] {
            assert!(anybody.iter().any(|known| known == topic), "{topic}");
        }
        for topic in anybody {
            assert!(!topic.starts_with(['#', '+']), "{topic}");
            for never in ["answer", "stream", "state", "summary", "/device/", "other"] {
                assert!(!topic.contains(never), "{topic}");
            }
            assert_ne!(topic, "cloister/attic.lan/status");
        }
    }

    #[test]
    fn the_bridge_speaks_in_the_boxs_name_and_where_the_owner_says() {
        assert_eq!(
            may_write(BRIDGE),
            [
                "cloister/attic.lan/#",
                "cloister/pool/#",
                "homeassistant/device/attic_lan/config",
                "answers/#",
                "cloister/other/#",
                "home/+/summary",
                "x",
                "y"
            ]
        );
    }
}
