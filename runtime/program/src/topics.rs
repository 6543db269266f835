//! What the bridge and the broker that `cloister up` starts must both know of topics.
//!
//! In: beginnings of topics that the owner wrote down. Out: checked ones. Must never take one for a beginning that
//! stands for many.

/// The first level of the topics on which askers may want their answers, unless the owner names others. Nothing else is
/// known to listen there, so that no answer switches anything.
pub const REPLIES: &str = "answers";

/// The levels that topics begin with, without the slash that follows them.
///
/// # Errors
/// It is empty, holds a wildcard or a control character, or is the broker's own.
pub fn beginning(text: &str) -> Result<&str, String> {
    let levels = text.strip_suffix('/').unwrap_or(text);
    let wrong = |c: char| matches!(c, '+' | '#') || c.is_control();
    if levels.is_empty()
        || levels.starts_with('$')
        || levels.ends_with('/')
        || levels.contains(wrong)
    {
        return Err(format!("{text:?} is no beginning of a topic"));
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_whole_levels() {
        for (text, levels) in [("home", "home"), ("home/", "home"), ("a/b c/", "a/b c")] {
            assert_eq!(beginning(text), Ok(levels));
        }
        for bad in ["", "/", "a//", "a/#", "+/b", "$SYS", "a\n"] {
            assert!(beginning(bad).is_err(), "{bad:?}");
        }
    }
}
