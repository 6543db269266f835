//! `"truncation": "middle"`: a conversation that is too long loses what is in its middle, and its client is told how
//! much.
//!
//! Whole turns go first, from the second on, so that how it began and what was said last stay; then the first
//! one. If what is left is still too long, the longest message loses its middle.

use cloister_engine::{Conversation, Engine, Message, Prompt, PromptError};
use serde_json::{Value, json};

/// What was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Messages that are not there.
    pub messages: usize,
    /// Characters that are missing in the middle of one that is.
    pub characters: usize,
}

impl Cut {
    /// As answers tell it.
    pub fn to_json(self) -> Value {
        json!({"messages": self.messages, "characters": self.characters})
    }
}

/// What stands where characters were cut.
const GAP: &str = " […] ";

/// Tokens that an answer is to have room for where the request does not say, and the share of the context that
/// these are at most.
const ANSWER: usize = 512;
const SHARE: usize = 4;

/// The prompt of a conversation that leaves room for an answer of `max_tokens`, and what was cut for that.
///
/// # Errors
/// As [`Engine::prompt`] and [`Engine::max_tokens`], where no cut helps.
pub fn fit(
    engine: &Engine,
    conversation: &Conversation,
    max_tokens: Option<usize>,
) -> Result<(Prompt, Option<Cut>), PromptError> {
    let n_ctx = engine.info().n_ctx as usize;
    let wanted = max_tokens.unwrap_or_else(|| ANSWER.min(n_ctx / SHARE).max(1));
    let prompt_of = |messages: Vec<Message>| {
        let prompt = engine.prompt(&Conversation {
            messages,
            ..conversation.clone()
        })?;
        engine.max_tokens(&prompt, Some(wanted))?;
        Ok(prompt)
    };
    let all = &conversation.messages;
    let error = match prompt_of(all.clone()) {
        Ok(prompt) => return Ok((prompt, None)),
        Err(error) if too_long(&error) => error,
        Err(error) => return Err(error),
    };
    let turns = Turns::of(all);
    let fits = |n: usize| fitting(prompt_of(turns.without(all, n)));
    if let Some((n, prompt)) = least(1, turns.most_cut(), fits)? {
        let messages = all.len() - turns.without(all, n).len();
        let cut = Cut {
            messages,
            characters: 0,
        };
        return Ok((prompt, Some(cut)));
    }
    let rest = turns.without(all, turns.most_cut());
    let longest = (0..rest.len()).max_by_key(|i| rest[*i].content.len());
    let Some(longest) = longest else {
        return Err(error);
    };
    let length = rest[longest].content.chars().count();
    let fits = |cut: usize| {
        let mut messages = rest.clone();
        messages[longest].content = without_middle(&rest[longest].content, length, cut);
        fitting(prompt_of(messages))
    };
    let Some((characters, prompt)) = least(1, length, fits)? else {
        return Err(error);
    };
    let messages = all.len() - rest.len();
    let cut = Cut {
        messages,
        characters,
    };
    Ok((prompt, Some(cut)))
}

fn too_long(error: &PromptError) -> bool {
    matches!(
        error,
        PromptError::TooLong { .. } | PromptError::TooManyBytes { .. }
    )
}

/// None where it is too long.
fn fitting(prompt: Result<Prompt, PromptError>) -> Result<Option<Prompt>, PromptError> {
    match prompt {
        Err(error) if too_long(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// The least number from `from` to `to` for which `fits` gives something, and what; larger ones are taken to
/// fit as well.
fn least<T, E>(
    from: usize,
    to: usize,
    fits: impl Fn(usize) -> Result<Option<T>, E>,
) -> Result<Option<(usize, T)>, E> {
    let (mut from, mut best) = (from, None);
    let mut to = to + 1;
    while from < to {
        // The largest first: if that does not fit, nothing does.
        let middle = match best {
            None => to - 1,
            Some(_) => from + (to - from) / 2,
        };
        match fits(middle)? {
            Some(found) => (best, to) = (Some((middle, found)), middle),
            None if best.is_none() => return Ok(None),
            None => from = middle + 1,
        }
    }
    Ok(best)
}

/// Where the turns begin: a user's message with all that follows it.
struct Turns {
    begins: Vec<usize>,
}

impl Turns {
    fn of(messages: &[Message]) -> Self {
        let system = messages.iter().take_while(|m| m.role == "system").count();
        let mut begins = vec![system];
        begins.extend((system + 1..messages.len()).filter(|i| messages[*i].role == "user"));
        Self { begins }
    }

    /// How many of the turns can go.
    fn most_cut(&self) -> usize {
        self.begins.len() - 1
    }

    /// The messages without `n` turns.
    fn without(&self, messages: &[Message], n: usize) -> Vec<Message> {
        // The first stays as long as another one between it and the last can go in its place.
        let first = match n < self.most_cut() || n == 0 {
            true => self.begins.get(1).copied().unwrap_or(messages.len()),
            false => self.begins[0],
        };
        let from = match n < self.most_cut() || n == 0 {
            true => self.begins.get(1 + n).copied().unwrap_or(first),
            false => self.begins[n],
        };
        [&messages[..first], &messages[from..]].concat()
    }
}

/// A text of `length` characters without `cut` of them.
fn without_middle(text: &str, length: usize, cut: usize) -> String {
    let kept = length - cut;
    let before = kept.div_ceil(2);
    let beginning = text.chars().take(before);
    let end = text.chars().skip(before + cut);
    beginning.chain(GAP.chars()).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_from_the_second_on_and_the_first_at_last() {
        let messages: Vec<Message> = ["system", "user", "assistant", "user", "assistant", "user"]
            .iter()
            .enumerate()
            .map(|(i, role)| Message::new(*role, i.to_string()))
            .collect();
        let turns = Turns::of(&messages);
        let without = |n| {
            let left = turns.without(&messages, n);
            left.iter().map(|m| m.content.clone()).collect::<String>()
        };
        assert_eq!(turns.most_cut(), 2);
        assert_eq!([0, 1, 2].map(without), ["012345", "0125", "05"]);
        let alone = [Message::new("user", "x")];
        let turns = Turns::of(&alone);
        assert_eq!((turns.most_cut(), turns.without(&alone, 0).len()), (0, 1));
    }

    #[test]
    fn a_text_keeps_its_beginning_and_its_end() {
        assert_eq!(without_middle("abcdéfg", 7, 3), "ab […] fg");
        assert_eq!(without_middle("abc", 3, 3), GAP);
    }

    #[test]
    fn the_least_that_fits_is_found() {
        let least = |most, from: usize| {
            least::<_, ()>(1, most, |n| Ok((n >= from).then_some(n)))
                .unwrap()
                .map(|(n, _)| n)
        };
        for from in 1..=9 {
            assert_eq!(least(9, from), Some(from));
        }
        assert_eq!(least(9, 10), None);
        assert_eq!(least(0, 0), None);
    }
}
