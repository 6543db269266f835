//! Moves a model through: threads that each read and quantize chunks, while the caller's thread
//! writes what is ready, in the order of the file.
//!
//! In: a source, the tensors of the output, a writer that may have some of them already. Out: the
//! rest, written. A chunk of any tensor follows the last one of the tensor before it, so that small
//! tensors hold nobody up. Memory is the window's and the threads' buffers, whatever the model's size.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use anyhow::Result;
use cloister_gguf::{TensorInfo, Writer};

use super::chunk::{Buffers, Chunk, chunks};
use crate::imatrix_file::ImatrixFile;
use crate::source::Source;

/// Bytes of finished chunks that may wait for the disk. It bridges the time that a sync takes.
pub const WINDOW_BYTES: u64 = 32 << 20;

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All tensors are written.
    Complete,
    /// The stop flag was seen.
    Stopped,
}

/// Threads that quantize: one for each core, and one more, for the time in which another waits for
/// the disk.
pub fn threads() -> usize {
    cores() + 1
}

/// Cores that this process may use.
pub fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Chunks that may be taken and not written.
fn window(targets: &[TensorInfo]) -> usize {
    let largest = chunks(targets, 0, 0).map(|chunk| bytes(&chunk, targets));
    let largest = largest.max().unwrap_or(1);
    (WINDOW_BYTES / largest).clamp(2 * threads() as u64, 1024) as usize
}

fn bytes(chunk: &Chunk, targets: &[TensorInfo]) -> u64 {
    chunk.rows * targets[chunk.tensor].row_bytes()
}

/// What is left to do, handed out in order.
struct Feed<C> {
    chunks: C,
    next: usize,
    /// Empty buffers. Who takes one is within the window.
    free: Receiver<Vec<u8>>,
}

impl<C: Iterator<Item = Chunk>> Feed<C> {
    /// The next chunk, its number, and room for its bytes; `None` at the end or when the writer is
    /// gone.
    fn take(&mut self) -> Option<(usize, Chunk, Vec<u8>)> {
        let buffer = self.free.recv().ok()?;
        let chunk = self.chunks.next()?;
        let number = self.next;
        self.next += 1;
        Some((number, chunk, buffer))
    }
}

/// A chunk's bytes, why there are none, or the panic that kept them from coming.
type Converted = Result<Result<Vec<u8>>, Box<dyn Any + Send>>;

/// Converts and writes what `writer` lacks. After each chunk, `progress` gets its tensor's number and
/// its bytes.
pub fn run(
    source: &Source,
    targets: &[TensorInfo],
    imatrix: Option<&ImatrixFile>,
    writer: &mut Writer,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize, u64),
) -> Result<Outcome> {
    let (tensor, first_row) = writer.position();
    let order = || chunks(targets, tensor, first_row);
    let (give_back, free) = channel();
    for _ in 0..window(targets) {
        give_back.send(Vec::new()).expect("the receiver is here");
    }
    let feed = Mutex::new(Feed {
        chunks: order(),
        next: 0,
        free,
    });
    let (send, finished) = channel::<(usize, Converted)>();
    let work = |send: std::sync::mpsc::Sender<_>| {
        let mut buffers = Buffers::default();
        loop {
            let taken = feed.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some((number, chunk, mut bytes)) = taken else {
                return;
            };
            // A panic must reach the writer, who would wait for the chunk forever.
            let converted = catch_unwind(AssertUnwindSafe(|| {
                chunk.convert(
                    source,
                    &targets[chunk.tensor],
                    imatrix,
                    &mut buffers,
                    &mut bytes,
                )?;
                Ok(bytes)
            }));
            if send.send((number, converted)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads() {
            let send = send.clone();
            scope.spawn(|| work(send));
        }
        drop(send);
        // Owned by this closure: however it ends, the threads see that nobody waits for them.
        let (give_back, finished) = (give_back, finished);
        let mut early = BTreeMap::new();
        for (number, chunk) in order().enumerate() {
            let converted = loop {
                if stop.load(Ordering::Relaxed) {
                    return Ok(Outcome::Stopped);
                }
                if let Some(converted) = early.remove(&number) {
                    break converted;
                }
                match finished.recv_timeout(Duration::from_millis(100)) {
                    Ok((other, converted)) => drop(early.insert(other, converted)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => unreachable!("chunks are left"),
                }
            };
            let bytes = converted.unwrap_or_else(|panic| resume_unwind(panic))?;
            writer.write(&bytes)?;
            progress(chunk.tensor, bytes.len() as u64);
            // At the end the threads are gone, and nobody wants it back.
            let _ = give_back.send(bytes);
        }
        Ok(Outcome::Complete)
    })
}
