//! Renders chat templates in a process of their own: a template is a program that comes with a model file, and one that
//! fills its memory, overflows its stack or does not end would end the box with it.
//!
//! In: a template's source and its variables. Out: text, or one line for the user. The helper for it (`helper.rs`) opens
//! no file and no socket. Its one child renders, within limits that the kernel enforces; the helper hands it what is
//! asked, and starts another where it is lost.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use cloister_engine::{Jinja, TemplateTask};
use cloister_sandbox::processes;

use crate::helper::{self, Helper, number, put, taken};

/// What the child may have of memory. A body of 16 MiB, as variables and as a prompt, needs less.
const MEMORY: u64 = 256 << 20;
/// What it may have of stack.
const STACK: u64 = 8 << 20;
/// The longest that a rendering may take. What real templates need is counted in milliseconds.
const WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of what is asked and of what is answered, so that the helper's own memory suffices.
const MOST: usize = 64 << 20;

static HELPER: OnceLock<Mutex<Helper>> = OnceLock::new();

/// Forks the helper off. To be called while there is one thread.
///
/// # Errors
/// No process can be made.
pub fn start_helper() -> anyhow::Result<()> {
    let helper = Helper::start(c"templates", help)?;
    assert!(HELPER.set(Mutex::new(helper)).is_ok(), "started once");
    Ok(())
}

/// Has the helper do something with a template; an error is one line for the user.
pub fn by_the_helper(source: &str, task: TemplateTask<'_>) -> Result<String, String> {
    let helper = HELPER
        .get()
        .expect("it is started before any model is loaded");
    // Whoever panicked held the pipes between a request and its answer: the next would read that.
    let mut helper = helper.lock().map_err(|_| GONE.to_owned())?;
    asked(&mut helper, source, task)
}

const GONE: &str = "the process that renders chat templates has ended; start again";

/// On the way: the lengths (u32) and bytes of the source and of the variables, which are none where the names of
/// variables are wanted. The answer: which of [`Outcome`] (u8), the length and the bytes.
fn asked(helper: &mut Helper, source: &str, task: TemplateTask<'_>) -> Result<String, String> {
    let variables = match task {
        TemplateTask::Variables => "",
        TemplateTask::Render(json) => json,
    };
    if source.len() + variables.len() > MOST {
        return Err(format!("it is given more than {} MiB of text", MOST >> 20));
    }
    let mut request = Vec::with_capacity(source.len() + variables.len() + 8);
    put(source.as_bytes(), &mut request);
    put(variables.as_bytes(), &mut request);
    let answer = helper
        .requests
        .write_all(&request)
        .and_then(|()| Answer::read(&mut helper.answers));
    let Answer { done, text } = answer.map_err(|_| GONE.to_owned())?;
    let text = String::from_utf8(text).map_err(|_| "it made text that is no UTF-8".to_owned())?;
    if done { Ok(text) } else { Err(text) }
}

/// What came of a task: the text, or the line that says why there is none.
struct Answer {
    done: bool,
    text: Vec<u8>,
}

impl Answer {
    fn failed(reason: &str) -> Self {
        Self {
            done: false,
            text: reason.as_bytes().to_vec(),
        }
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&[self.done.into()])?;
        to.write_all(&(self.text.len() as u32).to_le_bytes())?;
        to.write_all(&self.text)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut done = [0];
        from.read_exact(&mut done)?;
        let length = number(from)? as usize;
        if length > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        Ok(Self {
            done: done != [0],
            text,
        })
    }
}

/// The helper's life: request after request, until the pipe ends.
fn help(mut requests: PipeReader, mut answers: PipeWriter) -> anyhow::Result<()> {
    // The child's.
    helper::limit(libc::RLIMIT_DATA, MEMORY).context("its memory cannot be limited")?;
    helper::limit(libc::RLIMIT_STACK, STACK).context("its stack cannot be limited")?;
    let nowhere = File::options().write(true).open("/dev/null")?;
    processes::templates().seal()?;
    loop {
        let mut renderer = Renderer::start(&nowhere)?;
        let lost = loop {
            let (Ok(source), Ok(variables)) = (taken(&mut requests), taken(&mut requests)) else {
                return Ok(());
            };
            match renderer.answer(&source, &variables) {
                Ok(answer) => answer.write(&mut answers)?,
                Err(lost) => break lost,
            }
        };
        let reason = renderer.end(&lost)?;
        Answer::failed(&reason).write(&mut answers)?;
    }
}

