//! What a model file says about itself, told without loading it.
//!
//! In: a path. Out: facts from the header, and a digest that tells one file from another. Reads at most a few
//! MiB of the weights.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloister_gguf::Gguf;
use sha2::{Digest, Sha256};

use crate::error::LoadError;
use crate::llama::file_type_name;
use crate::model::id_of;
use crate::pooling::Pooling;
use crate::reasoning::CLOSE;

/// Facts about a model file.
#[derive(Clone, Debug)]
pub struct Card {
    /// The file.
    pub path: PathBuf,
    /// The name that requests use.
    pub id: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// When it was changed last.
    pub modified: SystemTime,
    /// 64 hexadecimal digits: of the header, the length, and samples of the weights, so that it takes no time
    /// for a file of any length. Two files that a person could mistake for each other differ in it.
    pub digest: String,
    /// `general.architecture`, such as `qwen2`.
    pub architecture: String,
    /// Number of weights.
    pub n_params: u64,
    /// Its type as files are named, such as `Q4_K_M`; empty when the file does not say.
    pub quantization: String,
    /// Whether it was made to think before it answers.
    pub thinks: bool,
    /// Whether it makes vectors of texts in place of answers.
    pub pooling: Pooling,
}

impl Card {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// [`LoadError::File`] when it is no sound GGUF, or cannot be read.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let file = Gguf::open_header(path)?;
        let unreadable = |reason| {
            LoadError::File(cloister_gguf::Error::Io {
                path: path.to_owned(),
                action: "read",
                reason,
            })
        };
        let digest = digest(path, file.data_start, file.file_len).map_err(unreadable)?;
        let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
        let text = |key| file.metadata.str(key).unwrap_or_default();
        let file_type = file.metadata.u64("general.file_type");
        Ok(Self {
            path: path.to_owned(),
            id: id_of(path),
            bytes: file.file_len,
            modified: modified.map_err(unreadable)?,
            digest,
            architecture: text("general.architecture").to_owned(),
            n_params: file.tensors.iter().map(|tensor| tensor.elements()).sum(),
            quantization: file_type.map_or_else(String::new, |n| short(&file_type_name(n))),
            thinks: text("tokenizer.chat_template").contains(CLOSE),
            pooling: Pooling::of(&file.metadata),
        })
    }
}

/// llama.cpp's `Q4_K - Medium` as files are named: `Q4_K_M`.
fn short(name: &str) -> String {
    match name.split_once(" - ") {
        Some((kind, size)) => format!("{kind}_{}", &size[..1.min(size.len())]),
        None => name.trim_start_matches("all ").to_owned(),
    }
}

/// Bytes of one sample, and how many are taken of the weights.
const SAMPLE: u64 = 16 << 10;
const SAMPLES: u64 = 64;

/// A digest that tells one model file from another: see [`Card::digest`].
pub fn digest(path: &Path, data_start: u64, len: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let mut hash = Sha256::new();
    hash.update(len.to_le_bytes());
    let mut buffer = vec![0; 1 << 20];
    let mut add = |from: u64, to: u64| -> io::Result<()> {
        let mut at = from;
        while at < to {
            let n = (to - at).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..n], at)?;
            hash.update(&buffer[..n]);
            at += n as u64;
        }
        Ok(())
    };
    let data_start = data_start.min(len);
    add(0, data_start)?;
    let data = len - data_start;
    for sample in 0..SAMPLES {
        let from = data_start + data / SAMPLES * sample;
        add(from, (from + SAMPLE).min(len))?;
    }
    add(len.saturating_sub(SAMPLE).max(data_start), len)?;
    let bytes = hash.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_that_files_have() {
        for (long, name) in [
            ("Q4_K - Medium", "Q4_K_M"),
            ("Q3_K - Small", "Q3_K_S"),
            ("Q4_1", "Q4_1"),
            ("all F32", "F32"),
        ] {
            assert_eq!(short(long), name);
        }
    }

    #[test]
    fn another_byte_in_the_header_or_in_a_sample_is_another_digest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![7u8; 3 << 20];
        let mut seen = Vec::new();
        for at in [0, 999, 1000, 5000, (3 << 20) - 1] {
            std::fs::write(file.path(), &bytes).unwrap();
            seen.push(digest(file.path(), 1000, bytes.len() as u64).unwrap());
            bytes[at] ^= 1;
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5);
        assert_eq!(seen[0].len(), 64);
    }
}
