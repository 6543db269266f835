//! Work that recurses as deep as a text is long, which the stack of a caller would not hold.
//!
//! In: how much stack it may take, and the work. Out: what it gives.

use std::io;
use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// Has `work` done on a thread with that many bytes of stack, and waits for it. The kernel gives as much memory as is used.
///
/// # Errors
/// There is no room for the thread.
///
/// # Panics
/// As `work` does.
pub fn on_stack_of<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    scope(|scope| {
        let thread = Builder::new().stack_size(bytes).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
