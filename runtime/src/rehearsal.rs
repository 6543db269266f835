//! Tries model files out in a process of their own: a file whose metadata lies can make llama.cpp abort, which
//! would end the box and whatever it is answering.
//!
//! In: a path. Out: nothing, or one line for the user. The helper for it (`helper.rs`) reads models and writes nothing;
//! each trial is a child of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, OnceLock};

use cloister_engine::{KvType, Options, rehearse, usable_cores};
use cloister_sandbox::processes;

use crate::helper::{self, Helper, number, put, taken};

/// The most bytes of last words that are kept.
const MAX_WORDS: usize = 1 << 16;

static HELPER: OnceLock<Mutex<Helper>> = OnceLock::new();

/// A file to be tried out. On the way: threads (u32), whether the KV cache is Q8_0 (u8), the path's length (u32)
/// and bytes. Little-endian.
struct Request {
    model: PathBuf,
    threads: usize,
    q8_0: bool,
}

/// How it went. On the way: what `wait` gave (i32), the length (u32) and bytes of the last words.
struct Outcome {
    status: ExitStatus,
    words: Vec<u8>,
}

/// Forks the helper off, which may read `models`. To be called while there is one thread.
///
/// # Errors
/// No process can be made.
pub fn start_helper(models: &[&Path]) -> anyhow::Result<()> {
    let helper = Helper::start(c"model-trial", |requests, answers| {
        help(models, requests, answers)
    })?;
    assert!(HELPER.set(Mutex::new(helper)).is_ok(), "started once");
    Ok(())
}

/// Has the helper try a file out; an error is one line for the user.
pub fn by_the_helper(model: &Path, options: &Options) -> Result<(), String> {
    let request = Request {
        model: model.to_owned(),
        threads: options.n_threads.unwrap_or_else(usable_cores),
        q8_0: options.kv_type == KvType::Q8_0,
    };
    let mut helper = HELPER
        .get()
        .expect("it is started before any model is loaded")
        .lock()
        .expect("no panic while held");
    let outcome = request
        .write(&mut helper.requests)
        .and_then(|()| Outcome::read(&mut helper.answers));
    let Outcome { status, words } = outcome.map_err(|_| {
        let model = model.display();
        format!("{model}: cannot be tried out: the process for that has ended; start again")
    })?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&words);
    let last = said
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    match status.signal() {
        None => Err(last
            .unwrap_or("the trial of the model file gave no reason")
            .to_owned()),
        Some(signal) => Err(format!(
            "{}: llama.cpp fails at this model, so its header lies or is damaged: {}; get the file again",
            model.display(),
            last.map_or_else(|| format!("signal {signal}"), str::to_owned),
        )),
    }
}

/// The helper's life: request after request, until the pipe ends.
fn help(models: &[&Path], mut requests: PipeReader, mut answers: PipeWriter) -> anyhow::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    processes::model_trial(models).seal()?;
    while let Ok(request) = Request::read(&mut requests) {
        let outcome = try_out(&request, &requests, &nowhere)?;
        // Nobody waits for it where `serve` has ended meanwhile.
        if outcome.write(&mut answers).is_err() {
            break;
        }
    }
    Ok(())
}

/// One trial, in a child.
fn try_out(request: &Request, requests: &PipeReader, nowhere: &File) -> anyhow::Result<Outcome> {
    let (mut reader, writer) = io::pipe()?;
    let child = helper::child(|| {
        // SAFETY: these take numbers only.
        unsafe {
            libc::dup2(nowhere.as_raw_fd(), libc::STDOUT_FILENO);
            libc::dup2(writer.as_raw_fd(), libc::STDERR_FILENO);
        }
        let tried = rehearsed(request);
        if let Err(reason) = &tried {
            eprintln!("{reason}");
        }
        tried.is_ok()
    })?;
    drop(writer);
    let mut words = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if parent_has_gone(requests.as_raw_fd(), reader.as_raw_fd()) {
            // SAFETY: the child is not reaped yet, so its number is not another's.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        match reader.read(&mut piece)? {
            0 => break,
            n => words.extend_from_slice(&piece[..n]),
        }
        words.drain(..words.len().saturating_sub(MAX_WORDS));
    }
    let status = ExitStatus::from_raw(helper::reap(child)?);
    Ok(Outcome { status, words })
}

/// Waits until there are words to read, or their end; or until nobody is left to make requests: true. The kernel does
/// not tell: it sends no signal from a sealed parent to who is not under its seal.
fn parent_has_gone(requests: RawFd, words: RawFd) -> bool {
    let wait = |fd, events| libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // No more than the end of the requests.
    let mut both = [wait(requests, 0), wait(words, libc::POLLIN)];
    // SAFETY: the list lives for the call and has this length.
    unsafe { libc::poll(both.as_mut_ptr(), 2, -1) };
    both[0].revents & libc::POLLHUP != 0
}

/// Without a log: the last line is the reason.
fn rehearsed(request: &Request) -> Result<(), String> {
    let kv_type = if request.q8_0 {
        KvType::Q8_0
    } else {
        KvType::F16
    };
    let silent = tracing::subscriber::NoSubscriber::default();
    tracing::subscriber::with_default(silent, || {
        rehearse(&request.model, request.threads, kv_type)
    })
    .map_err(|error| error.to_string())
}

impl Request {
    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        bytes.extend((self.threads as u32).to_le_bytes());
        bytes.push(self.q8_0.into());
        put(self.model.as_os_str().as_bytes(), &mut bytes);
        to.write_all(&bytes)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let threads = number(from)? as usize;
        let mut q8_0 = [0];
        from.read_exact(&mut q8_0)?;
        let model = OsStr::from_bytes(&taken(from)?).into();
        Ok(Self {
            model,
            threads,
            q8_0: q8_0 != [0],
        })
    }
}

impl Outcome {
    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = self.status.into_raw().to_le_bytes().to_vec();
        put(&self.words, &mut bytes);
        to.write_all(&bytes)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let status = ExitStatus::from_raw(number(from)?.cast_signed());
        let words = taken(from)?;
        Ok(Self { status, words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_through_the_pipes_comes_out_as_it_was() {
        let mut pipe = Vec::new();
        let model = PathBuf::from(OsStr::from_bytes(b"/m/\xff.gguf"));
        let request = Request {
            model: model.clone(),
            threads: 3,
            q8_0: true,
        };
        request.write(&mut pipe).unwrap();
        let read = Request::read(&mut &pipe[..]).unwrap();
        assert_eq!((read.model, read.threads, read.q8_0), (model, 3, true));

        pipe.clear();
        let outcome = Outcome {
            status: ExitStatus::from_raw(libc::SIGABRT),
            words: b"its last".to_vec(),
        };
        outcome.write(&mut pipe).unwrap();
        let read = Outcome::read(&mut &pipe[..]).unwrap();
        assert_eq!(read.status.signal(), Some(libc::SIGABRT));
        assert_eq!(read.words, b"its last");
    }
}
