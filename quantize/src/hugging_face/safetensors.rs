//! Reads tensors from safetensors files: one `model.safetensors`, or shards with an index.
//!
//! In: a folder. Out: names, shapes, types and positioned reads. Nothing in a header is trusted.
//! The format: <https://huggingface.co/docs/safetensors>.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cloister_gguf::TensorType;
use serde::Deserialize;
use serde_json::Value;

use super::json_file::JsonFile;

/// The format's own limit for the JSON at the start of a file, in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// All tensors of a folder.
pub struct Checkpoint {
    folder: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, StoredTensor>,
}

/// A tensor in one of the files.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    pub tensor_type: TensorType,
    /// In PyTorch's order: the last is the length of a row.
    pub shape: Vec<u64>,
    file: usize,
    /// Bytes from the start of the file.
    start: u64,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Checkpoint {
    pub fn open(folder: &Path) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint {
            folder: folder.to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
        };
        let index = folder.join("model.safetensors.index.json");
        if let Some(index) = JsonFile::read_if_there(&index)? {
            let weights = weight_map(&index)?;
            for file in weights.values().collect::<BTreeSet<_>>() {
                checkpoint.add_file(&folder.join(file))?;
            }
            for (name, file) in &weights {
                if !checkpoint.tensors.contains_key(name) {
                    bail!("{}: tensor {name} is missing", folder.join(file).display());
                }
            }
        } else {
            checkpoint.add_file(&folder.join("model.safetensors"))?;
        }
        Ok(checkpoint)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("{shown}: cannot open"))?;
        let len = file
            .metadata()
            .with_context(|| format!("{shown}: cannot read"))?
            .len();
        let mut start = [0; 8];
        if len < 8 {
            bail!("{shown}: no safetensors file: it has {len} bytes");
        }
        file.read_exact_at(&mut start, 0)
            .with_context(|| format!("{shown}: cannot read"))?;
        let header_len = u64::from_le_bytes(start);
        if header_len > MAX_HEADER_BYTES || header_len > len - 8 {
            bail!("{shown}: damaged: its header of {header_len} bytes cannot be in {len} bytes");
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact_at(&mut header, 8)
            .with_context(|| format!("{shown}: cannot read"))?;
        let mut entries: BTreeMap<String, Value> = serde_json::from_slice(&header)
            .map_err(|error| anyhow::anyhow!("{shown}: damaged header: {error}"))?;
        entries.remove("__metadata__");

        let data_start = 8 + header_len;
        for (name, entry) in entries {
            let tensor = Checkpoint::entry(entry, data_start, len)
                .with_context(|| format!("{shown}: tensor {name}"))?;
            let tensor = StoredTensor {
                file: self.files.len(),
                ..tensor
            };
            if self.tensors.insert(name.clone(), tensor).is_some() {
                bail!("{shown}: tensor {name} is in another file too");
            }
        }
        self.files.push((path.to_owned(), file));
        Ok(())
    }

    fn entry(entry: Value, data_start: u64, file_len: u64) -> Result<StoredTensor> {
        let Entry {
            dtype,
            shape,
            data_offsets: [begin, end],
        } = serde_json::from_value(entry).map_err(|error| anyhow::anyhow!("damaged: {error}"))?;
        let tensor_type = match &dtype[..] {
            "F32" => TensorType::F32,
            "F16" => TensorType::F16,
            "BF16" => TensorType::BF16,
            _ => bail!("type {dtype} cannot be converted; F32, F16 and BF16 can"),
        };
        let elements = shape
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim));
        let bytes = elements.and_then(|n| tensor_type.bytes_of(n));
        if end.checked_sub(begin) != bytes {
            bail!("damaged: bytes {begin} to {end} are not {shape:?} of {dtype}");
        }
        if end > file_len - data_start {
            bail!(
                "cut short: it ends at byte {end} of {}",
                file_len - data_start
            );
        }
        Ok(StoredTensor {
            tensor_type,
            shape,
            file: 0,
            start: data_start + begin,
        })
    }

    /// The folder, for errors.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Fills `buffer` with bytes of `tensor`, from byte `start` of it.
    pub fn read(&self, tensor: &StoredTensor, start: u64, buffer: &mut [u8]) -> Result<()> {
        let (path, file) = &self.files[tensor.file];
        file.read_exact_at(buffer, tensor.start + start)
            .with_context(|| format!("{}: cannot read", path.display()))
    }
}

/// Tensor names with the names of their files, which must lie in the folder itself.
fn weight_map(index: &JsonFile) -> Result<BTreeMap<String, String>> {
    let shown = index.path().display();
    let map = index.get("weight_map").cloned().unwrap_or_default();
    let map: BTreeMap<String, String> = serde_json::from_value(map)
        .map_err(|error| anyhow::anyhow!("{shown}: weight_map: {error}"))?;
    if map.is_empty() {
        bail!("{shown}: weight_map is empty");
    }
    if let Some(file) = map
        .values()
        .find(|f| f.contains('/') || !f.ends_with(".safetensors"))
    {
        bail!("{shown}: {file:?} is no safetensors file beside the index");
    }
    Ok(map)
}
