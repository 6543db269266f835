//! Tries a model file out in a child process, this same program: a file whose metadata lies can make
//! llama.cpp abort, which would end the box and whatever it is answering.
//!
//! In: a path. Out: nothing, or one line for the user. The child ends with its parent, keeps nothing and
//! listens to nobody.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cloister_engine::{KvType, Options, rehearse, usable_cores};

/// Options of the child.
#[derive(clap::Args)]
pub struct RehearseArgs {
    model: PathBuf,
    #[arg(long)]
    threads: usize,
    #[arg(long)]
    q8_0: bool,
}

/// Runs the rehearsal in a child; an error is one line for the user.
pub fn in_a_child(model: &Path, options: &Options) -> Result<(), String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("cloister").arg("rehearse");
    let threads = options.n_threads.unwrap_or_else(usable_cores);
    command.args(["--threads", &threads.to_string()]);
    if options.kv_type == KvType::Q8_0 {
        command.arg("--q8-0");
    }
    let output = command
        .arg("--")
        .arg(model)
        .env("CLOISTER_LOG", "off")
        // Otherwise ggml looks for a debugger before it ends.
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("{}: cannot be tried out: {error}", model.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    match output.status.signal() {
        None => {
            let line = last.unwrap_or("the trial of the model file gave no reason");
            Err(line.strip_prefix("cloister: ").unwrap_or(line).to_owned())
        }
        Some(signal) => Err(format!(
            "{}: llama.cpp fails at this model, so its header lies or is damaged: {}; get the file again",
            model.display(),
            last.map_or_else(|| format!("signal {signal}"), str::to_owned),
        )),
    }
}

/// The child itself.
pub fn run(args: &RehearseArgs) -> anyhow::Result<()> {
    // SAFETY: these take numbers only. Nobody waits for the outcome once the parent is gone, and what
    // llama.cpp leaves when it aborts is of no use to anybody.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
    let kv_type = if args.q8_0 { KvType::Q8_0 } else { KvType::F16 };
    Ok(rehearse(&args.model, args.threads, kv_type)?)
}
