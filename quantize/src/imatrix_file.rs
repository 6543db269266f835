//! The file of an importance matrix, in the GGUF form that `llama-imatrix` writes and
//! `llama-quantize` reads: for each weight the sums of squares of the activations that met its
//! columns, and how many activations those were. A weight of several matrices (stacked experts) has
//! sums for each of them.
//!
//! In: a path. Out: an [`ImatrixFile`] that reads entries when they are asked for (that of a 671B
//! model takes a gigabyte), or a whole [`Imatrix`] in memory, which can also be written. Nothing in
//! a file is trusted: shapes, counts and values are checked before any is handed out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cloister_gguf::{Array, Gguf, Metadata, TensorInfo, TensorType, Value, Writer};

const TYPE: &str = "general.type";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// An importance matrix in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imatrix {
    /// What was collected, by the name of the weight: `blk.0.attn_q.weight`.
    pub entries: BTreeMap<String, Entry>,
    /// The texts it was collected on, as their paths were given.
    pub datasets: Vec<String>,
    /// Chunks of text it was collected on.
    pub chunk_count: u32,
    /// Tokens in a chunk.
    pub chunk_size: u32,
}

/// What was collected for one weight.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// Sums of squared activations, `[n_matrices, n_columns]`, row-major: for each matrix of the
    /// weight as many as its rows have elements.
    pub sums: Vec<f32>,
    /// Activation rows behind the sums: one count for each matrix, or a single one for all.
    pub counts: Vec<u64>,
}

impl Entry {
    /// The mean of the squares, which is what ggml's quantizers take: of the shape of `sums`. A
    /// matrix that met no activation counts each of its columns alike.
    pub fn importance(&self) -> Vec<f32> {
        let matrix = self.sums.len() / self.counts.len();
        let matrices = self.sums.chunks(matrix).zip(&self.counts);
        matrices
            .flat_map(|(sums, &count)| {
                sums.iter().map(move |sum| match count {
                    0 => 1.0,
                    _ => sum / count as f32,
                })
            })
            .collect()
    }
}

/// An imatrix file whose header has been read and found sound.
pub struct ImatrixFile {
    gguf: Gguf,
    /// Indices into the file's tensors: sums and counts.
    places: BTreeMap<String, (usize, usize)>,
    /// See [`Imatrix::datasets`].
    pub datasets: Vec<String>,
    /// See [`Imatrix::chunk_count`].
    pub chunk_count: u32,
    /// See [`Imatrix::chunk_size`].
    pub chunk_size: u32,
}

impl ImatrixFile {
    /// Opens a file and checks everything but the numbers themselves, which [`ImatrixFile::entry`]
    /// checks.
    pub fn open(path: &Path) -> Result<ImatrixFile> {
        let gguf = Gguf::open(path).map_err(|error| match error {
            cloister_gguf::Error::NotGguf { path } => anyhow::anyhow!(
                "{}: no imatrix in GGUF form; an old one (.dat) becomes one with \
                 llama-imatrix --in-file OLD.dat -o NEW.gguf",
                path.display()
            ),
            other => other.into(),
        })?;
        let shown = path.display();
        if gguf.metadata.str(TYPE) != Some("imatrix") {
            bail!("{shown}: no imatrix (its {TYPE} is not \"imatrix\")");
        }
        let number = |key: &str| -> Result<u32> {
            let number = u32::try_from(gguf.require_u64(key)?);
            number.with_context(|| format!("{shown}: key {key}: too large"))
        };
        let (chunk_count, chunk_size) = (number(CHUNK_COUNT)?, number(CHUNK_SIZE)?);
        let datasets = match gguf.metadata.get(DATASETS).and_then(Value::as_array) {
            Some(Array::String(names)) => names
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
            _ => bail!("{shown}: key {DATASETS}: an array of strings is needed"),
        };
        let places = places(&gguf)?;
        if places.is_empty() {
            bail!("{shown}: an imatrix without a single entry");
        }
        Ok(ImatrixFile {
            gguf,
            places,
            datasets,
            chunk_count,
            chunk_size,
        })
    }

