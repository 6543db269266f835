//! Writes a GGUF file front to back: header first, then each tensor's bytes in order.
//!
//! In: metadata, tensor shapes and types, then bytes. Out: a file that gets its final name only in
//! [`Writer::finish`], after it has been synced. Until then it is a [`partial`] one beside it: either
//! hidden and removed when the writer is dropped, or, for work of hours, one that a later process
//! can resume, even after a power cut.

mod encode;
mod journal;
mod partial;
mod syncer;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{DEFAULT_ALIGNMENT, Error, Metadata, Result, TensorInfo};
use encode::encode_header;
use journal::Journal;
use partial::Partial;
pub use partial::partial_path;
use syncer::Syncer;

/// Bytes that a resumable file may have on their way to the disk before writing waits for them. It
/// keeps a slow disk from collecting gigabytes that every other program's writes would wait for.
const SYNC_BYTES: u64 = 32 << 20;

/// What a partial file is made from and how, as names and values of one line each: it is resumed
/// only by work that has the same.
pub type Identity = Vec<(String, String)>;

/// A GGUF file in the making.
#[derive(Debug)]
pub struct Writer {
    file: Option<BufWriter<File>>,
    partial: Partial,
    path: PathBuf,
    alignment: u64,
    tensors: Vec<TensorInfo>,
    /// Bytes of the whole file.
    size: u64,
    /// Bytes of the file that are written.
    end: u64,
    /// Index of the tensor being written, and how many of its bytes are.
    current: usize,
    written: u64,
    /// Of a resumable file.
    syncer: Option<Syncer>,
    /// Bytes that the syncer knows of.
    sent: u64,
}

/// What is known of the file before any of it is written.
struct Plan {
    header: Vec<u8>,
    alignment: u64,
    tensors: Vec<TensorInfo>,
    size: u64,
}

impl Plan {
    fn new(metadata: &Metadata, mut tensors: Vec<TensorInfo>) -> Plan {
        let alignment = metadata
            .u64("general.alignment")
            .unwrap_or(DEFAULT_ALIGNMENT);
        let mut end = 0u64;
        for tensor in &mut tensors {
            tensor.offset = end;
            end = (end + tensor.bytes()).next_multiple_of(alignment);
        }
        let header = encode_header(metadata, &tensors);
        let size = (header.len() as u64).next_multiple_of(alignment) + end;
        Plan {
            header,
            alignment,
            tensors,
            size,
        }
    }

    fn data_start(&self) -> u64 {
        (self.header.len() as u64).next_multiple_of(self.alignment)
    }
}

/// Bytes of the file that [`Writer`] would make of these.
pub fn file_size(metadata: &Metadata, tensors: Vec<TensorInfo>) -> u64 {
    Plan::new(metadata, tensors).size
}

impl Writer {
    /// Starts the file that will be `path` and writes its header. The offsets in `tensors` are set
    /// here: data follows in the order of `tensors`, each padded to `general.alignment`.
    ///
    /// Until it is finished the file has a hidden name; it is removed on error or when the writer
    /// is dropped.
    pub fn create(path: &Path, metadata: &Metadata, tensors: Vec<TensorInfo>) -> Result<Writer> {
        let (file, partial) = Partial::hidden(path)?;
        Writer::start(path, file, partial, Plan::new(metadata, tensors))
    }

    /// Starts a file that can be resumed: until it is finished it is `path` with `.partial` after
    /// it, and a journal beside it tells how much of it is safe on the disk. One that was left by
    /// earlier work is replaced. Dropping the writer leaves both; see [`Writer::discard`].
    pub fn create_resumable(
        path: &Path,
        metadata: &Metadata,
        tensors: Vec<TensorInfo>,
        identity: &Identity,
    ) -> Result<Writer> {
        let (file, partial) = Partial::named(path)?;
        Journal::remove(partial.path())?;
        file.set_len(0).map_err(Error::io(path, "write"))?;
        let mut writer = Writer::start(path, file, partial, Plan::new(metadata, tensors))?;
        let journal = Journal::new(writer.partial.path(), identity.clone());
        writer.sync_as_it_goes(journal)?;
        Ok(writer)
    }

