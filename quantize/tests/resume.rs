//! A conversion that was stopped, killed or ran out of space goes on where it was, and what comes out
//! is the file that it would have been.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use support::{ANY, Run, binary, fetched, names_in};

/// A folder in which SmolLM2 becomes `out.gguf`.
struct Conversion {
    folder: tempfile::TempDir,
    source: PathBuf,
}

impl Conversion {
    fn of(source: &Path) -> Conversion {
        Conversion {
            folder: tempfile::tempdir().unwrap(),
            source: source.to_owned(),
        }
    }

    fn smollm2() -> Conversion {
        Conversion::of(&fetched("smollm2-135m-instruct-q4_1.gguf"))
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.gguf")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["convert".as_ref(), self.source.as_os_str()]);
        command.args([self.out().as_os_str(), OsStr::new("--type")]);
        command.args(more).stderr(Stdio::piped());
        command
    }

    fn run(&self, more: &[&str]) -> Run {
        self.command(more).output().unwrap().into()
    }

    /// Starts a conversion and returns when `bytes` of the file are safe on the disk.
    fn start(&self, more: &[&str], bytes: u64) -> Child {
        let mut child = self.command(more).spawn().unwrap();
        while self.safe_bytes() < bytes {
            assert!(child.try_wait().unwrap().is_none(), "it ended too early");
            std::thread::yield_now();
        }
        child
    }

    /// What the journal claims.
    fn safe_bytes(&self) -> u64 {
        let journal = self.folder.path().join("out.gguf.partial.journal");
        let text = fs::read_to_string(journal).unwrap_or_default();
        let line = text.lines().nth(1);
        line.and_then(|line| line.parse().ok()).unwrap_or(0)
    }

    /// What an undisturbed conversion gives.
    fn whole(&self, more: &[&str]) -> Vec<u8> {
        let undisturbed = Conversion::of(&self.source);
        undisturbed.run(more).succeeded();
        fs::read(undisturbed.out()).unwrap()
    }

    /// Killed at the wrong moment, a process may leave a new journal beside the old one too.
    #[track_caller]
    fn assert_unfinished(&self) {
        let names = names_in(self.folder.path());
        assert!(names.contains(&"out.gguf.partial".to_owned()), "{names:?}");
        assert!(!names.contains(&"out.gguf".to_owned()), "{names:?}");
    }

    #[track_caller]
    fn assert_whole(&self, wanted: &[u8]) {
        assert_eq!(names_in(self.folder.path()), ["out.gguf"]);
        assert!(fs::read(self.out()).unwrap() == wanted, "the bytes differ");
    }
}

/// The larger model in Q8_0: 670 MB, so that there is a middle to be stopped in.
fn qwen() -> Conversion {
    Conversion::of(&fetched("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"))
}

/// What becomes of it undisturbed.
fn qwen_q8_0() -> &'static [u8] {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| qwen().whole(&["Q8_0"]))
}

#[test]
fn a_killed_conversion_goes_on_to_the_same_bytes() {
    let conversion = qwen();
    let mut child = conversion.start(&["Q8_0"], 30_000_000);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    conversion.assert_unfinished();
    let safe = conversion.safe_bytes();

    let run = conversion.run(&["Q8_0", "--resume"]);
    run.succeeded();
    let note = run.stderr.lines().find(|l| l.contains("goes on behind"));
    let there = note.and_then(|note| note.split(' ').find_map(|word| word.parse::<f64>().ok()));
    let there = there.expect("it says where it goes on");
    assert!(there >= 30.0 && there <= safe as f64 / 1e6 + 0.1, "{there}");
    conversion.assert_whole(qwen_q8_0());
}

#[test]
fn an_interrupted_conversion_says_how_to_go_on() {
    let conversion = qwen();
    for signal in ["-INT", "-TERM"] {
        let child = conversion.start(&["Q8_0", "--resume"], conversion.safe_bytes() + 1);
        let kill = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), None, "it must end by itself");
        let run = Run::from(output);
        assert_eq!(run.code, Some(1));
        let line = run.stderr.lines().last().unwrap();
        assert!(
            line.starts_with("cloister-quantize: interrupted; "),
            "{line}"
        );
        assert!(
            line.ends_with("out.gguf.partial: go on with --resume"),
            "{line}"
        );
        conversion.assert_unfinished();
    }
    conversion.run(&["Q8_0", "--resume"]).succeeded();
    conversion.assert_whole(qwen_q8_0());
}

#[test]
fn without_resume_it_is_begun_anew() {
    let conversion = Conversion::smollm2();
    let mut child = conversion.start(&["IQ4_XS"], 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let run = conversion.run(&["Q4_0"]);
    run.succeeded();
    assert!(!run.stderr.contains("goes on"), "{}", run.stderr);
    conversion.assert_whole(&conversion.whole(&["Q4_0"]));
}

#[test]
fn nothing_is_gone_on_with_that_was_begun_otherwise() {
    let source = tempfile::tempdir().unwrap();
    let model = source.path().join("model.gguf");
    fs::copy(fetched("smollm2-135m-instruct-q4_1.gguf"), &model).unwrap();
    let conversion = Conversion::of(&model);
    let mut child = conversion.start(&["IQ4_XS"], 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = |more: &[&str], part: &str| {
        let run = conversion.run(more);
        let line = run.error_line(1);
        assert!(
            line.contains("out.gguf.partial: cannot be resumed"),
            "{line}"
        );
        assert!(
            line.contains(part) && line.contains("without --resume"),
            "{line}"
        );
        conversion.assert_unfinished();
    };
    refused(&["Q4_0", "--resume"], "type IQ4_XS, now it is Q4_0");
    let own = ["IQ4_XS", "--resume", "--tensor-type", "ffn_down=Q8_0"];
    refused(&own, "none, now it is ffn_down=Q8_0");
    refused(
        &["IQ4_XS", "--resume", "--like-llama-quantize"],
        "now it is llama-quantize's",
    );
    fs::copy(fetched("smollm2-135m-instruct-q4_1.gguf"), &model).unwrap();
    refused(&["IQ4_XS", "--resume"], "source of");
}

#[test]
fn resuming_where_there_is_nothing_begins() {
    let source = tempfile::tempdir().unwrap();
    let model = source.path().join("model.gguf");
    ANY.write(&model);
    let conversion = Conversion::of(&model);
    conversion.run(&["Q8_0", "--resume"]).succeeded();
    conversion.assert_whole(&conversion.whole(&["Q8_0"]));
}

#[test]
fn a_write_that_fails_keeps_what_was_written_before() {
    let conversion = Conversion::smollm2();
    // Files of 40 MB at most, for this process: what a full disk does, without one.
    let script = r#"trap "" XFSZ; ulimit -f 80000; exec "$0" "$@""#;
    let output = Command::new("sh")
        .args(["-c", script, binary(), "convert"])
        .args([&conversion.source, &conversion.out()])
        .args(["--type", "Q8_0"])
        .output()
        .unwrap();
    let run = Run::from(output);
    assert_eq!(run.code, Some(1));
    let line = run.stderr.lines().last().unwrap();
    assert!(
        line.contains("out.gguf: cannot write: File too large"),
        "{line}"
    );
    assert!(
        line.ends_with("out.gguf.partial: go on with --resume"),
        "{line}"
    );
    assert!(conversion.safe_bytes() > 30_000_000);
    let run = conversion.run(&["Q8_0", "--resume"]);
    run.succeeded();
    assert!(run.stderr.contains("goes on behind"), "{}", run.stderr);
    conversion.assert_whole(&conversion.whole(&["Q8_0"]));
}
