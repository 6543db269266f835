//! `serve` in a control group with a limit of memory: what does not fit is refused, and nothing ends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use cloister_gguf::Metadata;
use cloister_tests::parts::{altered, cached, program, smollm2};
use cloister_tests::serve::{Serve, question};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// A control group of its own; removed when dropped, which must be after all its processes have ended.
struct Group(PathBuf);

impl Group {
    /// With a limit of `bytes`. None where nobody, or not this user, can have one here: that it is so is what the system
    /// says, and not that making one has failed.
    fn new(bytes: u64) -> Option<Self> {
        // Each test of this program has its own.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("cloister-test-{}-{number}", std::process::id());
        // SAFETY: it takes nothing and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let places = [
            ("/sys/fs/cgroup", "memory.max"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ];
        let (parent, limit) = places.into_iter().find(|(parent, limit)| {
            let parent = Path::new(parent);
            // Where the first version is mounted, the second one's place is an ordinary folder.
            let controls = fs::read_to_string(parent.join("cgroup.subtree_control"));
            let limits = controls.map_or_else(
                |_| parent.join(limit).exists(),
                |controls| {
                    controls.contains("memory")
                        || fs::write(parent.join("cgroup.subtree_control"), "+memory").is_ok()
                },
            );
            is_root && limits && parent.join("cgroup.procs").exists() && is_writable(parent)
        })?;
        let group = Self(Path::new(parent).join(name));
        fs::create_dir(&group.0).expect("root makes a control group");
        fs::write(group.0.join(limit), bytes.to_string()).expect("root limits it");
        Some(group)
    }

    /// `cloister`, in this group.
    fn cloister(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]);
        command.arg(&self.0).arg(program("cloister"));
        command
    }
}

/// Whether the file system here can be written to, as that of a container often cannot.
fn is_writable(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let folder = folder.to_string_lossy();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        let at = fields.next() == Some(&*folder);
        at && fields
            .nth(1)
            .is_some_and(|how| how.split(',').any(|word| word == "rw"))
    })
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last processes may take a moment to end.
        let gone = || fs::remove_dir(&self.0).is_ok();
        let _ = (0..50).any(|_| gone() || (sleep(Duration::from_millis(20)), false).1);
    }
}

/// A file whose header keeps quiet about what it takes is refused by who tries it out, in words, and nothing is killed.
#[test]
fn what_takes_more_than_its_header_tells_is_refused_before_it_is_served() {
    let Some(group) = Group::new(420 * MIB) else {
        println!("skipped: no control group with a limit of memory can be made here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // A key that cannot be: what the caches take is then not known.
    let quiet = |metadata: &mut Metadata| metadata.set("llama.expert_used_count", 0u32);
    let file = altered(&folder.path().join("quiet.gguf"), quiet);
    let mut command = group.cloister();
    let output = command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--ctx",
            "8192",
            "--model",
        ])
        .arg(&file)
        .arg("--state")
        .arg(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    // On a slow machine how far it has come is told before.
    let last = said.lines().filter(|line| line.starts_with("cloister: "));
    assert_eq!(last.count(), 1, "{said}");
    assert!(
        said.contains("quiet.gguf") && said.contains("insufficient memory"),
        "{said}"
    );
}

#[test]
fn what_does_not_fit_a_limit_is_refused_and_what_runs_goes_on() {
    let Some(group) = Group::new(420 * MIB) else {
        // Only root can, as in CI.
        println!("skipped: no control group with a limit of memory can be made here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in [
        ("a-small", smollm2()),
        ("large", cached("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")),
    ] {
        let link = folder.path().join(format!("{name}.gguf"));
        std::os::unix::fs::symlink(model, link).unwrap();
    }
    let options = ["--ctx", "512", "--slots", "2"];
    let serve = Serve::start_by(group.cloister(), folder.path(), &options);
    let mut long = question("Count.", 450);
    long["ignore_eos"] = json!(true);
    let mut running = serve.open_chat_stream(&long);
    running.next().expect("it begins");
    let mut large = question("Hi", 4);
    large["model"] = json!("large");
    let answer = serve.chat(&large);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.json()["error"]["code"], "insufficient_memory");
    // It was not waited for, nor driven out for a model that cannot come.
    assert_eq!(serve.metric("slots_busy"), 1.0);
    drop(running);
    let said = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    for word in ["it needs", "MiB are free", "MiB too few", "--ctx"] {
        assert!(said.contains(word), "{said}");
    }
    // What clients send does not fill it either: each of these is as large as a body may be.
    std::thread::scope(|scope| {
        for i in 0..8 {
            let serve = &serve;
            scope.spawn(move || {
                let request = match i % 2 {
                    0 => question(&"word ".repeat(3 << 20), 4).to_string(),
                    // A gigabyte, if it were read.
                    _ => format!("[{}0]", r#"{"":0},"#.repeat(2 << 20)),
                };
                let url = format!("{}/v1/chat/completions", serve.url);
                // Too long, or too many of these at once; then the connection may end before all is sent.
                if let Ok(answer) = serve.http.post(&url, &request) {
                    assert!([400, 413, 503].contains(&answer.status), "{}", answer.body);
                }
            });
        }
    });
    let answer = serve.chat(&question("What is the capital of France?", 8));
    assert_eq!(answer.status, 200, "{}", answer.body);
    drop(serve);
}