    /// The weights that have an entry, with the number of sums in it, in the order of their names.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.places
            .iter()
            .map(|(name, &(sums, _))| (name.as_str(), self.gguf.tensors[sums].elements()))
    }

    /// Whether a weight has an entry.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Reads every entry and holds it against the weights of a model. An entry for a weight that the
    /// model lacks, or has in another size, is a sign of another model.
    pub fn check(&self, tensors: &[&TensorInfo]) -> Result<()> {
        let path = self.gguf.path().display();
        let known: BTreeMap<&str, &TensorInfo> =
            tensors.iter().map(|t| (t.name.as_str(), *t)).collect();
        for (name, size) in self.sizes() {
            // With tied embeddings these two names mean one tensor, collected as either.
            if name == "output.weight" || name == "token_embd.weight" {
                self.entry(name)?;
                continue;
            }
            let Some(tensor) = known.get(name) else {
                bail!(
                    "{path}: an imatrix of another model: it has an entry for {name}, which this \
                     model lacks; collect one from this model"
                );
            };
            let wanted = columns_of_all(tensor);
            if size != wanted {
                bail!(
                    "{path}: an imatrix of another model: {size} columns for {name}, which has \
                     {wanted} in this model; collect one from this model"
                );
            }
            self.entry(name)?;
        }
        Ok(())
    }

    /// The importance of each column of the matrix of `tensor` in which row `row` lies, if the file
    /// has an entry of its size: the part of [`Entry::importance`] for that matrix.
    pub fn of_matrix(&self, tensor: &TensorInfo, row: u64) -> Result<Option<Vec<f32>>> {
        let Some(&(sums, counts)) = self.places.get(&tensor.name) else {
            return Ok(None);
        };
        let (sums, counts) = (&self.gguf.tensors[sums], &self.gguf.tensors[counts]);
        if sums.elements() != columns_of_all(tensor) {
            return Ok(None);
        }
        let columns = tensor.row_elements();
        let first = row / tensor.dims.get(1).copied().unwrap_or(1) * columns;
        // Which count: there is one for each matrix, or one for all of them.
        let count = first / (sums.elements() / counts.elements());
        let count = self.floats_of(counts, count, 1)?;
        let sums = self.floats_of(sums, first, columns)?;
        let entry = Entry {
            sums,
            counts: vec![count[0].round() as u64],
        };
        Ok(Some(entry.importance()))
    }

    /// Sets the keys that `llama-quantize` records of an importance matrix.
    pub fn record(&self, metadata: &mut Metadata) {
        // llama.cpp's own overrides hold strings of 127 bytes at most.
        let short = |text: &str| text[..text.floor_char_boundary(127)].to_owned();
        let path = self.gguf.path().to_string_lossy();
        metadata.set("quantize.imatrix.file", short(&path));
        if let Some(dataset) = self.datasets.first() {
            metadata.set("quantize.imatrix.dataset", short(dataset));
        }
        let entries = self.places.len() as u32;
        metadata.set("quantize.imatrix.entries_count", entries);
        if self.chunk_count > 0 {
            metadata.set("quantize.imatrix.chunks_count", self.chunk_count);
        }
    }

    /// Reads the entry of a weight, if it has one.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>> {
        let Some(&(sums, counts)) = self.places.get(name) else {
            return Ok(None);
        };
        let path = self.gguf.path().display();
        let sums = self.floats(&self.gguf.tensors[sums])?;
        let counts = self.floats(&self.gguf.tensors[counts])?;
        // What squares cannot sum to, and what cannot be counted.
        if let Some(bad) = sums.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
            bail!("{path}: {name}: a sum of squares is {bad}; collect the imatrix again");
        }
        if let Some(bad) = counts.iter().find(|c| !(c.is_finite() && **c >= 0.0)) {
            bail!("{path}: {name}: a count is {bad}; collect the imatrix again");
        }
        let counts = counts.iter().map(|c| c.round() as u64).collect();
        Ok(Some(Entry { sums, counts }))
    }

    fn floats(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        self.floats_of(tensor, 0, tensor.elements())
    }

    /// `count` elements of an F32 tensor, from element `first` on.
    fn floats_of(&self, tensor: &TensorInfo, first: u64, count: u64) -> Result<Vec<f32>> {
        let mut bytes = vec![0; 4 * count as usize];
        self.gguf.read_tensor(tensor, 4 * first, &mut bytes)?;
        let fours = bytes.as_chunks::<4>().0;
        Ok(fours.iter().map(|four| f32::from_le_bytes(*four)).collect())
    }
}

/// Columns of a weight, over all its matrices.
fn columns_of_all(tensor: &TensorInfo) -> u64 {
    tensor.row_elements() * tensor.dims.get(2).copied().unwrap_or(1)
}

/// Finds the two tensors of each entry and holds their shapes against each other.
fn places(gguf: &Gguf) -> Result<BTreeMap<String, (usize, usize)>> {
    let path = gguf.path().display();
    let mut found: BTreeMap<&str, (Option<usize>, Option<usize>)> = BTreeMap::new();
    for (index, tensor) in gguf.tensors.iter().enumerate() {
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            found.entry(name).or_default().0 = Some(index);
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
            found.entry(name).or_default().1 = Some(index);
        } else {
            continue;
        }
        if tensor.tensor_type != TensorType::F32 {
            bail!(
                "{path}: tensor {}: its type is {}, not F32",
                tensor.name,
                tensor.tensor_type
            );
        }
    }
    let mut places = BTreeMap::new();
    for (name, pair) in found {
        let (Some(sums), Some(counts)) = pair else {
            bail!("{path}: {name}: {SUMS} or {COUNTS} is missing");
        };
        let (n_sums, n_counts) = (
            gguf.tensors[sums].elements(),
            gguf.tensors[counts].elements(),
        );
        if !n_sums.is_multiple_of(n_counts) {
            bail!("{path}: {name}: {n_sums} sums do not divide among {n_counts} counts");
        }
        places.insert(name.to_owned(), (sums, counts));
    }
    Ok(places)
}

