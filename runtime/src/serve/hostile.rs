//! Request bodies that lie: whatever their bytes are, reading them ends in a request or in an error that is the
//! client's, and in no panic.
//!
//! The fuzz targets in `tests/fuzz` call this with what they think of; the tests below with changed copies of sound bodies.

#[cfg(test)]
#[path = "../../../tests/src/mutation.rs"]
mod mutation;

use serde_json::Value;

use super::chat::request::ChatRequest;
use super::fields::Fields;
use super::ollama::request::OllamaRequest;
use super::responses::request::ResponsesRequest;

/// The paths whose bodies have a reader of their own; those of all others are read field by field.
const PATHS: [&str; 5] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/api/chat",
    "/api/generate",
    "",
];

/// A body, after one byte that says for which path.
pub fn body(bytes: &[u8]) {
    if let Some((path, body)) = bytes.split_first() {
        read(PATHS[usize::from(*path) % PATHS.len()], body);
    }
}

/// Sound ones for [`body`].
pub fn seeds() -> Vec<Vec<u8>> {
    let with_path = |(path, body): (String, Vec<u8>)| {
        let place = PATHS.iter().position(|known| *known == path);
        let mut bytes = vec![place.unwrap_or(PATHS.len() - 1) as u8];
        bytes.extend(body);
        bytes
    };
    sound().into_iter().map(with_path).collect()
}

/// Whether the body is sound.
fn read(path: &str, body: &[u8]) -> bool {
    match path {
        "/v1/chat/completions" => {
            let request = ChatRequest::parse(body);
            request.map(|request| request.ask.conversation()).is_ok()
        }
        "/v1/responses" => ResponsesRequest::parse(body).is_ok(),
        "/api/chat" => OllamaRequest::chat(body).is_ok(),
        "/api/generate" => OllamaRequest::generate(body).is_ok(),
        _ => Fields::parse(body).is_ok_and(|mut fields| {
            for name in ["model", "text", "input", "code", "name"] {
                let _ = fields.text(name);
            }
            let _ = fields.finish();
            true
        }),
    }
}

/// The examples of `/openapi.json`, and one with all that a chat may have.
fn sound() -> Vec<(String, Vec<u8>)> {
    let document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut seeds: Vec<(String, Vec<u8>)> = paths
        .iter()
        .map(|(path, operations)| (path, &operations["post"]["requestBody"]["content"]))
        .filter(|(_, content)| !content.is_null())
        .map(|(path, content)| {
            let body = match &content["application/json"]["example"] {
                Value::Null => r#"{"model":"m"}"#.to_owned(),
                example => example.to_string(),
            };
            (path.clone(), body.into_bytes())
        })
        .collect();
    let tools = r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"type":"string","enum":["x"]}},"required":["a"]},"strict":true}}]"#;
    let messages = r#"[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":\"x\"}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]"#;
    let schema = r#"{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"a":{"type":"integer"}}}}}"#;
    let all = format!(
        r#"{{"model":"m","messages":{messages},"tools":{tools},"tool_choice":"auto","response_format":{schema},"temperature":0.5,"top_p":0.9,"max_tokens":7,"stop":["a","b"],"seed":1,"stream":true,"reasoning_effort":"low","deadline_ms":1000,"truncation":"middle","service_tier":"flex"}}"#
    );
    seeds.push(("/v1/chat/completions".into(), all.into_bytes()));
    let ollama = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi","images":[]}}],"tools":{tools},"format":{{"type":"object"}},"options":{{"num_predict":3,"temperature":0.1,"stop":["x"],"seed":3}},"think":"low","keep_alive":"5m","stream":false}}"#
    );
    seeds.push(("/api/chat".into(), ollama.into_bytes()));
    seeds
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    use super::mutation::Random;

    #[test]
    fn the_sound_bodies_are_sound() {
        for (path, body) in sound() {
            let shown = String::from_utf8_lossy(&body).into_owned();
            assert!(read(&path, &body), "{path}: {shown}");
        }
    }

    #[test]
    fn no_change_of_a_sound_body_makes_its_reader_panic() {
        for seed in seeds() {
            let mut random = Random::default();
            for round in 0..2000 {
                let mut bytes = seed.clone();
                random.change_some(&mut bytes);
                let sound = catch_unwind(|| body(&bytes)).is_ok();
                let shown = String::from_utf8_lossy(&bytes);
                assert!(sound, "round {round}: {shown}");
            }
        }
    }

    #[test]
    fn no_body_of_the_fuzz_corpus_makes_its_reader_panic() {
        let corpus = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fuzz/corpus/http_body"
        );
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
        assert!(files.len() > 20, "{}", files.len());
        for file in files {
            body(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn what_lies_deep_in_each_other_is_refused() {
        for path in PATHS {
            for (open, close) in [("[", "]"), ("{\"messages\":", "}"), ("{\"format\":", "}")] {
                let deep = open.repeat(1_000_000) + "1" + &close.repeat(1_000_000);
                assert!(!read(path, deep.as_bytes()));
                assert!(!read(path, open.repeat(1_000_000).as_bytes()));
            }
        }
    }
}
