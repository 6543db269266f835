//! Reads and checks a file's header, and hands out tensor bytes with positioned reads.
//!
//! In: a path. Out: a [`Gguf`]. The header is parsed front to back; before anything is allocated,
//! its size is held against the bytes that are left.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::value::TYPE_NAMES;
use crate::{
    Array, DEFAULT_ALIGNMENT, Error, MAGIC, Metadata, Result, StringArray, TensorInfo, TensorType,
    Value,
};

/// The largest header (metadata and tensor infos) that is read. Real ones, vocabulary included, are
/// around 10 MB; the limit keeps a lying length in a file of many gigabytes from filling the memory.
pub const MAX_HEADER_BYTES: u64 = 512 << 20;

/// Longest tensor name in bytes, ggml's `GGML_MAX_NAME` less its closing zero.
const MAX_TENSOR_NAME: usize = 63;

/// llama.cpp compares and reads these as C strings: behind a zero, it and this reader would see different files.
const NUL: &str = "has a zero byte in a name or text";

/// An open GGUF file whose header has been read and found sound.
#[derive(Debug)]
pub struct Gguf {
    /// Format version, 2 or 3.
    pub version: u32,
    /// Keys and values, in file order.
    pub metadata: Metadata,
    /// Tensors, in the order of the header.
    pub tensors: Vec<TensorInfo>,
    /// Alignment of tensor data in bytes, a power of two.
    pub alignment: u64,
    /// Bytes from the start of the file to its data section.
    pub data_start: u64,
    /// Bytes in the file.
    pub file_len: u64,
    path: PathBuf,
    file: Option<File>,
}

impl Gguf {
    /// Opens a whole model: header sound, all tensor data there and in this file.
    pub fn open(path: &Path) -> Result<Gguf> {
        let gguf = Gguf::open_header(path)?;
        check_alone(&gguf.metadata, path)?;
        gguf.check_data()?;
        Ok(gguf)
    }

    /// Opens a file of which only the header need be there. [`Gguf::check_data`] tells whether the
    /// rest is.
    pub fn open_header(path: &Path) -> Result<Gguf> {
        let io = |action| {
            move |reason| Error::Io {
                path: path.to_owned(),
                action,
                reason,
            }
        };
        // Before it is opened, and by what is open, in case another has taken its place: who opens a pipe waits for
        // somebody who writes into it.
        let regular = |stat: std::io::Result<std::fs::Metadata>| {
            let stat = stat.map_err(io("open"))?;
            match stat.is_file() {
                true => Ok(stat),
                false => Err(io("read")(std::io::Error::other("it is no regular file"))),
            }
        };
        regular(path.metadata())?;
        let file = File::open(path).map_err(io("open"))?;
        let stat = regular(file.metadata())?;
        let mut gguf = Gguf::parse(BufReader::with_capacity(1 << 16, &file), path, stat.len())?;
        gguf.file = Some(file);
        Ok(gguf)
    }

