//! The name of a box in topics: `cloister/<node>/ask`.
//!
//! In: what its owner typed, or the host name. Out: one topic level.
//! Must never hand out a name that would change the shape of a topic.

use std::fmt;

/// The name of this box in topics: one topic level, letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node(String);

impl Node {
    /// Takes a name as its owner typed it; the error says what is wrong with it.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name.is_empty() || !name.chars().all(fits_node) {
            return Err(format!(
                "the node name {name:?} may hold only letters, digits, '-', '_' and '.', and must not be empty"
            ));
        }
        if name == "pool" {
            return Err("the node name \"pool\" is taken by the topics of pools".into());
        }
        Ok(Self(name.into()))
    }

    /// The host name; what does not fit into a topic level becomes `-`.
    pub fn of_this_host() -> Self {
        Self::from_host_name(
            &std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        )
    }

    fn from_host_name(host: &str) -> Self {
        let name: String = host
            .trim()
            .chars()
            .map(|c| if fits_node(c) { c } else { '-' })
            .collect();
        Self::parse(&name).unwrap_or_else(|_| Self("cloister".into()))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fits_node(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_one_topic_level() {
        assert_eq!(Node::from_host_name("box-1.lan\n").to_string(), "box-1.lan");
        assert_eq!(Node::from_host_name("a/b+c#d e").to_string(), "a-b-c-d-e");
        assert_eq!(Node::from_host_name("").to_string(), "cloister");
        assert_eq!(Node::from_host_name("pool").to_string(), "cloister");
    }

    #[test]
    fn a_typed_node_name_is_taken_as_it_is_or_refused() {
        assert_eq!(Node::parse("garden_2").unwrap().to_string(), "garden_2");
        for bad in ["", "a/b", "a+", "#", "a b", "pool", "ü"] {
            assert!(Node::parse(bad).is_err(), "{bad:?}");
        }
    }
}