impl Imatrix {
    /// Reads a whole file.
    #[allow(dead_code)] // convert reads entry by entry; tests read whole files
    pub fn read(path: &Path) -> Result<Imatrix> {
        let file = ImatrixFile::open(path)?;
        let mut entries = BTreeMap::new();
        for name in file.places.keys() {
            let entry = file.entry(name)?.expect("the name is the file's own");
            entries.insert(name.clone(), entry);
        }
        Ok(Imatrix {
            entries,
            datasets: file.datasets,
            chunk_count: file.chunk_count,
            chunk_size: file.chunk_size,
        })
    }

    /// Writes it; the file gets its name when it is whole.
    ///
    /// # Errors
    /// If there is no room, or an entry's sums do not divide among its counts.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut metadata = Metadata::default();
        metadata.set(TYPE, "imatrix");
        let datasets = Array::String(self.datasets.iter().collect());
        metadata.set(DATASETS, datasets);
        metadata.set(CHUNK_COUNT, self.chunk_count);
        metadata.set(CHUNK_SIZE, self.chunk_size);

        let mut tensors = Vec::with_capacity(2 * self.entries.len());
        for (name, entry) in &self.entries {
            let (sums, counts) = (entry.sums.len(), entry.counts.len());
            if counts == 0 || sums == 0 || !sums.is_multiple_of(counts) {
                bail!(
                    "{}: {name}: {sums} sums do not divide among {counts} counts",
                    path.display()
                );
            }
            for (suffix, columns) in [(SUMS, sums / counts), (COUNTS, 1)] {
                let mut dims = vec![columns as u64];
                // A trailing dimension of 1 is no dimension to ggml.
                if counts > 1 {
                    dims.push(counts as u64);
                }
                let info = TensorInfo::new(format!("{name}{suffix}"), dims, TensorType::F32);
                tensors.push(info.expect("a small F32 tensor is a sound one"));
            }
        }
        let mut writer = Writer::create(path, &metadata, tensors)?;
        for entry in self.entries.values() {
            let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let sums: Vec<u8> = bytes(&entry.sums);
            writer.write(&sums)?;
            let counts: Vec<f32> = entry.counts.iter().map(|&c| c as f32).collect();
            let counts: Vec<u8> = bytes(&counts);
            writer.write(&counts)?;
        }
        Ok(writer.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Imatrix {
        let dense = Entry {
            sums: vec![2.0, 8.0, 0.0, 4.0],
            counts: vec![4],
        };
        let experts = Entry {
            sums: vec![9.0, 6.0, 0.0, 0.0, 1.0, 2.0],
            counts: vec![3, 0, 1],
        };
        Imatrix {
            entries: [
                ("blk.0.attn_q.weight".to_owned(), dense),
                ("blk.1.ffn_up_exps.weight".to_owned(), experts),
            ]
            .into(),
            datasets: vec!["calibration.txt".to_owned()],
            chunk_count: 7,
            chunk_size: 512,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.gguf");
        sample().write(&path).unwrap();
        assert_eq!(Imatrix::read(&path).unwrap(), sample());
        let gguf = Gguf::open(&path).unwrap();
        let dims = |name: &str| gguf.tensor(name).unwrap().dims.clone();
        assert_eq!(dims("blk.0.attn_q.weight.in_sum2"), [4]);
        assert_eq!(dims("blk.0.attn_q.weight.counts"), [1]);
        assert_eq!(dims("blk.1.ffn_up_exps.weight.in_sum2"), [2, 3]);
        assert_eq!(dims("blk.1.ffn_up_exps.weight.counts"), [1, 3]);
    }

    #[test]
    fn importance_is_the_mean_square_of_each_matrix_by_itself() {
        let imatrix = sample();
        let dense = &imatrix.entries["blk.0.attn_q.weight"];
        assert_eq!(dense.importance(), [0.5, 2.0, 0.0, 1.0]);
        let experts = &imatrix.entries["blk.1.ffn_up_exps.weight"];
        assert_eq!(experts.importance(), [3.0, 2.0, 1.0, 1.0, 1.0, 2.0]);
    }

    #[test]
    fn what_cannot_be_an_imatrix_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.gguf");
        let mut bad = sample();
        let sums = &mut bad.entries.get_mut("blk.0.attn_q.weight").unwrap().sums;
        sums[1] = f32::NAN;
        bad.write(&path).unwrap();
        let line = Imatrix::read(&path).unwrap_err().to_string();
        assert!(
            line.contains("blk.0.attn_q.weight: a sum of squares is NaN"),
            "{line}"
        );

        Imatrix::default().write(&path).unwrap();
        let line = Imatrix::read(&path).unwrap_err().to_string();
        assert!(line.contains("without a single entry"), "{line}");

        std::fs::write(&path, b"\x05\0\0\0 an old imatrix").unwrap();
        let line = Imatrix::read(&path).unwrap_err().to_string();
        assert!(line.contains("no imatrix in GGUF form"), "{line}");
    }
}
