//! Files that lie: each function here takes any bytes as one kind of file and does with them what the
//! program does before it reads weights. None may panic, whatever the bytes are.
//!
//! The fuzz targets in `tests/fuzz` call them with what they think of; the tests below with changed
//! copies of sound files.

#[cfg(test)]
mod allocations;
#[cfg(test)]
#[path = "../../tests/src/mutation.rs"]
mod mutation;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use cloister_gguf::{Gguf, TensorInfo, TensorType};

use crate::file_type::FileType;
use crate::hugging_face;
use crate::imatrix_file::ImatrixFile;
use crate::inspect;
use crate::running::{KvTypeName, Running};
use crate::source::Source;
use crate::type_mix::Recipe;

/// Files of a small checkpoint, less its weights.
const CHECKPOINT: [(&str, &[u8]); 4] = [
    (
        "config.json",
        include_bytes!("../tests/fixtures/hugging_face/tiny-qwen2-tied/config.json"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../tests/fixtures/hugging_face/tiny-qwen2-tied/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../tests/fixtures/hugging_face/tiny-qwen2-tied/tokenizer_config.json"),
    ),
    (WEIGHTS, b""),
];

const WEIGHTS: &str = "model.safetensors";

/// A GGUF file: inspected, and opened to be converted.
pub fn gguf(bytes: &[u8]) {
    let folder = temporary_folder();
    let path = folder.path().join("m.gguf");
    write(&path, bytes);
    let running = Running {
        ctx: 4096,
        kv_type: KvTypeName::F16,
    };
    if let Ok(gguf) = Gguf::open_header(&path) {
        inspect::table(&gguf, &running);
        inspect::json(&gguf, &running);
    }
    if let Ok(source) = Source::open(&path) {
        mix(&source);
    }
}

/// An importance matrix: every entry is read and used.
pub fn imatrix(bytes: &[u8]) {
    let folder = temporary_folder();
    let path = folder.path().join("i.gguf");
    write(&path, bytes);
    let Ok(file) = ImatrixFile::open(&path) else {
        return;
    };
    // A model that such a matrix may be of.
    let tensors: Vec<TensorInfo> = file
        .sizes()
        .filter_map(|(name, size)| TensorInfo::new(name, vec![size, 2], TensorType::F32))
        .collect();
    let infos: Vec<&TensorInfo> = tensors.iter().collect();
    if file.check(&infos).is_ok() {
        for tensor in &tensors {
            let importance = file.of_matrix(tensor, 1).expect("it was checked");
            assert!(importance.is_some(), "{}", tensor.name);
        }
    }
    file.record(&mut cloister_gguf::Metadata::default());
}

/// The JSON at the start of a safetensors file, beside a sound checkpoint.
pub fn safetensors(header: &[u8]) {
    open_with(WEIGHTS, header);
}

/// config.json.
pub fn config(bytes: &[u8]) {
    open_with("config.json", bytes);
}

/// tokenizer.json.
pub fn tokenizer(bytes: &[u8]) {
    open_with("tokenizer.json", bytes);
}

/// tokenizer_config.json.
pub fn tokenizer_config(bytes: &[u8]) {
    open_with("tokenizer_config.json", bytes);
}

/// Opens a checkpoint of which one file has these bytes.
fn open_with(name: &str, bytes: &[u8]) -> bool {
    let parent = temporary_folder();
    // The model is named after its folder: always the same, or a fuzzer takes each for a new one.
    let folder = parent.path().join("model");
    fs::create_dir(&folder).expect("the temporary folder can be written");
    for (file, sound) in CHECKPOINT {
        let path = folder.join(file);
        let content = if file == name { bytes } else { sound };
        if file != WEIGHTS {
            write(&path, content);
            continue;
        }
        let (sound, data_bytes) = weights();
        let header = if file == name { bytes } else { &sound };
        let start = (header.len() as u64).to_le_bytes();
        write(&path, &[&start, header].concat());
        let weights = File::options().append(true).open(&path);
        let len = 8 + header.len() as u64 + data_bytes;
        weights
            .and_then(|file| file.set_len(len))
            .expect("the temporary folder can be written");
    }
    match hugging_face::open(&folder) {
        Ok(source) => {
            mix(&source);
            true
        }
        Err(_) => false,
    }
}

/// The sound checkpoint's safetensors header, and the bytes of the data behind it.
fn weights() -> (Vec<u8>, u64) {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![310, 64]),
        ("model.norm.weight".to_owned(), vec![64]),
    ];
    for layer in 0..2 {
        for (name, shape) in [
            ("self_attn.q_proj.weight", vec![64, 64]),
            ("self_attn.q_proj.bias", vec![64]),
            ("self_attn.k_proj.weight", vec![64, 64]),
            ("self_attn.k_proj.bias", vec![64]),
            ("self_attn.v_proj.weight", vec![64, 64]),
            ("self_attn.v_proj.bias", vec![64]),
            ("self_attn.o_proj.weight", vec![64, 64]),
            ("mlp.gate_proj.weight", vec![128, 64]),
            ("mlp.up_proj.weight", vec![128, 64]),
            ("mlp.down_proj.weight", vec![64, 128]),
            ("input_layernorm.weight", vec![64]),
            ("post_attention_layernorm.weight", vec![64]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}"), shape));
        }
    }
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        let entry = serde_json::json!({
            "dtype": "BF16", "shape": shape, "data_offsets": [begin, end],
        });
        header.insert(name, entry);
    }
    (
        serde_json::Value::Object(header).to_string().into_bytes(),
        end,
    )
}