    /// Goes on with the file that [`Writer::create_resumable`] left, behind the last whole row that
    /// is known to be safe. `None` if there is nothing to go on with.
    ///
    /// # Errors
    /// [`Error::Resume`] if what is there comes from another source or other options.
    pub fn resume(
        path: &Path,
        metadata: &Metadata,
        tensors: Vec<TensorInfo>,
        identity: &Identity,
    ) -> Result<Option<Writer>> {
        let Some((mut file, partial)) = Partial::existing(path)? else {
            return Ok(None);
        };
        let Some((journal, synced)) = Journal::read(partial.path())? else {
            return Ok(None);
        };
        let refuse = |problem: String| Error::Resume {
            path: partial.path().to_owned(),
            problem,
        };
        if let Some(difference) = journal.difference(identity) {
            return Err(refuse(difference));
        }
        let plan = Plan::new(metadata, tensors);
        let mut header = vec![0; plan.header.len()];
        let len = file
            .metadata()
            .map_err(Error::io(partial.path(), "read"))?
            .len();
        if synced < plan.data_start() || len < synced || plan.size < synced {
            return Err(refuse(format!(
                "{synced} of its bytes should be written, but it has {len}"
            )));
        }
        file.read_exact(&mut header)
            .map_err(Error::io(partial.path(), "read"))?;
        if header != plan.header {
            return Err(refuse("its header is not the one that is wanted".into()));
        }
        let (current, written) = plan.place(synced);
        let end = match plan.tensors.get(current) {
            Some(tensor) => plan.data_start() + tensor.offset + written,
            None => plan.size,
        };
        file.set_len(end)
            .map_err(Error::io(partial.path(), "write"))?;
        file.seek(SeekFrom::Start(end))
            .map_err(Error::io(partial.path(), "write"))?;
        let mut writer = Writer::of(path, file, partial, plan);
        (writer.current, writer.written, writer.end) = (current, written, end);
        writer.sync_as_it_goes(journal)?;
        Ok(Some(writer))
    }

    fn of(path: &Path, file: File, partial: Partial, plan: Plan) -> Writer {
        Writer {
            file: Some(BufWriter::with_capacity(1 << 20, file)),
            partial,
            path: path.to_owned(),
            alignment: plan.alignment,
            tensors: plan.tensors,
            size: plan.size,
            end: 0,
            current: 0,
            written: 0,
            syncer: None,
            sent: 0,
        }
    }

    fn start(path: &Path, file: File, partial: Partial, mut plan: Plan) -> Result<Writer> {
        let header = std::mem::take(&mut plan.header);
        let mut writer = Writer::of(path, file, partial, plan);
        writer.put(&header)?;
        writer.pad(header.len() as u64)?;
        Ok(writer)
    }

    /// From here on, what is written goes to the disk soon and into the journal after that.
    fn sync_as_it_goes(&mut self, journal: Journal) -> Result<()> {
        self.flush()?;
        let file = self.file.as_ref().expect("the file is there until finish");
        let file = file.get_ref().try_clone();
        let file = file.map_err(Error::io(&self.path, "write"))?;
        self.sent = self.end;
        self.syncer = Some(Syncer::start(file, &self.path, journal, self.end)?);
        Ok(())
    }

    /// Bytes that the whole file will have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the file that are written, the header among them.
    pub fn end(&self) -> u64 {
        self.end
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
        if self.syncer.is_some() && self.end - self.sent >= SYNC_BYTES {
            self.flush()?;
            self.sent = self.end;
            let syncer = self.syncer.as_mut().expect("it is there");
            syncer.sync(self.end)?;
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
        self.flush()?;
        if let Some(syncer) = self.syncer.take() {
            syncer.end()?;
        }
        let file = self.file.take().expect("the file is there until finish");
        let file = file.into_parts().0;
        file.sync_all().map_err(Error::io(&self.path, "write"))?;
        self.partial.rename(&self.path)
    }

    /// Leaves a resumable file as far as it is, synced, with its name, for [`Writer::resume`]. Gives
    /// the bytes that are safe. After a write that failed, what was written before it is kept.
    pub fn keep(mut self) -> Result<u64> {
        let flushed = self.flush();
        let Some(mut syncer) = self.syncer.take() else {
            return flushed.map(|()| 0);
        };
        if flushed.is_ok() {
            syncer.sync(self.end)?;
        }
        syncer.end_with_journal()
    }

    /// Removes a resumable file and its journal: what went wrong would go wrong again.
    pub fn discard(mut self) {
        if let Some(syncer) = self.syncer.take() {
            let _ = syncer.end(); // it can say no more than the error that led here
        }
        self.partial.remove();
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
        file.write_all(bytes)
            .map_err(Error::io(&self.path, "write"))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let file = self.file.as_mut().expect("the file is there until finish");
        file.flush().map_err(Error::io(&self.path, "write"))
    }
}

impl Plan {
    /// The tensor, and the bytes of its whole rows, that the first `synced` bytes of the file reach.
    fn place(&self, synced: u64) -> (usize, u64) {
        for (index, tensor) in self.tensors.iter().enumerate() {
            let start = self.data_start() + tensor.offset;
            if synced < start + tensor.bytes().next_multiple_of(self.alignment) {
                let there = synced.saturating_sub(start).min(tensor.bytes());
                let rows = there / tensor.row_bytes();
                // All rows but not all padding: the last row is written again, and the padding.
                let rows = rows.min(tensor.rows() - 1);
                return (index, rows * tensor.row_bytes());
            }
        }
        (self.tensors.len(), 0)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Without a flush: the bytes are wanted no more.
            drop(file.into_parts());
        }
    }
}