/// The helper's child, and the pipes to it.
struct Renderer {
    child: libc::pid_t,
    requests: PipeWriter,
    answers: Within,
}

impl Renderer {
    fn start(nowhere: &File) -> io::Result<Self> {
        let (mut their_requests, requests) = io::pipe()?;
        let (answers, mut their_answers) = io::pipe()?;
        let child = helper::child(|| {
            // What the allocator says when it ends the process is not for the log.
            // SAFETY: these take numbers only. Without its own copies of the other ends it would wait for itself.
            unsafe {
                libc::dup2(nowhere.as_raw_fd(), libc::STDERR_FILENO);
                libc::close(requests.as_raw_fd());
                libc::close(answers.as_raw_fd());
            }
            render(&mut their_requests, &mut their_answers).is_ok()
        })?;
        Ok(Self {
            child,
            requests,
            answers: Within {
                pipe: answers,
                until: Instant::now(),
            },
        })
    }

    /// Its answer.
    ///
    /// # Errors
    /// It has ended, or takes too long: there will be no other.
    fn answer(&mut self, source: &[u8], variables: &[u8]) -> io::Result<Answer> {
        self.answers.until = Instant::now() + WITHIN;
        for bytes in [source, variables] {
            self.requests
                .write_all(&(bytes.len() as u32).to_le_bytes())?;
            self.requests.write_all(bytes)?;
        }
        Answer::read(&mut self.answers)
    }

    /// Ends it; gives why nothing came of what it was asked.
    fn end(self, lost: &io::Error) -> io::Result<String> {
        // SAFETY: the child is not reaped yet, so its number is not another's.
        unsafe { libc::kill(self.child, libc::SIGKILL) };
        helper::reap(self.child)?;
        Ok(match lost.kind() {
            io::ErrorKind::TimedOut => format!("it does not end within {} s", WITHIN.as_secs()),
            _ => format!(
                "it needs more than {} MiB of memory or {} MiB of stack",
                MEMORY >> 20,
                STACK >> 20
            ),
        })
    }
}

/// A pipe that is read until some time.
struct Within {
    pipe: PipeReader,
    until: Instant,
}

impl Read for Within {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        let mut readable = libc::pollfd {
            fd: self.pipe.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let left = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the one entry lives for the call.
        match unsafe { libc::poll(&raw mut readable, 1, left) } {
            0 => Err(io::ErrorKind::TimedOut.into()),
            // By a signal: what asked reads again.
            -1 => Err(io::Error::last_os_error()),
            _ => self.pipe.read(buffer),
        }
    }
}