/// Decides the types, as `convert` does before it reads a weight.
fn mix(source: &Source) {
    let Ok(shape) = source.shape() else { return };
    let infos: Vec<&TensorInfo> = source.tensors.iter().map(|t| &t.info).collect();
    for file_type in [FileType::Q4_K_M, FileType::IQ1_S] {
        let recipe = Recipe::of(file_type);
        let chosen = recipe.choose(&shape, &infos);
        assert_eq!(chosen.len(), infos.len());
    }
}

fn temporary_folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::File::create(path)
        .and_then(|mut file| file.write_all(bytes))
        .expect("the temporary folder can be written");
}

/// Sound files, by the name of the function here that takes them.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let json = |name| {
        let found = CHECKPOINT.iter().find(|(file, _)| *file == name);
        found.expect("it is one of them").1.to_vec()
    };
    vec![
        ("gguf", gguf_seed()),
        ("imatrix", imatrix_seed()),
        ("safetensors", weights().0),
        ("config", json("config.json")),
        ("tokenizer", json("tokenizer.json")),
        ("tokenizer_config", json("tokenizer_config.json")),
    ]
}

fn gguf_seed() -> Vec<u8> {
    let mut metadata = cloister_gguf::Metadata::default();
    metadata.set("general.architecture", "llama");
    metadata.set("general.file_type", 7u32);
    for key in [
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
    ] {
        metadata.set(&format!("llama.{key}"), 2u32);
    }
    metadata.set(
        "tokenizer.ggml.tokens",
        cloister_gguf::Array::String(["a", "b"].iter().collect()),
    );
    let tensors = [
        ("token_embd.weight", vec![256, 2]),
        ("blk.0.attn_v.weight", vec![256, 2]),
        ("blk.1.ffn_down.weight", vec![256, 2]),
        ("output_norm.weight", vec![256]),
    ];
    let tensors = tensors.map(|(name, dims)| {
        TensorInfo::new(name, dims, TensorType::Q8_0).expect("its rows are whole blocks")
    });
    let folder = temporary_folder();
    let path = folder.path().join("m.gguf");
    let written = cloister_gguf::Writer::create(&path, &metadata, tensors.to_vec());
    let mut writer = written.expect("the temporary folder can be written");
    while let Some(tensor) = writer.next_tensor() {
        let bytes = vec![0; tensor.bytes() as usize];
        writer.write(&bytes).expect("as before");
    }
    writer.finish().expect("as before");
    fs::read(path).expect("it was just written")
}

fn imatrix_seed() -> Vec<u8> {
    use crate::imatrix_file::{Entry, Imatrix};
    let entry = |matrices: usize| Entry {
        sums: vec![0.5; 32 * matrices],
        counts: vec![3; matrices],
    };
    let imatrix = Imatrix {
        entries: [("blk.0.attn_q.weight", 1), ("blk.0.ffn_up_exps.weight", 4)]
            .map(|(name, matrices)| (name.to_owned(), entry(matrices)))
            .into(),
        datasets: vec!["text".into()],
        chunk_count: 1,
        chunk_size: 512,
    };
    let folder = temporary_folder();
    let path = folder.path().join("i.gguf");
    imatrix
        .write(&path)
        .expect("the temporary folder can be written");
    fs::read(path).expect("it was just written")
}

#[cfg(test)]
mod tests {
    use super::mutation::Random;
    use super::*;

