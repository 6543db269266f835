//! Writes a GGUF file front to back: header first, then each tensor's bytes in order.
//!
//! In: metadata, tensor shapes and types, then bytes. Out: a file that gets its final name only in
//! [`Writer::finish`], after it has been synced. Until then it has a hidden name in the same folder,
//! and it is removed on error or when the writer is dropped.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::{Array, DEFAULT_ALIGNMENT, Error, MAGIC, Metadata, Result, TensorInfo, Value};

/// The version that is written.
const VERSION: u32 = 3;

/// A GGUF file in the making.
#[derive(Debug)]
pub struct Writer {
    file: Option<BufWriter<File>>,
    partial: PathBuf,
    path: PathBuf,
    alignment: u64,
    tensors: Vec<TensorInfo>,
    /// Index of the tensor being written, and how many of its bytes are.
    current: usize,
    written: u64,
}

impl Writer {
    /// Starts the file that will be `path` and writes its header. The offsets in `tensors` are set
    /// here: data follows in the order of `tensors`, each padded to `general.alignment`.
    pub fn create(
        path: &Path,
        metadata: &Metadata,
        mut tensors: Vec<TensorInfo>,
    ) -> Result<Writer> {
        let alignment = metadata
            .u64("general.alignment")
            .unwrap_or(DEFAULT_ALIGNMENT);
        let mut end = 0u64;
        for tensor in &mut tensors {
            tensor.offset = end;
            end = (end + tensor.bytes()).next_multiple_of(alignment);
        }
        let (file, partial) = create_partial(path)?;
        // From here on, dropping the writer removes the file.
        let mut writer = Writer {
            file: Some(BufWriter::with_capacity(1 << 20, file)),
            partial,
            path: path.to_owned(),
            alignment,
            tensors,
            current: 0,
            written: 0,
        };
        let header = encode_header(metadata, &writer.tensors);
        writer.put(&header)?;
        writer.pad(header.len() as u64)?;
        Ok(writer)
    }

    /// The tensor whose bytes come next, or `None` when all are written.
    pub fn next_tensor(&self) -> Option<&TensorInfo> {
        self.tensors.get(self.current)
    }

    /// Where the next bytes go: the number of the tensor, and the row in it. After the last tensor,
    /// their count and row 0.
    pub fn position(&self) -> (usize, u64) {
        let row_bytes = self.next_tensor().map_or(1, TensorInfo::row_bytes);
        (self.current, self.written / row_bytes)
    }

    /// Appends bytes to the current tensor. At its last byte, the next tensor becomes current.
    ///
    /// # Panics
    /// If there are more bytes than the tensor has left.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let size = self
            .next_tensor()
            .expect("no tensor is left to write")
            .bytes();
        self.written += bytes.len() as u64;
        assert!(
            self.written <= size,
            "more bytes than tensor {} has",
            self.tensors[self.current].name
        );
        self.put(bytes)?;
        if self.written == size {
            self.pad(size)?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Syncs the file, gives it its final name and syncs the folder.
    ///
    /// # Panics
    /// If a tensor is missing.
    pub fn finish(mut self) -> Result<()> {
        assert!(
            self.next_tensor().is_none(),
            "finished before the last tensor"
        );
        let io = |action: &'static str| {
            let path = self.path.clone();
            move |reason| Error::Io {
                path,
                action,
                reason,
            }
        };
        let file = self.file.take().expect("the file is there until finish");
        let file = file.into_inner().map_err(|e| io("write")(e.into_error()))?;
        file.sync_all().map_err(io("write"))?;
        std::fs::rename(&self.partial, &self.path).map_err(io("rename"))?;
        let folder = File::open(folder_of(&self.path)).map_err(io("sync the folder of"))?;
        folder.sync_all().map_err(io("sync the folder of"))
    }

