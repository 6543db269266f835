//! Topics with `+` and `#`: which topics they match, and what stands where the wildcards stand.
//!
//! In: a pattern. Out: matches, overlaps, filled topics. Pure.
//! Must never hand out a topic with a wildcard in it.

use std::fmt;

use anyhow::{Result, bail};

/// A topic filter of MQTT; as a result, one whose wildcards stand for those of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

impl Pattern {
    /// Takes a pattern as its owner typed it.
    pub fn parse(text: &str) -> Result<Self> {
        let levels: Vec<_> = text.split('/').map(str::to_owned).collect();
        let misplaced = levels.iter().enumerate().any(|(n, level)| {
            (level.contains(['+', '#']) && level.len() > 1)
                || (level == "#" && n + 1 < levels.len())
        });
        if text.is_empty() || text.len() > 65_535 || text.chars().any(char::is_control) {
            bail!("it must have 1 to 65535 bytes and no control character");
        }
        if text.starts_with('$') {
            bail!("what begins with '$' belongs to the broker");
        }
        if misplaced {
            bail!("{text:?}: a + or # must be a whole level, and # the last one");
        }
        Ok(Self(levels))
    }

    /// Whether a topic is one of those meant.
    pub fn matches(&self, topic: &str) -> bool {
        !topic.starts_with('$') && self.meets(&Self(topic.split('/').map(str::to_owned).collect()))
    }

    /// Whether some topic is meant by both.
    pub fn meets(&self, other: &Self) -> bool {
        fn meet(one: &[String], other: &[String]) -> bool {
            match (one, other) {
                // It stands for no level too.
                ([a], _) | (_, [a]) if a == "#" => true,
                ([], []) => true,
                ([], rest) | (rest, []) => rest == ["#"],
                ([a, one @ ..], [b, other @ ..]) => {
                    (a == "#" || b == "#" || a == "+" || b == "+" || a == b) && meet(one, other)
                }
            }
        }
        meet(&self.0, &other.0)
    }

    fn count(&self, wildcard: &str) -> usize {
        self.0.iter().filter(|level| *level == wildcard).count()
    }

    /// Whether each wildcard here has one there to stand for.
    pub fn can_be_filled_from(&self, topic: &Self) -> bool {
        self.count("+") <= topic.count("+") && self.count("#") <= topic.count("#")
    }

    /// This pattern with what stood for the wildcards of `pattern` in `topic`, one after the other.
    pub fn filled_from(&self, pattern: &Self, topic: &str) -> String {
        let levels: Vec<_> = topic.split('/').collect();
        let mut found = pattern
            .0
            .iter()
            .zip(&levels)
            .filter(|(level, _)| *level == "+")
            .map(|(_, stood)| *stood);
        let rest = levels.get(pattern.0.len() - 1..).unwrap_or_default();
        let filled = self.0.iter().flat_map(|level| match level.as_str() {
            "+" => found.next().into_iter().collect(),
            "#" => rest.to_vec(),
            level => vec![level],
        });
        filled.collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn wildcards_stand_for_levels() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a", true),
            ("#", "$SYS/x", false),
            ("+/b", "/b", true),
        ] {
            assert_eq!(pattern(filter).matches(topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn two_patterns_meet_where_one_topic_is_meant_by_both() {
        for (one, other, expected) in [
            ("a/+", "+/b", true),
            ("a/+/c", "a/b", false),
            ("a/#", "a/b/+", true),
            ("a/#", "a", true),
            ("a/#", "b/#", false),
            ("a/+/c", "a/b/#", true),
            ("+", "a/b", false),
        ] {
            assert_eq!(
                pattern(one).meets(&pattern(other)),
                expected,
                "{one} {other}"
            );
            assert_eq!(
                pattern(other).meets(&pattern(one)),
                expected,
                "{other} {one}"
            );
        }
    }

    #[test]
    fn what_stood_for_wildcards_is_filled_in_in_order() {
        for (topic, result, said, expected) in [
            (
                "home/+/+",
                "said/+/in/+",
                "home/attic/text",
                "said/attic/in/text",
            ),
            (
                "home/+/text",
                "home/summary",
                "home/attic/text",
                "home/summary",
            ),
            ("home/#", "said/#", "home/a/b", "said/a/b"),
            ("home/#", "said/#", "home", "said"),
        ] {
            let (topic, result) = (pattern(topic), pattern(result));
            assert!(result.can_be_filled_from(&topic));
            assert_eq!(result.filled_from(&topic, said), expected);
        }
        assert!(!pattern("a/+/+").can_be_filled_from(&pattern("b/+")));
        assert!(!pattern("a/#").can_be_filled_from(&pattern("b/+")));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for bad in ["", "a/#/b", "a+", "$SYS/#", "a/b\u{0}"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