    #[test]
    fn the_sound_files_are_sound() {
        for (name, _) in CHECKPOINT {
            let bytes = match name {
                WEIGHTS => weights().0,
                _ => CHECKPOINT.iter().find(|f| f.0 == name).unwrap().1.to_vec(),
            };
            assert!(open_with(name, &bytes), "{name}");
        }
        let folder = temporary_folder();
        let path = folder.path().join("f.gguf");
        write(&path, &gguf_seed());
        assert!(Source::open(&path).unwrap().shape().is_ok());
        write(&path, &imatrix_seed());
        assert_eq!(ImatrixFile::open(&path).unwrap().sizes().len(), 2);
    }

    /// What a reader may hold beside the file: buffers of fixed sizes.
    const FIXED: usize = 256 << 10;

    /// A header with a vocabulary, as the real ones are large by it.
    fn vocabulary() -> Vec<u8> {
        use cloister_gguf::{Array, Metadata, Writer};
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", "llama");
        let tokens: Vec<String> = (0..100_000).map(|i| format!("token{i}")).collect();
        metadata.set(
            "tokenizer.ggml.tokens",
            Array::String(tokens.iter().collect()),
        );
        metadata.set("tokenizer.ggml.token_type", Array::I32(vec![1; 100_000]));
        metadata.set("tokenizer.ggml.scores", Array::F32(vec![0.5; 100_000]));
        let folder = temporary_folder();
        let path = folder.path().join("m.gguf");
        let writer = Writer::create(&path, &metadata, Vec::new()).unwrap();
        writer.finish().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn a_header_takes_no_more_memory_than_it_has_bytes() {
        let sound = vocabulary();
        let folder = temporary_folder();
        let path = folder.path().join("m.gguf");
        let mut random = Random::default();
        for round in 0..300 {
            let mut bytes = sound.clone();
            // The first rounds lie in the counts and lengths of the beginning, the rest anywhere.
            match round {
                0 => {}
                1..150 => {
                    let at = 8 + round;
                    let len = bytes.len() as u64;
                    let lie = [len - 200, len / 4, len / 8, 1 << 31, 1 << 62, u64::MAX];
                    let lie = lie[random.below(lie.len())];
                    bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                }
                _ => random.change(&mut bytes),
            }
            write(&path, &bytes);
            let asked = allocations::of(|| drop(Gguf::open_header(&path)));
            assert!(
                asked.most <= bytes.len() + FIXED,
                "round {round}: {asked:?} of {}",
                bytes.len()
            );
        }
    }

    /// Lets the reader of this name have `bytes`, which must neither make it panic nor ask at once for
    /// more memory than the files have.
    fn assert_read(name: &str, bytes: &[u8], of: &str) {
        let read = match name {
            "gguf" => gguf,
            "imatrix" => imatrix,
            "safetensors" => safetensors,
            "config" => config,
            "tokenizer" => tokenizer,
            "tokenizer_config" => tokenizer_config,
            _ => unreachable!("each seed has its reader"),
        };
        let mut sound = true;
        let asked = allocations::of(|| {
            sound = std::panic::catch_unwind(|| read(bytes)).is_ok();
        });
        let shown = String::from_utf8_lossy(bytes);
        assert!(sound, "{name}, {of}: {shown}");
        let beside: usize = CHECKPOINT.iter().map(|(_, bytes)| bytes.len()).sum();
        let files = bytes.len() + beside;
        assert!(
            asked.largest <= files + FIXED,
            "{name}, {of}: {asked:?} for {files} bytes: {shown}"
        );
    }

    #[test]
    fn no_change_of_a_sound_file_makes_a_reader_panic_or_ask_for_more_than_the_file() {
        for (name, seed) in seeds() {
            let mut random = Random::default();
            for round in 0..1000 {
                let mut bytes = seed.clone();
                random.change_some(&mut bytes);
                assert_read(name, &bytes, &format!("round {round}"));
            }
        }
    }

    /// A sample, over all sizes up to 4 KiB, of the files that reached new code while fuzzing.
    #[test]
    fn no_file_of_the_fuzz_corpus_makes_a_reader_panic_or_ask_for_more_than_the_file() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
        for name in ["gguf", "imatrix", "safetensors", "config", "tokenizer"] {
            let files: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().collect();
            assert!(files.len() > 20, "{name}: {} files", files.len());
            for file in files {
                let path = file.unwrap().path();
                assert_read(name, &fs::read(&path).unwrap(), &path.display().to_string());
            }
        }
    }
}
