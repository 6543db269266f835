//! Server-sent events, read piece by piece.
//!
//! In: the bytes of a response body in whatever pieces they arrive. Out: whole events.
//! Format: the event stream of the WHATWG HTML standard; `id` and `retry` are not used here.
//! Must never hold more than [`MAX_EVENT_BYTES`] of an event that does not end.

/// The longest event that is taken, in bytes. The engine's longest is the state of a long answer's
/// last chunk, a few hundred bytes.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type; `message` when the stream names none.
    pub name: String,
    /// Its data lines, joined by newlines.
    pub data: String,
}

/// The event is longer than [`MAX_EVENT_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("an event of the stream is longer than {MAX_EVENT_BYTES} bytes")]
pub struct TooLong;

/// Takes bytes, gives events.
#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// Takes the next bytes and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let second_half_of_crlf = self.after_cr && byte == b'\n';
            self.after_cr = byte == b'\r';
            match byte {
                _ if second_half_of_crlf => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT_BYTES {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| Event {
                name: if name.is_empty() {
                    "message".into()
                } else {
                    name
                },
                data,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.into(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.into()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        pieces
            .iter()
            .flat_map(|piece| parser.push(piece).unwrap())
            .map(|event| (event.name, event.data))
            .collect()
    }

    fn message(data: &str) -> (String, String) {
        ("message".into(), data.into())
    }

    #[test]
    fn an_event_ends_with_an_empty_line_whatever_the_line_ending() {
        for stream in [
            "data: a\n\n",
            "data: a\r\n\r\n",
            "data: a\r\r",
            "data:a\n\n",
        ] {
            assert_eq!(all(&[stream.as_bytes()]), [message("a")], "{stream:?}");
        }
    }

    #[test]
    fn pieces_may_break_anywhere_even_inside_a_character() {
        let stream = "data: {\"x\":\"grün\"}\r\n\r\ndata: [DONE]\r\n\r\n".as_bytes();
        for at in 0..stream.len() {
            assert_eq!(
                all(&[&stream[..at], &stream[at..]]),
                [message("{\"x\":\"grün\"}"), message("[DONE]")],
                "broken at {at}"
            );
        }
    }

    #[test]
    fn comments_are_skipped_and_data_lines_joined() {
        assert_eq!(
            all(&[b": ping\n\nevent: state\ndata: 1\ndata: 2\nid: 7\n\n"]),
            [("state".to_string(), "1\n2".to_string())]
        );
    }

    #[test]
    fn an_unfinished_event_gives_nothing() {
        assert_eq!(all(&[b"data: a\n"]), []);
    }

    #[test]
    fn an_event_without_end_is_refused_rather_than_kept() {
        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &[b'x'; 1000], b"\n"].concat();
        let refused = (0..2000).any(|_| parser.push(&line).is_err());
        assert!(refused);
    }
}