    /// Parses a header from `reader`, which starts at the first byte of a file of `file_len` bytes.
    /// `path` is for errors.
    fn parse(reader: impl Read, path: &Path, file_len: u64) -> Result<Gguf> {
        let mut header = HeaderReader {
            reader,
            path,
            offset: 0,
            limit: file_len.min(MAX_HEADER_BYTES),
        };
        if file_len < 4 || header.bytes::<4>("magic")? != MAGIC {
            return Err(Error::NotGguf {
                path: path.to_owned(),
            });
        }
        let version = header.u32("version")?;
        if version != 2 && version != 3 {
            return Err(match version.swap_bytes() {
                2 | 3 => Error::BigEndian {
                    path: path.to_owned(),
                },
                _ => Error::Version {
                    path: path.to_owned(),
                    version,
                },
            });
        }
        let n_tensors = header.u64("tensor count")?;
        let n_keys = header.u64("key count")?;
        // The least that a tensor info and a key take in the file.
        header.check_count(n_tensors, 8 + 4 + 8 + 4 + 8, "tensors")?;
        header.check_count(n_keys, 8 + 4 + 1, "keys")?;

        let metadata = header.metadata(n_keys)?;
        let alignment = alignment(&metadata, path)?;
        let tensors = header.tensors(n_tensors)?;
        let data_start = header.offset.next_multiple_of(alignment);
        check_places(&tensors, alignment, data_start, path)?;
        Ok(Gguf {
            version,
            metadata,
            tensors,
            alignment,
            data_start,
            file_len,
            path: path.to_owned(),
            file: None,
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensor of this name, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// Checks that the file is long enough for all tensors.
    pub fn check_data(&self) -> Result<()> {
        let end = |t: &TensorInfo| self.data_start + t.offset + t.bytes();
        let needed = self.tensors.iter().map(end).max().unwrap_or(0);
        if needed <= self.file_len {
            return Ok(());
        }
        let mut cut: Vec<_> = self
            .tensors
            .iter()
            .filter(|t| end(t) > self.file_len)
            .collect();
        cut.sort_by_key(|t| t.offset);
        Err(Error::DataCut {
            path: self.path.clone(),
            tensor: cut[0].name.clone(),
            needed,
            file_len: self.file_len,
        })
    }

    /// Reads `buffer.len()` bytes of a tensor of this file, from byte `start` of it.
    ///
    /// # Panics
    /// If that range goes beyond the tensor.
    pub fn read_tensor(&self, tensor: &TensorInfo, start: u64, buffer: &mut [u8]) -> Result<()> {
        assert!(
            start + buffer.len() as u64 <= tensor.bytes(),
            "read beyond tensor {}",
            tensor.name
        );
        let file = self
            .file
            .as_ref()
            .expect("a Gguf that users hold has its file");
        file.read_exact_at(buffer, self.data_start + tensor.offset + start)
            .map_err(|reason| Error::Io {
                path: self.path.clone(),
                action: "read",
                reason,
            })
    }

    /// A required key as a string.
    pub fn require_str(&self, key: &str) -> Result<&str> {
        self.metadata
            .str(key)
            .ok_or_else(|| self.missing(key, "a string"))
    }

    /// A required key as a whole number that is not negative.
    pub fn require_u64(&self, key: &str) -> Result<u64> {
        self.metadata
            .u64(key)
            .ok_or_else(|| self.missing(key, "a whole number"))
    }

    fn missing(&self, key: &str, wanted: &str) -> Error {
        let problem = match self.metadata.get(key) {
            None => format!("is missing; {wanted} is needed"),
            Some(value) => format!("is of type {}; {wanted} is needed", value.type_name()),
        };
        Error::Key {
            path: self.path.clone(),
            key: key.to_owned(),
            problem,
        }
    }
}

fn alignment(metadata: &Metadata, path: &Path) -> Result<u64> {
    const KEY: &str = "general.alignment";
    let problem = match metadata.get(KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(n)) if n.is_power_of_two() => return Ok((*n).into()),
        Some(Value::U32(n)) => format!("{n} is no power of two"),
        Some(other) => format!("is of type {}, not u32", other.type_name()),
    };
    Err(Error::Key {
        path: path.to_owned(),
        key: KEY.to_owned(),
        problem,
    })
}

/// A part of a split model is refused: llama.cpp opens the others by itself, and nobody would have checked them.
fn check_alone(metadata: &Metadata, path: &Path) -> Result<()> {
    const KEY: &str = "split.count";
    match metadata.get(KEY) {
        None => Ok(()),
        Some(count) if count.as_u64().is_some_and(|count| count <= 1) => Ok(()),
        Some(_) => Err(Error::Key {
            path: path.to_owned(),
            key: KEY.to_owned(),
            problem: "one part of a split model; merge the parts first (llama-gguf-split --merge)"
                .to_owned(),
        }),
    }
}

/// Tensors must start aligned, stay below 2^63 and not overlap.
fn check_places(
    tensors: &[TensorInfo],
    alignment: u64,
    data_start: u64,
    path: &Path,
) -> Result<()> {
    let fail = |t: &TensorInfo, problem: String| {
        Err(Error::Tensor {
            path: path.to_owned(),
            tensor: t.name.clone(),
            problem,
        })
    };
    let mut in_order: Vec<&TensorInfo> = tensors.iter().collect();
    in_order.sort_by_key(|t| t.offset);
    let mut free_from = 0;
    for tensor in in_order {
        if !tensor.offset.is_multiple_of(alignment) {
            return fail(
                tensor,
                format!("offset {} is not a multiple of {alignment}", tensor.offset),
            );
        }
        if tensor.offset < free_from {
            return fail(
                tensor,
                format!("offset {} lies inside another tensor", tensor.offset),
            );
        }
        let end = tensor.offset.checked_add(tensor.bytes());
        match end.and_then(|end| end.checked_add(data_start)) {
            Some(file_end) if file_end <= i64::MAX as u64 => {
                free_from = file_end - data_start;
            }
            _ => return fail(tensor, format!("offset {} overflows", tensor.offset)),
        }
    }
    Ok(())
}

/// A reader that knows how many bytes may still come.
struct HeaderReader<'p, R> {
    reader: R,
    path: &'p Path,
    offset: u64,
    /// Where the header must have ended, in bytes.
    limit: u64,
}

impl<R: Read> HeaderReader<'_, R> {
    fn left(&self) -> u64 {
        self.limit - self.offset
    }

