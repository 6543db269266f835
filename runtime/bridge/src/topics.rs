//! Topic names: what the bridge listens to, where it speaks, and what may stand in a name.
//!
//! In: a node name, the pools that it shares work in, an ask's id, a reply topic that a stranger asks for.
//! Out: full topic names, or why a name cannot be used.
//! Must never hand out a topic with a wildcard in it, or one that leads an answer back to an `ask`.

mod id;

use cloister_program::node::Node;
use cloister_program::topics::REPLIES;

use crate::choices::Setting;

pub use id::AskId;

/// The longest topic that MQTT can carry, in bytes.
const MAX_TOPIC_BYTES: usize = 65_535;

/// Who was asked: this box by its name, or one of its pools, of which any box may answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// This box.
    Own,
    /// The pool of this name.
    Pool(String),
}

impl Place {
    /// The pool's name, if it is one.
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::Own => None,
            Self::Pool(pool) => Some(pool),
        }
    }

    /// The place that [`Place::pool`] was written down of.
    pub fn stored(pool: Option<String>) -> Self {
        pool.map_or(Self::Own, Self::Pool)
    }
}

/// What a topic that is listened to is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Asks come in.
    Ask(Place),
    /// Ids to be cancelled come in.
    Cancel(Place),
    /// Whatever comes in ends all that was asked over MQTT.
    Stop,
    /// What is to be asked for where an ask does not say.
    Set(Setting),
    /// Whatever comes in has the model loaded.
    WarmUp,
    /// Home Assistant says that it is there.
    HomeAssistant,
}

/// The topics under `cloister/<node>/` and `cloister/pool/<pool>/`.
#[derive(Clone, Debug)]
pub struct Topics {
    node: String,
    prefix: String,
    pools: Vec<String>,
    reply_prefixes: Vec<String>,
    discovery_prefix: String,
    announced: bool,
}

impl Topics {
    /// The topics of the box named `node`, which shares work in these pools.
    pub fn of(node: &Node, pools: &[Node]) -> Self {
        Self {
            node: node.to_string(),
            prefix: format!("cloister/{node}/"),
            pools: pools.iter().map(Node::to_string).collect(),
            reply_prefixes: vec![REPLIES.into()],
            discovery_prefix: "homeassistant".into(),
            announced: true,
        }
    }

    /// Where Home Assistant looks for devices, and whether the box is to be found there.
    pub fn announce(mut self, discovery_prefix: String, announced: bool) -> Self {
        self.discovery_prefix = discovery_prefix;
        self.announced = announced;
        self
    }

    /// Allows answers on topics below these alone, and on those for answers of this box and its pools.
    pub fn allow_replies(mut self, prefixes: Vec<String>) -> Self {
        self.reply_prefixes = prefixes;
        self
    }

    fn named(&self, leaf: &str) -> String {
        format!("{}{leaf}", self.prefix)
    }

    fn at(&self, place: &Place, leaf: &str) -> String {
        match place {
            Place::Own => self.named(leaf),
            Place::Pool(pool) => format!("cloister/pool/{pool}/{leaf}"),
        }
    }

    /// What is listened to, as filters: of a pool, the broker gives each ask to one box.
    pub fn filters(&self) -> Vec<String> {
        let own = [
            "ask",
            "cancel",
            "stop",
            "default/model/set",
            "default/think/set",
            "warm-up",
        ]
        .map(|leaf| self.named(leaf));
        let pools = self.pools.iter().flat_map(|pool| {
            let place = Place::Pool(pool.clone());
            [
                format!("$share/{pool}/{}", self.at(&place, "ask")),
                self.at(&place, "cancel"),
            ]
        });
        own.into_iter().chain(pools).collect()
    }

    /// Where Home Assistant says that it is there, as a filter; what stands on it may be withheld from us.
    pub fn home_assistant(&self) -> Option<String> {
        self.announced
            .then(|| format!("{}/status", self.discovery_prefix))
    }

    /// The topics of boxes, this one's above all, as filters: nothing else may set itself between them.
    pub fn own_patterns(&self) -> Vec<String> {
        let of_boxes = ["ask", "cancel", "stop"].map(|leaf| format!("cloister/+/{leaf}"));
        [format!("{}#", self.prefix), "cloister/pool/#".into()]
            .into_iter()
            .chain(of_boxes)
            .chain(self.home_assistant())
            .collect()
    }