/// The child's life. The template of the last request is the next one's, too, in all likelihood.
fn render(requests: &mut PipeReader, answers: &mut PipeWriter) -> io::Result<()> {
    let mut last: Option<(Vec<u8>, Jinja)> = None;
    loop {
        let (source, variables) = (taken(requests)?, taken(requests)?);
        let parsed = match last.take() {
            Some((same, jinja)) if same == source => Ok(jinja),
            _ => text(&source).and_then(Jinja::parse),
        };
        let done = match &parsed {
            Err(reason) => Err(reason.clone()),
            Ok(jinja) => text(&variables).and_then(|variables| {
                jinja.run(match variables {
                    "" => TemplateTask::Variables,
                    json => TemplateTask::Render(json),
                })
            }),
        };
        if let Ok(jinja) = parsed {
            last = Some((source, jinja));
        }
        let answer = match done {
            Ok(text) if text.len() > MOST => {
                Answer::failed(&format!("it makes more than {} MiB of text", MOST >> 20))
            }
            Ok(text) => Answer {
                done: true,
                text: text.into_bytes(),
            },
            Err(reason) => Answer::failed(&reason),
        };
        answer.write(answers)?;
        drop(answer);
        // Short texts are nowhere else.
        cloister_wipe::stack();
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Templates that ask for more than there is, each in a way of its own.
    const BOMBS: [&str; 14] = [
        "{% set a = 'x' * 1000000 %}{{ '' ~ [a] * 100000 }}",
        "{% set a = 'x' * 1000000 %}{% set b = [a] * 100000 %}{% set c = b ~ '' %}",
        "{% set a = 'x' * 1000000 %}{{ {'k': [a] * 100000} ~ '' }}",
        "{% set a = 'x' * 1000000 %}{{ ([a] * 100000) | string | length }}",
        "{% set a = 'x' * 1000000 %}{{ ([[a] * 1000] * 1000) | join }}",
        "{% set a = 'x' * 1000000 %}{{ ([a] * 100000) | join(',') | replace('x', a) }}",
        "{% set a = 'x' * 1000000 %}{{ [a] * 100000 == ('' ~ [a] * 100000) }}",
        "{% set ns = namespace(a='xx') %}{% for i in range(40) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a }}",
        "{% set ns = namespace(a=['xx']) %}{% for i in range(40) %}{% set ns.a = [ns.a ~ '', ns.a ~ ''] %}{% endfor %}",
        "{% set ns = namespace(a='') %}{% for i in range(99999) %}{% set ns.a = ns.a ~ range(99999) | list %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}",
        "{% set a = 'x' * 1000000 %}{{ a.replace('x', a) }}",
        "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    ];

    fn helper() -> Helper {
        Helper::start(c"templates", help).unwrap()
    }

    #[test]
    fn a_template_that_asks_for_too_much_is_an_error_and_the_next_is_rendered() {
        let mut helper = helper();
        for bomb in BOMBS {
            let error = asked(&mut helper, bomb, TemplateTask::Render("{}")).expect_err(bomb);
            assert!(!error.is_empty() && error.len() < 1000, "{bomb}: {error}");
            let sound = asked(
                &mut helper,
                "{{ a }}!",
                TemplateTask::Render(r#"{"a":"b"}"#),
            );
            assert_eq!(sound.as_deref(), Ok("b!"), "after {bomb}");
        }
    }

    #[test]
    fn memory_and_stack_end_where_the_kernel_ends_them() {
        let mut helper = helper();
        let mut lost = |source: &str| {
            let error = asked(&mut helper, source, TemplateTask::Render("{}"));
            error.expect_err(source).contains("MiB of memory or")
        };
        // What no step is counted for.
        assert!(lost(BOMBS[0]) && lost(BOMBS[1]) && lost(BOMBS[2]));
        // Deeper than the parser or what it made can be left again.
        let deep = BOMBS[12];
        assert!(lost(deep), "{deep}");
    }

    #[test]
    fn it_does_what_is_done_here_and_needs_no_new_child_for_it() {
        let mut helper = helper();
        let source = "{% for m in messages %}{{ m.content | tojson }}{% endfor %}{{ tools }}";
        let here = Jinja::parse(source).unwrap();
        let json = r#"{"messages":[{"content":"é\n\"<"},{"content":{"b":1,"a":[2.5,null]}}]}"#;
        for task in [TemplateTask::Variables, TemplateTask::Render(json)] {
            let elsewhere = asked(&mut helper, source, task);
            assert_eq!(elsewhere, here.run(task));
            assert!(elsewhere.is_ok(), "{elsewhere:?}");
        }
        let complains = "{{ raise_exception('only users speak') }}";
        let complaint = asked(&mut helper, complains, TemplateTask::Render("{}"));
        assert_eq!(complaint, Err("only users speak".to_owned()));
        let wrong = asked(&mut helper, "{% if", TemplateTask::Variables);
        assert!(wrong.is_err());
    }

    #[test]
    fn sixteen_megabytes_are_rendered() {
        let mut helper = helper();
        let json = serde_json::json!({"messages": [{"content": "a \n".repeat(5 << 20)}]});
        let source = "{% for m in messages %}{{ '<|user|>' + m['content'].strip() }}{% endfor %}";
        let done = asked(&mut helper, source, TemplateTask::Render(&json.to_string()));
        assert_eq!(done.map(|text| text.len()), Ok((15 << 20) - 2 + 8));
    }
}
