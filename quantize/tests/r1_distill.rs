//! The published DeepSeek-R1-Distill-Qwen-7B, as far as its header tells: its mix of types is what
//! `convert` would choose, and its vocabulary survives the way through a Hugging Face folder.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use cloister_gguf::{Array, Gguf, StringArray, TensorInfo, TensorType, Value, Writer};
use serde_json::{Value as Json, json};
use support::hugging_face::Folder;
use support::{convert, fetched};

fn header() -> Gguf {
    Gguf::open_header(&fetched("r1-distill-qwen-7b-header.gguf")).unwrap()
}

#[test]
fn its_mix_of_types_is_ours() {
    let published = header();
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (
        folder.path().join("source.gguf"),
        folder.path().join("out.gguf"),
    );
    // The same names and rows of the same length, but four of them, so that it fits in a test.
    let tensors = published.tensors.iter().map(|t| {
        let dims = match t.dims[..] {
            [row] => vec![row],
            _ => vec![t.dims[0], 4],
        };
        TensorInfo::new(&t.name, dims, TensorType::F32).unwrap()
    });
    let mut writer = Writer::create(&source, &published.metadata, tensors.collect()).unwrap();
    while let Some(tensor) = writer.next_tensor() {
        let zeros = vec![0; tensor.bytes() as usize];
        writer.write(&zeros).unwrap();
    }
    writer.finish().unwrap();
    convert(&source, &out, "Q4_K_M").succeeded();
    let ours = Gguf::open(&out).unwrap();
    for tensor in &published.tensors {
        assert_eq!(
            ours.tensor(&tensor.name).unwrap().tensor_type,
            tensor.tensor_type,
            "{}",
            tensor.name
        );
    }
    assert_eq!(ours.metadata, published.metadata);
}

fn strings<'g>(gguf: &'g Gguf, key: &str) -> &'g StringArray {
    match gguf.metadata.get(key).and_then(Value::as_array) {
        Some(Array::String(strings)) => strings,
        _ => panic!("{key} is no array of strings"),
    }
}

/// Writes the tokenizer of `gguf` as Hugging Face's files into `folder`.
fn write_tokenizer(gguf: &Gguf, folder: &Path) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let tokens: Vec<String> = strings(gguf, "tokenizer.ggml.tokens")
        .iter()
        .map(text)
        .collect();
    let Some(Array::I32(kinds)) = gguf
        .metadata
        .get("tokenizer.ggml.token_type")
        .unwrap()
        .as_array()
    else {
        panic!("token types are i32");
    };
    let of_kind = |wanted: i32| {
        tokens
            .iter()
            .enumerate()
            .filter(move |&(id, _)| kinds[id] == wanted)
    };
    let vocabulary: BTreeMap<&String, usize> = of_kind(1).map(|(id, token)| (token, id)).collect();
    let added = |kind: i32| {
        of_kind(kind)
            .map(move |(id, token)| json!({"id": id, "content": token, "special": kind == 3}))
    };
    let merges = strings(gguf, "tokenizer.ggml.merges").iter().map(text);
    let merges = merges.map(|m| m.split(' ').map(Json::from).collect());
    let begin = "<｜begin▁of▁sentence｜>";
    let mut tokenizer: Json = serde_json::from_slice(
        &std::fs::read(folder.join("tokenizer.json")).unwrap(), // for its pre_tokenizer
    )
    .unwrap();
    tokenizer["model"]["vocab"] = json!(vocabulary);
    tokenizer["model"]["merges"] = merges.collect::<Vec<Json>>().into();
    tokenizer["added_tokens"] = added(3).chain(added(4)).collect::<Vec<Json>>().into();
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let id = |name: &str| {
        gguf.metadata
            .u64(&format!("tokenizer.ggml.{name}_token_id"))
            .unwrap()
    };
    let settings = json!({
        "bos_token": {"content": begin},
        "eos_token": tokens[id("eos") as usize],
        "pad_token": tokens[id("padding") as usize],
        "add_bos_token": true,
        "add_eos_token": false,
        "chat_template": gguf.metadata.str("tokenizer.chat_template"),
    });
    std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
}

#[test]
fn its_vocabulary_survives_the_way_through_a_hugging_face_folder() {
    let published = header();
    let folder = Folder::of("tiny-r1-qwen");
    write_tokenizer(&published, folder.path());
    let rows = strings(&published, "tokenizer.ggml.tokens").len();
    folder.change("config.json", |config| config["vocab_size"] = json!(rows));
    folder.write_weights();
    convert(folder.path(), &folder.out(), "Q8_0").succeeded();
    let ours = Gguf::open(&folder.out()).unwrap();
    for (key, value) in published
        .metadata
        .iter()
        .filter(|(key, _)| key.starts_with("tokenizer."))
    {
        assert!(ours.metadata.get(key) == Some(value), "{key} differs");
    }
    let keys = |gguf: &Gguf| {
        gguf.metadata
            .iter()
            .filter(|(key, _)| key.starts_with("tokenizer."))
            .count()
    };
    assert_eq!(keys(&ours), keys(&published));
}
