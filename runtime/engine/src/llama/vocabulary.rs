//! Models that are a vocabulary and nothing else, for tests.

use cloister_gguf::{Array, Metadata, StringArray, Value, Writer};

use super::Model;

/// A vocabulary of all bytes, some runs of `a`, and `others`, in which words are looked for as `kind` says.
pub fn vocabulary(kind: &str, others: &[String]) -> Model {
    let mut tokens = StringArray::default();
    let mut shifted = 256..;
    for byte in 0..=255_u8 {
        // As byte-level BPE writes a byte.
        let itself = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
        let code = if itself {
            byte.into()
        } else {
            shifted.next().unwrap()
        };
        tokens.push(char::from_u32(code).unwrap().to_string().as_bytes());
    }
    let mut merges = StringArray::default();
    for (left, right) in [("a", "a"), ("\u{120}", "a"), ("\u{120}a", "aa")] {
        tokens.push(format!("{left}{right}").as_bytes());
        merges.push(format!("{left} {right}").as_bytes());
    }
    for other in others {
        tokens.push(other.as_bytes());
    }
    tokens.push(b"<end>");
    let end = 259 + others.len() as u32;
    let mut types = vec![1; end as usize];
    types.push(3);
    let mut metadata = Metadata::default();
    let text = |text: &str| Value::String(text.to_owned());
    metadata.set("general.architecture", text("llama"));
    metadata.set("tokenizer.ggml.model", text("gpt2"));
    metadata.set("tokenizer.ggml.pre", text(kind));
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(end));
    metadata.set("tokenizer.ggml.bos_token_id", Value::U32(end));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.gguf");
    let file = Writer::create(&path, &metadata, Vec::new()).unwrap();
    file.finish().unwrap();
    Model::vocabulary(&path).unwrap_or_else(|| panic!("{kind}: {:?}", super::first_error()))
}