    /// Fails unless `wanted` bytes can follow.
    fn need(&self, wanted: u64, reading: &str) -> Result<()> {
        if wanted <= self.left() {
            return Ok(());
        }
        Err(Error::HeaderCut {
            path: self.path.to_owned(),
            reading: reading.to_owned(),
            offset: self.offset,
            wanted,
            left: self.left(),
        })
    }

    fn fill(&mut self, buffer: &mut [u8], reading: &str) -> Result<()> {
        self.need(buffer.len() as u64, reading)?;
        self.reader.read_exact(buffer).map_err(|reason| Error::Io {
            path: self.path.to_owned(),
            action: "read",
            reason,
        })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, reading: &str) -> Result<[u8; N]> {
        let mut buffer = [0; N];
        self.fill(&mut buffer, reading)?;
        Ok(buffer)
    }

    fn u32(&mut self, reading: &str) -> Result<u32> {
        self.bytes(reading).map(u32::from_le_bytes)
    }

    fn u64(&mut self, reading: &str) -> Result<u64> {
        self.bytes(reading).map(u64::from_le_bytes)
    }

    /// Reads a length and so many bytes.
    fn string(&mut self, reading: &str) -> Result<Vec<u8>> {
        let length = self.u64(reading)?;
        self.need(length, reading)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, reading)?;
        Ok(bytes)
    }

    fn check_count(&self, count: u64, least_bytes: u64, of_what: &str) -> Result<()> {
        if count <= self.left() / least_bytes {
            return Ok(());
        }
        let problem = format!(
            "{count} {of_what} cannot lie in the {} bytes left",
            self.left()
        );
        Err(Error::Header {
            path: self.path.to_owned(),
            problem,
        })
    }

    fn metadata(&mut self, n_keys: u64) -> Result<Metadata> {
        let mut metadata = Metadata::default();
        let mut seen = HashSet::new();
        for i in 0..n_keys {
            let reading = format!("key {} of {n_keys}", i + 1);
            let key = String::from_utf8(self.string(&reading)?).map_err(|_| Error::Header {
                path: self.path.to_owned(),
                problem: format!("{reading} is not UTF-8"),
            })?;
            if key.contains('\0') {
                return Err(self.key_error(&key.replace('\0', "\\0"), NUL.into()));
            }
            let type_number = self.u32(&key)?;
            let value = self.value(&key, type_number)?;
            if !seen.insert(key.clone()) {
                return Err(self.key_error(&key, "appears twice".into()));
            }
            metadata.push(key, value);
        }
        Ok(metadata)
    }

    fn value(&mut self, key: &str, type_number: u32) -> Result<Value> {
        Ok(match type_number {
            0 => Value::U8(self.bytes::<1>(key)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.bytes(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes(key)?)),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(i32::from_le_bytes(self.bytes(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes(key)?)),
            7 => {
                let byte = self.bytes::<1>(key)?[0];
                Value::Bool(self.bool(key, byte)?)
            }
            8 => match String::from_utf8(self.string(key)?) {
                Ok(text) if text.contains('\0') => return Err(self.key_error(key, NUL.into())),
                Ok(text) => Value::String(text),
                Err(_) => return Err(self.key_error(key, "its string is not UTF-8".into())),
            },
            9 => Value::Array(self.array(key)?),
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.bytes(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes(key)?)),
            other => return Err(self.key_error(key, format!("has the unknown value type {other}"))),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array> {
        let type_number = self.u32(key)?;
        let count = self.u64(key)?;
        Ok(match type_number {
            0 => Array::U8(self.numbers(key, count, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(key, count, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(key, count, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(key, count, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(key, count, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(key, count, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(key, count, f32::from_le_bytes)?),
            7 => {
                let bytes = self.numbers(key, count, u8::from_le_bytes)?;
                Array::Bool(
                    bytes
                        .into_iter()
                        .map(|b| self.bool(key, b))
                        .collect::<Result<_>>()?,
                )
            }
            8 => {
                self.need(count.saturating_mul(8), key)?;
                let mut strings = StringArray::with_capacity(count as usize);
                for others in (0..count).rev() {
                    let length = self.u64(key)?;
                    // Of each that follows, at least the length.
                    self.need(length.saturating_add(others * 8), key)?;
                    let left = (self.left() - length - others * 8) as usize;
                    self.fill(strings.push_zeros(length as usize, left), key)?;
                }
                strings.shrink();
                Array::String(strings)
            }
            10 => Array::U64(self.numbers(key, count, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(key, count, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(key, count, f64::from_le_bytes)?),
            other => {
                let inner = TYPE_NAMES
                    .get(other as usize)
                    .copied()
                    .unwrap_or("unknown type");
                return Err(self.key_error(key, format!("is an array of {inner} ({other})")));
            }
        })
    }

    fn numbers<T, const N: usize>(
        &mut self,
        key: &str,
        count: u64,
        from_le: fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        self.need(count.saturating_mul(N as u64), key)?;
        let mut numbers = Vec::with_capacity(count as usize);
        for _ in 0..count {
            numbers.push(from_le(self.bytes(key)?));
        }
        Ok(numbers)
    }

    fn bool(&self, key: &str, byte: u8) -> Result<bool> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.key_error(key, format!("holds the byte {byte} as a bool"))),
        }
    }

    fn tensors(&mut self, n_tensors: u64) -> Result<Vec<TensorInfo>> {
        let mut tensors = Vec::new();
        let mut seen = HashSet::new();
        for i in 0..n_tensors {
            let reading = format!("tensor {} of {n_tensors}", i + 1);
            let name = String::from_utf8_lossy(&self.string(&reading)?).into_owned();
            let fail = |problem: String| Error::Tensor {
                path: self.path.to_owned(),
                tensor: name
                    .replace('\0', "\\0")
                    .chars()
                    .take(MAX_TENSOR_NAME)
                    .collect(),
                problem,
            };
            if name.is_empty() || name.len() > MAX_TENSOR_NAME || name.contains('\u{fffd}') {
                return Err(fail(format!(
                    "a name is 1 to {MAX_TENSOR_NAME} bytes of UTF-8"
                )));
            }
            if name.contains('\0') {
                return Err(fail(NUL.into()));
            }
            if !seen.insert(name.clone()) {
                return Err(fail("appears twice".into()));
            }
            let n_dims = self.u32(&name)?;
            if n_dims > 4 {
                let problem = format!("has {n_dims} dimensions; 1 to 4 are allowed");
                return Err(self.tensor_error(&name, problem));
            }
            let dims = (0..n_dims)
                .map(|_| self.u64(&name))
                .collect::<Result<_>>()?;
            let type_number = self.u32(&name)?;
            let tensor_type = TensorType::from_number(type_number).ok_or_else(|| {
                self.tensor_error(&name, format!("has the unknown type {type_number}"))
            })?;
            let offset = self.u64(&name)?;
            let tensor = TensorInfo {
                name,
                dims,
                tensor_type,
                offset,
            };
            if let Some(problem) = tensor.problem() {
                return Err(self.tensor_error(&tensor.name, problem));
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn key_error(&self, key: &str, problem: String) -> Error {
        Error::Key {
            path: self.path.to_owned(),
            // A damaged length can make a key of a megabyte; the error stays one line.
            key: key.chars().take(100).collect(),
            problem: format!("{problem} (before byte {})", self.offset),
        }
    }

    fn tensor_error(&self, tensor: &str, problem: String) -> Error {
        Error::Tensor {
            path: self.path.to_owned(),
            tensor: tensor.to_owned(),
            problem: format!("{problem} (before byte {})", self.offset),
        }
    }
}

#[cfg(test)]
mod tests;
