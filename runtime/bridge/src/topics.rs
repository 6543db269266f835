//! Topic names: what the bridge listens to, where it speaks, and what may stand in a name.
//!
//! In: a node name, an ask's id, a reply topic that a stranger asks for.
//! Out: full topic names, or why a name cannot be used.
//! Must never hand out a topic with a wildcard in it, or one that leads an answer back to an `ask`.

use std::fmt;

use cloister_program::node::Node;

/// The longest id of an ask, in characters.
pub const MAX_ID_CHARS: usize = 128;

/// The longest topic that MQTT can carry, in bytes.
const MAX_TOPIC_BYTES: usize = 65_535;

/// The name of one ask, chosen by who asks or made here; one topic level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AskId(String);

impl AskId {
    /// Takes an id from outside; the error says what is wrong with it.
    pub fn parse(id: &str) -> Result<Self, String> {
        if id.is_empty() {
            return Err("the id is empty".into());
        }
        if id.chars().count() > MAX_ID_CHARS {
            return Err(format!("the id is longer than {MAX_ID_CHARS} characters"));
        }
        if let Some(bad) = id
            .chars()
            .find(|c| matches!(c, '/' | '+' | '#') || c.is_control())
        {
            return Err(format!(
                "the id holds {bad:?}, which no topic level may hold"
            ));
        }
        Ok(Self(id.into()))
    }

    /// A new id of 16 hexadecimal digits, for an ask that brought none.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        // The kernel refuses this only before its pool is filled at boot, when no broker is up.
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        Self(format!("{:016x}", u64::from_be_bytes(bytes)))
    }
}

impl fmt::Display for AskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topics under `cloister/<node>/`.
#[derive(Clone, Debug)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// The topics of the box named `node`.
    pub fn of(node: &Node) -> Self {
        Self {
            prefix: format!("cloister/{node}/"),
        }
    }

    fn named(&self, leaf: &str) -> String {
        format!("{}{leaf}", self.prefix)
    }

    /// Where asks come in.
    pub fn ask(&self) -> String {
        self.named("ask")
    }

    /// Where ids to be cancelled come in.
    pub fn cancel(&self) -> String {
        self.named("cancel")
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
    pub fn answer(&self, id: &AskId) -> String {
        self.named(&format!("answer/{id}"))
    }

    /// Where an ask is told off whose id cannot be read or cannot stand in a topic.
    pub fn answer_invalid(&self) -> String {
        self.named("answer/invalid")
    }

    /// Where the pieces of an answer go as they come.
    pub fn stream(&self, id: &AskId) -> String {
        self.named(&format!("stream/{id}"))
    }

    /// Checks a topic that an ask wants its answer on; the error says why it cannot be had.
    pub fn check_reply_to(&self, topic: &str) -> Result<(), String> {
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
        let an_ask = topic.starts_with("cloister/") && topic.ends_with("/ask");
        if ours || an_ask {
            return Err(format!(
                "the reply topic {topic:?} is one that boxes listen or report on; take another"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_topic_level_of_at_most_128_characters() {
        for good in ["1", "a b", "ü".repeat(128).as_str(), "$x"] {
            assert!(AskId::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a/b",
            "+",
            "#",
            "a\u{7}",
            "\u{0}",
            "x".repeat(129).as_str(),
        ] {
            assert!(AskId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn made_ids_are_usable_and_differ() {
        let (a, b) = (AskId::random(), AskId::random());
        assert_ne!(a, b);
        assert!(AskId::parse(&a.to_string()).is_ok());
    }

    #[test]
    fn a_reply_topic_leads_neither_back_to_an_ask_nor_into_the_brokers_own() {
        let topics = Topics::of(&Node::parse("n").unwrap());
        for good in [
            "replies/me",
            "cloister/n/answer/x",
            "cloister/other/x",
            "ask",
        ] {
            assert!(topics.check_reply_to(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a/+",
            "a/#",
            "a\u{0}",
            "$SYS/x",
            "$share/p/x",
            "cloister/n/ask",
            "cloister/n/cancel",
            "cloister/n/status",
            "cloister/n/stream/x",
            "cloister/other/ask",
            "cloister/pool/p/ask",
            "x".repeat(65_536).as_str(),
        ] {
            assert!(topics.check_reply_to(bad).is_err(), "{bad:?}");
        }
    }
}
