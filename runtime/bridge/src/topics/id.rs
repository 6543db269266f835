//! The name of one ask, as it stands in topics.

use std::fmt;

/// The longest id of an ask, in characters.
const MAX_ID_CHARS: usize = 128;

/// What stands in place of an id where something else than one answer goes.
const RESERVED_IDS: [&str; 3] = ["invalid", "last", "text"];

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
        if RESERVED_IDS.contains(&id) {
            return Err(format!(
                "the id {id:?} is the name of another topic under answer/; take another"
            ));
        }
        Ok(Self(id.into()))
    }

    /// An id that was checked before it was written down.
    pub fn stored(id: String) -> Self {
        Self(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
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
