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
use std::time::{Duration, Instant};

use cloister_engine::{KvType, Trial, free_memory, rehearse};
use cloister_sandbox::processes;

use crate::helper::{self, Helper, number, put, taken};

/// The most bytes of last words that are kept.
const MAX_WORDS: usize = 1 << 16;

static HELPER: OnceLock<Mutex<Helper>> = OnceLock::new();

/// A file to be tried out. On the way: the numbers of the trial (u32), of outputs 0 for none, of types of the KV cache 1 for
/// Q8_0, and the MiB that it may take: what a file says of itself does not tell in all cases what it will take, and without
/// a limit the kernel would end whatever is largest; then the path's length (u32) and bytes. Little-endian.
struct Request {
    model: PathBuf,
    trial: Trial,
    free_mib: u32,
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
pub fn by_the_helper(model: &Path, trial: &Trial) -> Result<(), String> {
    let request = Request {
        model: model.to_owned(),
        trial: *trial,
        // A trial cannot read this of itself.
        free_mib: free_memory().map_or(u32::MAX, |free| {
            u32::try_from(free >> 20).unwrap_or(u32::MAX)
        }),
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
    let has = data()?;
    processes::model_trial(models).seal()?;
    while let Ok(request) = Request::read(&mut requests) {
        let outcome = try_out(&request, has, &requests, &nowhere)?;
        // Nobody waits for it where `serve` has ended meanwhile.
        if outcome.write(&mut answers).is_err() {
            break;
        }
    }
    Ok(())
}

/// The longest that the trial of a file of so many bytes may take: llama.cpp reads it once, and a slow card gives 20 MB a
/// second.
fn within(bytes: u64) -> Duration {
    Duration::from_secs(120 + bytes / 20_000_000)
}

/// One trial, in a child, to whose memory `has` bytes are not counted.
fn try_out(
    request: &Request,
    has: u64,
    requests: &PipeReader,
    nowhere: &File,
) -> anyhow::Result<Outcome> {
    let (reader, writer) = io::pipe()?;
    let child = helper::child(|| {
        // SAFETY: these take numbers only.
        unsafe {
            libc::dup2(nowhere.as_raw_fd(), libc::STDOUT_FILENO);
            libc::dup2(writer.as_raw_fd(), libc::STDERR_FILENO);
        }
        let tried = rehearsed(request, has);
        if let Err(reason) = &tried {
            eprintln!("{reason}");
        }
        tried.is_ok()
    })?;
    drop(writer);
    let bytes = std::fs::metadata(&request.model).map_or(0, |file| file.len());
    outcome(child, reader, requests, within(bytes))
}

/// Listens to the child until it ends, or is ended: as nobody waits for it any more, or it takes too long.
fn outcome(
    child: libc::pid_t,
    mut reader: PipeReader,
    requests: &PipeReader,
    within: Duration,
) -> anyhow::Result<Outcome> {
    let until = Instant::now() + within;
    let mut words = Vec::new();
    let mut piece = [0; 4096];
    let mut ended = None;
    loop {
        let seen = wait(requests.as_raw_fd(), reader.as_raw_fd(), until);
        if seen != Seen::Words && ended.is_none() {
            // SAFETY: the child is not reaped yet, so its number is not another's.
            unsafe { libc::kill(child, libc::SIGKILL) };
            ended = Some(seen);
        }
        match reader.read(&mut piece)? {
            0 => break,
            n => words.extend_from_slice(&piece[..n]),
        }
        words.drain(..words.len().saturating_sub(MAX_WORDS));
    }
    if ended == Some(Seen::Late) {
        words = format!("it does not end within {} s", within.as_secs()).into_bytes();
    }
    let status = ExitStatus::from_raw(helper::reap(child)?);
    Ok(Outcome { status, words })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// There are words to read, or their end.
    Words,
    /// Nobody is left to make requests. The kernel does not tell: it sends no signal from a sealed parent to who is not
    /// under its seal.
    NobodyWaits,
    /// It is too late.
    Late,
}

fn wait(requests: RawFd, words: RawFd, until: Instant) -> Seen {
    let wait = |fd, events| libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // Of the requests no more than their end.
    let mut both = [wait(requests, 0), wait(words, libc::POLLIN)];
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    let left = i32::try_from(left).unwrap_or(i32::MAX);
    // SAFETY: the list lives for the call and has this length.
    let ready = unsafe { libc::poll(both.as_mut_ptr(), 2, left) };
    match both.map(|one| one.revents) {
        [requests, _] if requests & libc::POLLHUP != 0 => Seen::NobodyWaits,
        [_, 0] if ready == 0 => Seen::Late,
        _ => Seen::Words,
    }
}

/// Without a log: the last line is the reason.
fn rehearsed(request: &Request, has: u64) -> Result<(), String> {
    let most = has.saturating_add(u64::from(request.free_mib) << 20);
    helper::limit(libc::RLIMIT_DATA, most)
        .map_err(|error| format!("its memory cannot be limited: {error}"))?;
    let silent = tracing::subscriber::NoSubscriber::default();
    tracing::subscriber::with_default(silent, || rehearse(&request.model, request.trial))
        .map_err(|error| error.to_string())
}

/// Bytes that this process has of its own; mapped weights do not count.
fn data() -> io::Result<u64> {
    let counts = std::fs::read_to_string("/proc/self/statm")?;
    let pages = counts.split(' ').nth(5).and_then(|n| n.parse::<u64>().ok());
    // SAFETY: it takes a number only.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs();
    Ok(pages.ok_or(io::ErrorKind::InvalidData)? * page)
}

impl Request {
    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let Trial {
            n_ctx,
            n_slots,
            n_batch,
            n_outputs,
            n_threads,
            kv_type,
        } = self.trial;
        let (outputs, q8_0) = (n_outputs.unwrap_or(0), u32::from(kv_type == KvType::Q8_0));
        let numbers = [
            n_ctx,
            n_slots,
            n_batch,
            outputs,
            n_threads,
            q8_0,
            self.free_mib,
        ];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        put(self.model.as_os_str().as_bytes(), &mut bytes);
        to.write_all(&bytes)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut next = || number(from);
        let trial = Trial {
            n_ctx: next()?,
            n_slots: next()?,
            n_batch: next()?,
            n_outputs: Some(next()?).filter(|n| *n != 0),
            n_threads: next()?,
            kv_type: if next()? == 0 {
                KvType::F16
            } else {
                KvType::Q8_0
            },
        };
        let free_mib = next()?;
        let model = OsStr::from_bytes(&taken(from)?).into();
        Ok(Self {
            model,
            trial,
            free_mib,
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
        let trial = Trial {
            n_ctx: 4096,
            n_slots: 2,
            n_batch: 512,
            n_outputs: Some(9),
            n_threads: 3,
            kv_type: KvType::Q8_0,
        };
        let embeds = Trial {
            n_outputs: None,
            kv_type: KvType::F16,
            ..trial
        };
        for trial in [trial, embeds] {
            let model = model.clone();
            let request = Request {
                model,
                trial,
                free_mib: 7,
            };
            request.write(&mut pipe).unwrap();
            let read = Request::read(&mut &pipe[..]).unwrap();
            assert_eq!((read.trial, read.free_mib), (trial, 7));
            assert_eq!(read.model.as_os_str().as_bytes(), b"/m/\xff.gguf");
            pipe.clear();
        }

        let outcome = Outcome {
            status: ExitStatus::from_raw(libc::SIGABRT),
            words: b"its last".to_vec(),
        };
        outcome.write(&mut pipe).unwrap();
        let read = Outcome::read(&mut &pipe[..]).unwrap();
        assert_eq!(read.status.signal(), Some(libc::SIGABRT));
        assert_eq!(read.words, b"its last");
    }

    #[test]
    fn a_trial_that_does_not_end_is_ended_and_one_that_takes_too_much_gets_no_more() {
        let (reader, writer) = io::pipe().unwrap();
        let (requests, _held) = io::pipe().unwrap();
        let endless = helper::child(move || {
            let _open = writer;
            loop {
                std::thread::park();
            }
        });
        let endless = outcome(
            endless.unwrap(),
            reader,
            &requests,
            Duration::from_millis(50),
        );
        let endless = endless.unwrap();
        assert_eq!(endless.status.signal(), Some(libc::SIGKILL));
        let said = String::from_utf8(endless.words).unwrap();
        assert!(said.contains("does not end within"), "{said}");

        let greedy = helper::child(|| {
            helper::limit(libc::RLIMIT_DATA, data().unwrap() + (64 << 20)).unwrap();
            let has = |bytes: usize| Vec::<u8>::new().try_reserve_exact(bytes).is_ok();
            has(32 << 20) && !has(128 << 20)
        });
        let greedy = helper::reap(greedy.unwrap()).unwrap();
        assert!(ExitStatus::from_raw(greedy).success());
    }
}