    /// What a message on this topic is for.
    pub fn purpose(&self, topic: &str) -> Option<Purpose> {
        if self.home_assistant().as_deref() == Some(topic) {
            return Some(Purpose::HomeAssistant);
        }
        if let Some(leaf) = topic.strip_prefix(&self.prefix) {
            return match leaf {
                "ask" => Some(Purpose::Ask(Place::Own)),
                "cancel" => Some(Purpose::Cancel(Place::Own)),
                "stop" => Some(Purpose::Stop),
                "default/model/set" => Some(Purpose::Set(Setting::Model)),
                "default/think/set" => Some(Purpose::Set(Setting::Think)),
                "warm-up" => Some(Purpose::WarmUp),
                _ => None,
            };
        }
        // Of whichever pool: what was asked of one that this box has left may still come out of its session,
        // and nobody else gets it.
        let (pool, leaf) = topic.strip_prefix("cloister/pool/")?.split_once('/')?;
        let place = Place::Pool(Node::parse(pool).ok()?.to_string());
        match leaf {
            "ask" => Some(Purpose::Ask(place)),
            "cancel" => Some(Purpose::Cancel(place)),
            _ => None,
        }
    }

    /// The name of this box.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// That name as Home Assistant takes it: without dots.
    pub fn object_id(&self) -> String {
        self.node.replace('.', "_")
    }

    /// Whether Home Assistant is to find the box.
    pub fn are_announced(&self) -> bool {
        self.announced
    }

    /// Where Home Assistant finds it.
    pub fn discovery(&self) -> String {
        format!(
            "{}/device/{}/config",
            self.discovery_prefix,
            self.object_id()
        )
    }

    /// Where asks of this box come in.
    pub fn ask(&self) -> String {
        self.named("ask")
    }

    /// Where whatever comes in ends all asks.
    pub fn stop(&self) -> String {
        self.named("stop")
    }

    /// Where whatever comes in has the model loaded.
    pub fn warm_up(&self) -> String {
        self.named("warm-up")
    }

    /// Where it stands what this is set to, retained.
    pub fn setting(&self, setting: Setting) -> String {
        self.named(match setting {
            Setting::Model => "default/model",
            Setting::Think => "default/think",
        })
    }

    /// Where this is set.
    pub fn set(&self, setting: Setting) -> String {
        format!("{}/set", self.setting(setting))
    }

    /// Where `online` and `offline` stand, retained.
    pub fn status(&self) -> String {
        self.named("status")
    }

    /// Where queue, speeds and model stand, retained.
    pub fn state(&self) -> String {
        self.named("state")
    }

    /// Where the answer to one ask goes unless it names another topic.
    pub fn answer(&self, place: &Place, id: &AskId) -> String {
        self.at(place, &format!("answer/{id}"))
    }

    /// Where an ask is told off whose id cannot be read or cannot stand in a topic.
    pub fn answer_invalid(&self, place: &Place) -> String {
        self.at(place, "answer/invalid")
    }

    /// Where each answer goes too that goes to no topic of an asker's own.
    pub fn answer_last(&self) -> String {
        self.named("answer/last")
    }

    /// Where the bare text of the answer to a bare text goes.
    pub fn answer_text(&self, place: &Place) -> String {
        self.at(place, "answer/text")
    }

    /// Where the pieces of an answer go as they come.
    pub fn stream(&self, place: &Place, id: &AskId) -> String {
        self.at(place, &format!("stream/{id}"))
    }

    /// Checks a topic that an ask wants its answer on; the error says why it cannot be had.
    pub fn check_reply_to(&self, topic: &str) -> Result<(), String> {
        self.check_answer_topic(topic)?;
        let below = |levels: &str| {
            let rest = topic.strip_prefix(levels);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let of_pools = self.pools.iter().map(|pool| Place::Pool(pool.clone()));
        let mut places = of_pools.chain([Place::Own]);
        if self.reply_prefixes.iter().any(|levels| below(levels))
            || places.any(|place| below(&self.at(&place, "answer")))
        {
            return Ok(());
        }
        // Else who may publish nothing but asks would have this box publish for them, to whatever listens.
        Err(format!(
            "the reply topic {topic:?} is below none of those that this box answers on: {}; its owner may add some to reply-prefixes",
            self.reply_prefixes.join(", ")
        ))
    }

    /// Checks whether an answer can go to a topic, whoever wants it there.
    pub fn check_answer_topic(&self, topic: &str) -> Result<(), String> {
        if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES {
            return Err(format!(
                "the reply topic must have 1 to {MAX_TOPIC_BYTES} bytes"
            ));
        }
        if topic
            .chars()
            .any(|c| matches!(c, '+' | '#') || c.is_control())
        {
            return Err(format!(
                "the reply topic {topic:?} holds a wildcard or a control character"
            ));
        }
        if topic.starts_with('$') {
            return Err(format!(
                "the reply topic {topic:?} belongs to the broker ('$')"
            ));
        }
        let ours = topic
            .strip_prefix(&self.prefix)
            .is_some_and(|rest| !rest.starts_with("answer/"));
        let levels: Vec<&str> = topic.split('/').collect();
        let listened = matches!(
            levels[..],
            [
                "cloister",
                ..,
                "ask" | "cancel" | "stop" | "set" | "warm-up"
            ]
        );
        if ours || listened {
            return Err(format!(
                "the reply topic {topic:?} is one that boxes listen or report on; take another"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
