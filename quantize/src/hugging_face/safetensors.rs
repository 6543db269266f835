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
    pub dtype: Dtype,
    /// In PyTorch's order: the last is the length of a row.
    pub shape: Vec<u64>,
    file: usize,
    /// Bytes from the start of the file.
    start: u64,
}

/// What a tensor's elements are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    BF16,
    F8E4M3,
}

impl Dtype {
    /// The type that its rows are read as: FP8 becomes F32 with its scales.
    pub fn read_as(self) -> TensorType {
        match self {
            Dtype::F32 | Dtype::F8E4M3 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Dtype::F8E4M3 => 1,
            other => other.read_as().block_bytes(),
        }
    }
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
                let path = folder.join(file);
                match checkpoint.tensors.get(name) {
                    Some(tensor) if checkpoint.file_of(tensor) == path => {}
                    _ => bail!(
                        "{}: tensor {name} is missing, which {} says is in it",
                        path.display(),
                        index.path().display()
                    ),
                }
            }
            let index = index.path().display();
            if let Some(name) = checkpoint.names().find(|name| !weights.contains_key(*name)) {
                let file = checkpoint.file_of_name(name).display();
                bail!("{file}: tensor {name} is not in {index}");
            }
            for file in shards(folder)? {
                if !checkpoint.files.iter().any(|(path, _)| *path == file) {
                    bail!("{}: is not in {index}", file.display());
                }
            }
        } else {
            let mut files = shards(folder)?;
            if files.is_empty() {
                files.push(folder.join("model.safetensors")); // for the error
            }
            for file in &files {
                if let Some(missing) = missing_shard(file, &files) {
                    bail!("{}: this shard is missing", missing.display());
                }
                checkpoint.add_file(file)?;
            }
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
        if &start == b"version " {
            bail!("{shown}: a Git LFS pointer, not the weights themselves: run git lfs pull");
        }
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
        let mut places = Vec::new();
        for (name, entry) in entries {
            let tensor = Checkpoint::entry(entry, data_start, len)
                .with_context(|| format!("{shown}: tensor {name}"))?;
            let tensor = StoredTensor {
                file: self.files.len(),
                ..tensor
            };
            let elements: u64 = tensor.shape.iter().product();
            let bytes = elements * tensor.dtype.bytes();
            places.push((tensor.start, tensor.start + bytes, name.clone()));
            if self.tensors.insert(name.clone(), tensor).is_some() {
                bail!("{shown}: tensor {name} is in another file too");
            }
        }
        places.sort();
        for ((_, end, one), (start, _, other)) in places.iter().zip(places.iter().skip(1)) {
            if end > start {
                bail!("{shown}: damaged: tensors {one} and {other} overlap");
            }
        }
        let data_end = places.last().map_or(data_start, |(_, end, _)| *end);
        if data_end != len {
            bail!("{shown}: damaged: {len} bytes, but its tensors end at {data_end}");
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
        let stored = match &dtype[..] {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::BF16,
            "F8_E4M3" => Dtype::F8E4M3,
            _ => bail!("type {dtype} cannot be converted; F32, F16, BF16 and F8_E4M3 can"),
        };
        let elements = shape
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim));
        let bytes = elements.and_then(|n| n.checked_mul(stored.bytes()));
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
            dtype: stored,
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

    /// The file that holds a tensor, for errors.
    pub fn file_of(&self, tensor: &StoredTensor) -> &Path {
        &self.files[tensor.file].0
    }

    /// The file that holds the tensor `name`, or the folder if none does.
    pub fn file_of_name(&self, name: &str) -> &Path {
        self.tensor(name)
            .map_or(&self.folder, |tensor| self.file_of(tensor))
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

/// The files of weights in a folder, by name.
fn shards(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("{}: cannot read", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            files.push(folder.join(&*name));
        }
    }
    files.sort();
    Ok(files)
}

/// Of `model-00001-of-00003.safetensors`, the first of the three that is not among `files`.
fn missing_shard(file: &Path, files: &[PathBuf]) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?.strip_suffix(".safetensors")?;
    let (start, count) = name.rsplit_once("-of-")?;
    let (start, number) = start.rsplit_once('-')?;
    let width = number.len();
    let names = (1..=count.parse::<u32>().ok()?)
        .map(|i| file.with_file_name(format!("{start}-{i:0width$}-of-{count}.safetensors")));
    names.into_iter().find(|path| !files.contains(path))
}
