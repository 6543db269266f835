//! What the bridge says: answers, error answers and pieces of a stream, as JSON payloads.
//!
//! In: an ask's id and what came of it. Out: payload bytes.
//! Must never hold what an answer did not have: an unknown figure is `null`, not a guess.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::topics::AskId;

/// Why an ask got no text. The names are part of the MQTT interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The ask is malformed; repeating it unchanged is useless.
    BadRequest,
    /// Prompt and answer do not fit the model's context.
    ContextLengthExceeded,
    /// No model of that name.
    ModelNotFound,
    /// The field is known but cannot be honoured.
    Unsupported,
    /// Too many asks are waiting; try again later.
    Busy,
    /// The ask's Message Expiry passed while it waited, or its deadline before the answer was complete.
    Expired,
    /// An ask of this id was answered, longer ago than its answer is kept.
    Answered,
    /// The privacy switch of the box is on: it takes no prompts, and what waited is erased.
    Privacy,
    /// The box became too hot in the middle of the answer.
    TooHot,
    /// Somebody at the box has stopped the answer.
    Stopped,
    /// The engine is not there, still loading, or went away. Such an ask waits: nobody is told.
    Unavailable,
    /// The engine went away while it had the ask, which is put to it again a few times: nobody is told.
    BrokenOff,
    /// The engine failed in a way it did not name.
    Internal,
}

/// An error answer: what class of thing happened, and one sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AskError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what, and what to do.
    pub message: String,
    /// Seconds after which it is worth trying again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl AskError {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// That so many wait already; and when a place will probably be free.
    pub fn busy(waiting: u64, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                ErrorCode::Busy,
                format!("{waiting} asks wait here already; ask again in {retry_after} s"),
            )
        }
    }

    /// The payload that tells the asker; `id` is null when it could not be read.
    pub fn payload(&self, id: Option<&AskId>) -> Bytes {
        #[derive(Serialize)]
        struct Payload<'a> {
            id: Option<String>,
            error: &'a AskError,
        }
        json(&Payload {
            id: id.map(AskId::to_string),
            error: self,
        })
    }
}

/// What the engine has said so far, and in the end how it ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The answer's text.
    pub text: String,
    /// What was thought before the answer; empty if the model thought nothing.
    pub reasoning: String,
    /// `stop`, `length` or `cancelled`; `None` while it goes on.
    pub finish_reason: Option<String>,
    /// Token counts as the engine gives them; null if it never came so far.
    pub usage: Value,
    /// Times and speeds as the engine gives them; null if it never came so far.
    pub timings: Value,
    /// Fields of the ask that nobody knows.
    pub ignored: Vec<String>,
}

impl Reply {
    /// The payload of the one answer to `id`.
    pub fn payload(&self, id: &AskId) -> Bytes {
        #[derive(Serialize)]
        struct Payload<'a> {
            id: String,
            text: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            reasoning: &'a str,
            finish_reason: &'a Option<String>,
            usage: &'a Value,
            timings: &'a Value,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            ignored: &'a [String],
        }
        json(&Payload {
            id: id.to_string(),
            text: &self.text,
            reasoning: &self.reasoning,
            finish_reason: &self.finish_reason,
            usage: &self.usage,
            timings: &self.timings,
            ignored: &self.ignored,
        })
    }
}

/// The bare text of an answer's payload; none in an error's.
pub fn bare_text(payload: &[u8]) -> Option<Bytes> {
    #[derive(serde::Deserialize)]
    struct Text {
        text: String,
    }
    serde_json::from_slice(payload)
        .ok()
        .map(|Text { text }| text.into())
}

/// The id in a payload.
pub fn id_of(payload: &[u8]) -> Option<AskId> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: String,
    }
    serde_json::from_slice(payload)
        .ok()
        .map(|Id { id }| AskId::stored(id))
}

/// A piece of a reply as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The next piece of the answer's text.
    pub text: String,
    /// The next piece of what is thought.
    pub reasoning: String,
}

impl Delta {
    /// The payload of piece number `seq` (from 0) of the stream of `id`.
    pub fn payload(&self, id: &AskId, seq: u64) -> Bytes {
        #[derive(Serialize)]
        struct Payload<'a> {
            id: String,
            seq: u64,
            delta: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            reasoning_delta: &'a str,
        }
        json(&Payload {
            id: id.to_string(),
            seq,
            delta: &self.text,
            reasoning_delta: &self.reasoning,
        })
    }
}

fn json(payload: &impl Serialize) -> Bytes {
    serde_json::to_vec(payload)
        .expect("strings, numbers and JSON values always serialize")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> AskId {
        AskId::parse("a1").unwrap()
    }

    fn text(payload: &Bytes) -> &str {
        std::str::from_utf8(payload).unwrap()
    }

    #[test]
    fn an_answer_without_reasoning_has_no_such_field() {
        let reply = Reply {
            text: "hi".into(),
            finish_reason: Some("stop".into()),
            ..Reply::default()
        };
        assert_eq!(
            text(&reply.payload(&id())),
            r#"{"id":"a1","text":"hi","finish_reason":"stop","usage":null,"timings":null}"#
        );
    }

    #[test]
    fn an_error_names_its_code_in_snake_case() {
        let error = AskError::new(ErrorCode::ContextLengthExceeded, "too long");
        assert_eq!(
            text(&error.payload(Some(&id()))),
            r#"{"id":"a1","error":{"code":"context_length_exceeded","message":"too long"}}"#
        );
        assert!(text(&error.payload(None)).starts_with(r#"{"id":null,"#));
    }

    #[test]
    fn the_bare_text_is_the_answers_and_never_an_errors() {
        let reply = Reply {
            text: "hi \"you\"".into(),
            ..Reply::default()
        };
        assert_eq!(bare_text(&reply.payload(&id())).unwrap(), "hi \"you\"");
        let error = AskError::busy(3, 7).payload(Some(&id()));
        assert_eq!(bare_text(&error), None);
        assert!(text(&error).contains(r#""retry_after":7"#));
    }

    #[test]
    fn a_piece_carries_its_number() {
        let delta = Delta {
            text: "x".into(),
            ..Delta::default()
        };
        assert_eq!(
            text(&delta.payload(&id(), 3)),
            r#"{"id":"a1","seq":3,"delta":"x"}"#
        );
    }
}