    /// Writes what `size` bytes lack of a multiple of the alignment, which a file may set to
    /// gigabytes.
    fn pad(&mut self, size: u64) -> Result<()> {
        let mut padding = size.next_multiple_of(self.alignment) - size;
        while padding > 0 {
            let zeros = &[0; 4096][..padding.min(4096) as usize];
            self.put(zeros)?;
            padding -= zeros.len() as u64;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_mut().expect("the file is there until finish");
        file.write_all(bytes).map_err(|reason| Error::Io {
            path: self.path.clone(),
            action: "write",
            reason,
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Without a flush: the bytes are wanted no more.
            drop(file.into_parts());
        }
        // After a rename there is nothing of this name; a failure leaves a file that says by its
        // name what it is.
        let _ = std::fs::remove_file(&self.partial);
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Creates a file with a hidden name beside `path`. What a killed process left under such a name,
/// perhaps one of our own id, is stepped over.
fn create_partial(path: &Path) -> Result<(File, PathBuf)> {
    let fail = |reason| Error::Io {
        path: path.to_owned(),
        action: "create",
        reason,
    };
    let Some(name) = path.file_name() else {
        return Err(fail(std::io::Error::other("it has no file name")));
    };
    let process = std::process::id();
    let mut attempt = 0;
    loop {
        let partial = format!(".{}.{process}-{attempt}.partial", name.to_string_lossy());
        let partial = folder_of(path).join(partial);
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&partial)
        {
            Ok(file) => return Ok((file, partial)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(error) => return Err(fail(error)),
        }
    }
}

fn encode_header(metadata: &Metadata, tensors: &[TensorInfo]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_string(&mut out, key.as_bytes());
        out.extend(value.type_number().to_le_bytes());
        put_value(&mut out, value);
    }
    for tensor in tensors {
        put_string(&mut out, tensor.name.as_bytes());
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        for dim in &tensor.dims {
            out.extend(dim.to_le_bytes());
        }
        out.extend(tensor.tensor_type.number().to_le_bytes());
        out.extend(tensor.offset.to_le_bytes());
    }
    out
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => out.extend(n.to_le_bytes()),
        Value::I8(n) => out.extend(n.to_le_bytes()),
        Value::U16(n) => out.extend(n.to_le_bytes()),
        Value::I16(n) => out.extend(n.to_le_bytes()),
        Value::U32(n) => out.extend(n.to_le_bytes()),
        Value::I32(n) => out.extend(n.to_le_bytes()),
        Value::U64(n) => out.extend(n.to_le_bytes()),
        Value::I64(n) => out.extend(n.to_le_bytes()),
        Value::F32(n) => out.extend(n.to_le_bytes()),
        Value::F64(n) => out.extend(n.to_le_bytes()),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::String(s) => put_string(out, s.as_bytes()),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type_number().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U16(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I16(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U64(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I64(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F64(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|b| u8::from(*b))),
        Array::String(v) => v.iter().for_each(|s| put_string(out, s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorType;

    fn start(path: &Path) -> Result<Writer> {
        let tensor = TensorInfo::new("t", vec![4], TensorType::F32).unwrap();
        Writer::create(path, &Metadata::default(), vec![tensor])
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_final_name_appears_only_when_the_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let mut writer = start(&path).unwrap();
        writer.write(&[1; 8]).unwrap();
        assert!(!path.exists());
        assert_eq!(names(folder.path()).len(), 1);
        writer.write(&[2; 8]).unwrap();
        writer.finish().unwrap();
        assert_eq!(names(folder.path()), ["m.gguf"]);
        crate::Gguf::open(&path).unwrap();
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_nothing_and_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, "old").unwrap();
        let mut writer = start(&path).unwrap();
        writer.write(&[1; 8]).unwrap();
        drop(writer);
        assert_eq!(names(folder.path()), ["m.gguf"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn what_a_killed_process_left_is_stepped_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let killed = start(&path).unwrap();
        let mut writer = start(&path).unwrap();
        writer.write(&[0; 16]).unwrap();
        writer.finish().unwrap();
        std::mem::forget(killed);
        assert_eq!(names(folder.path()).len(), 2);
        crate::Gguf::open(&path).unwrap();
    }

    #[test]
    fn a_missing_folder_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let line = start(&folder.path().join("no/m.gguf"))
            .unwrap_err()
            .to_string();
        assert!(line.contains("no/m.gguf: cannot create"), "{line}");
    }
}
