//! What the tests of this crate share: the binary, the fetched models, a small random model.

#![allow(dead_code)] // each test file uses its part

pub mod hugging_face;
pub mod llama_quantize;
pub mod published;
pub mod recorded;

use hugging_face::{shapes, stored};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cloister_gguf::{Gguf, Metadata, TensorInfo, TensorType, Writer};

/// A run of `cloister-quantize` that has ended.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// The single line of a failure with exit code `code`.
    #[track_caller]
    pub fn error_line(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        let line = self.stderr.trim_end();
        assert!(
            !line.is_empty() && !line.contains('\n'),
            "one line is wanted: {}",
            self.stderr
        );
        line
    }

    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
    }
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_cloister-quantize")
}

/// Runs the binary to its end.
pub fn cloister_quantize<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    Command::new(binary()).args(args).output().unwrap().into()
}

pub fn convert(source: &Path, out: &Path, file_type: &str) -> Run {
    let (source, out) = (source.to_str().unwrap(), out.to_str().unwrap());
    cloister_quantize(["convert", source, out, "--type", file_type])
}

/// The most memory that a child had resident, in bytes, after its success.
pub fn peak_memory(command: &mut Command) -> u64 {
    let (peak, status) = peak_memory_and_status(command);
    assert_eq!(status, 0, "the conversion failed");
    peak
}

/// The most memory that a child had resident, in bytes, and how it ended.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
pub fn peak_memory_and_status(command: &mut Command) -> (u64, i32) {
    let child = command.spawn().unwrap();
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: `status` and `usage` are valid for writing; all zeroes is a valid `rusage`. The child
    // is ours and nobody else waits for it.
    let usage = unsafe {
        let pid = libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr());
        assert_eq!(pid, child.id() as i32);
        usage.assume_init()
    };
    (usage.ru_maxrss as u64 * 1024, status)
}

/// A model that `tests/fetch` has fetched.
pub fn fetched(name: &str) -> PathBuf {
    let cache = match std::env::var_os("CLOISTER_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cloister/cache"),
    };
    let path = cache.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run tests/fetch first",
        path.display()
    );
    path
}

/// The names in a folder, hidden ones too.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Bytes of one tensor.
pub fn tensor_bytes(gguf: &Gguf, tensor: &TensorInfo) -> Vec<u8> {
    let mut bytes = vec![0; tensor.bytes() as usize];
    gguf.read_tensor(tensor, 0, &mut bytes).unwrap();
    bytes
}

/// A random model that has the names and keys of a real one and as few rows as can be: what the
/// rules for types look at, and nothing more.
pub struct RandomModel {
    pub architecture: &'static str,
    pub layers: u32,
    pub heads: u32,
    pub heads_kv: u32,
    /// Row length of most weights.
    pub hidden: u64,
    /// Row length of `ffn_down`.
    pub feed_forward: u64,
    /// Without an output matrix of its own.
    pub tied: bool,
}

impl RandomModel {
    pub fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", self.architecture);
        metadata.set("general.name", "random");
        for (key, value) in [
            ("block_count", self.layers),
            ("context_length", 64),
            ("embedding_length", self.hidden as u32),
            ("feed_forward_length", self.feed_forward as u32),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.heads_kv),
            ("vocab_size", 4),
        ] {
            metadata.set(&format!("{}.{key}", self.architecture), value);
        }
        let epsilon = format!("{}.attention.layer_norm_rms_epsilon", self.architecture);
        metadata.set(&epsilon, 1e-6f32);
        metadata
    }

    pub fn tensors(&self) -> Vec<TensorInfo> {
        let (hidden, feed_forward) = (self.hidden, self.feed_forward);
        let tensor = |name: &str, dims: &[u64]| {
            TensorInfo::new(name, dims.to_vec(), TensorType::F32).unwrap()
        };
        let mut tensors = vec![
            tensor("token_embd.weight", &[hidden, 4]),
            tensor("output_norm.weight", &[hidden]),
        ];
        if !self.tied {
            tensors.push(tensor("output.weight", &[hidden, 4]));
        }
        // Backwards, so that nobody can take the order in the file for the order of layers.
        for layer in (0..self.layers).rev() {
            for (name, dims) in [
                ("attn_norm.weight", &[hidden][..]),
                ("attn_q.weight", &[hidden, 4]),
                ("attn_q.bias", &[4]),
                ("attn_k.weight", &[hidden, 4]),
                ("attn_v.weight", &[hidden, 4]),
                ("attn_output.weight", &[hidden, 4]),
                ("ffn_norm.weight", &[hidden]),
                ("ffn_gate.weight", &[hidden, 4]),
                ("ffn_up.weight", &[hidden, 4]),
                ("ffn_down.weight", &[feed_forward, 4]),
            ] {
                tensors.push(tensor(&format!("blk.{layer}.{name}"), dims));
            }
        }
        tensors
    }

    /// Writes it with F32 weights, [`random_weights`].
    pub fn write(&self, path: &Path) {
        self.write_with(path, |_, value| value);
    }

    /// Writes it with each weight passed through `change` with its tensor's name.
    pub fn write_with(&self, path: &Path, change: impl Fn(&str, f32) -> f32) {
        let mut writer = Writer::create(path, &self.metadata(), self.tensors()).unwrap();
        let mut weights = random_weights();
        while let Some(tensor) = writer.next_tensor().cloned() {
            let values = weights.by_ref().take(tensor.elements() as usize);
            let bytes: Vec<u8> = values
                .flat_map(|value| change(&tensor.name, value).to_le_bytes())
                .collect();
            writer.write(&bytes).unwrap();
        }
        writer.finish().unwrap();
    }
}

/// Weights like those of a trained model: small, some of them large.
pub fn random_weights() -> impl Iterator<Item = f32> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let uniform = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        uniform.powi(3) * 0.2
    })
}

/// A small model for tests that want just any.
pub const ANY: RandomModel = RandomModel {
    architecture: "llama",
    layers: 2,
    heads: 4,
    heads_kv: 2,
    hidden: 256,
    feed_forward: 256,
    tied: true,
};
