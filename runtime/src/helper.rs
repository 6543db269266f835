//! Processes that `serve` forks off at its start, for what can end its process or fill its memory: it starts none once
//! it is sealed.
//!
//! In: what such a process is to do, from a process that has one thread. Out: the pipes to it. It seals itself, works on
//! one request after the other, in children that may be lost and end with it, and ends when `serve` has.

use std::ffi::CStr;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Context;

/// The ends of the pipes to a helper.
pub struct Helper {
    pub requests: PipeWriter,
    pub answers: PipeReader,
}

impl Helper {
    /// Forks one off that lives this life, until the pipe of requests ends.
    ///
    /// # Errors
    /// No process can be made.
    pub fn start(
        name: &'static CStr,
        life: impl FnOnce(PipeReader, PipeWriter) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let pipe = || io::pipe().context("cannot make a pipe");
        let ((their_requests, requests), (answers, their_answers)) = (pipe()?, pipe()?);
        // SAFETY: with one thread, the child may do all that this process may.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error())
                .with_context(|| format!("cannot start the helper {}", name.to_string_lossy())),
            0 => {
                drop((requests, answers));
                keep_open([their_requests.as_raw_fd(), their_answers.as_raw_fd()]);
                // SAFETY: prctl copies the name.
                unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
                as_a_child(|| {
                    let lived = life(their_requests, their_answers);
                    if let Err(error) = &lived {
                        eprintln!("cloister: {}: {error:#}", name.to_string_lossy());
                    }
                    lived.is_ok()
                })
            }
            _ => Ok(Self { requests, answers }),
        }
    }
}

/// Closes all files but these two and the three standard ones: the port that `serve` may have been passed is not a
/// helper's business. Where the kernel cannot, it refuses a helper to accept connections all the same.
fn keep_open(mut files: [RawFd; 2]) {
    files.sort_unstable();
    let [first, second] = files.map(RawFd::unsigned_abs);
    for (from, to) in [
        (libc::STDERR_FILENO.unsigned_abs() + 1, first - 1),
        (first + 1, second - 1),
        (second + 1, u32::MAX),
    ] {
        if from <= to {
            // SAFETY: it takes numbers only. Nothing in this child uses what is closed: it ends without dropping it.
            unsafe { libc::close_range(from, to, 0) };
        }
    }
}

/// Has a child of this helper do something. Gives its number; its exit code is 0 where it did.
///
/// # Errors
/// No process can be made.
pub fn child(work: impl FnOnce() -> bool) -> io::Result<libc::pid_t> {
    // SAFETY: a helper has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => as_a_child(work),
        child => Ok(child),
    }
}

/// Ends with the work, and with its parent, unless that is sealed and this is not: nothing of what the parent had in memory
/// is its business.
fn as_a_child(work: impl FnOnce() -> bool) -> ! {
    // SAFETY: prctl takes numbers only here.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
    // SAFETY: ends the process at once.
    unsafe { libc::_exit((!done).into()) }
}

/// Limits this process and the children that it will have, for good.
///
/// # Errors
/// The kernel refuses it: it has another limit already, or a seal that does not let it.
pub fn limit(what: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: setrlimit reads the structure, which lives for the call.
    match unsafe { libc::setrlimit(what, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What `waitpid` says of a child that has ended, or ends soon.
///
/// # Errors
/// There is no such child.
pub fn reap(child: libc::pid_t) -> io::Result<libc::c_int> {
    let mut status = 0;
    // SAFETY: the status is written to a number that lives for the call.
    match unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
        true => Ok(status),
        false => Err(io::Error::last_os_error()),
    }
}

/// A number on its way: little-endian.
pub fn number(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Bytes on their way: their length, and they.
pub fn put(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend((bytes.len() as u32).to_le_bytes());
    to.extend(bytes);
}

/// What [`put`] put.
pub fn taken(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; number(from)? as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
