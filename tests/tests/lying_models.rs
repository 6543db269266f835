//! Models whose metadata lies: real files with one value of the header overwritten. llama.cpp aborts at
//! most of them; the box must not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cloister_tests::http::{Answer, Http};
use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::{Process, children_of, free_port, lives, until};
use cloister_tests::serve::{Serve, engine_turn, question, refusal};
use serde_json::json;

/// Bytes that a number or boolean of metadata has before its value: the type.
const TYPE: usize = 4;

/// What to overwrite in SmolLM2's header: a name for the file, the key, and the value in its place.
fn lies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let number = |n: u32| n.to_le_bytes().to_vec();
    let float = |x: f32| x.to_le_bytes().to_vec();
    vec![
        ("no-layers", "llama.block_count", number(0)),
        ("many-layers", "llama.block_count", number(70_000)),
        ("no-heads", "llama.attention.head_count", number(0)),
        ("seven-heads", "llama.attention.head_count", number(7)),
        ("no-kv-heads", "llama.attention.head_count_kv", number(0)),
        ("four-kv-heads", "llama.attention.head_count_kv", number(4)),
        ("narrow", "llama.embedding_length", number(512)),
        ("odd-rope", "llama.rope.dimension_count", number(4096)),
        (
            "negative-epsilon",
            "llama.attention.layer_norm_rms_epsilon",
            float(-1.0),
        ),
        (
            "nan-epsilon",
            "llama.attention.layer_norm_rms_epsilon",
            float(f32::NAN),
        ),
    ]
}

fn answered(answer: &Answer) -> String {
    let text = &answer.json()["choices"][0]["message"]["content"];
    text.as_str()
        .unwrap_or_else(|| panic!("{}", answer.body))
        .to_owned()
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes
        .windows(what.len())
        .position(|window| window == what)
        .expect("the header has it")
}

fn lying_file(folder: &Path, name: &str, change: impl FnOnce(&mut [u8])) -> PathBuf {
    let mut bytes = std::fs::read(smollm2()).unwrap();
    change(&mut bytes);
    let file = folder.join(format!("{name}.gguf"));
    std::fs::write(&file, bytes).unwrap();
    file
}

fn with_value(folder: &Path, name: &str, key: &str, value: &[u8]) -> PathBuf {
    lying_file(folder, name, |bytes| {
        let at = find(bytes, key.as_bytes()) + key.len() + TYPE;
        bytes[at..at + value.len()].copy_from_slice(value);
    })
}

/// Puts another chat template in the place of the file's own, and a comment after it.
fn with_template(folder: &Path, name: &str, source: &str) -> PathBuf {
    lying_file(folder, name, |bytes| {
        let key = b"tokenizer.chat_template";
        let at = find(bytes, key) + key.len() + TYPE;
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let comment = length - source.len() - 4;
        let template = format!("{source}{{#{}#}}", "x".repeat(comment));
        bytes[at + 8..][..length].copy_from_slice(template.as_bytes());
    })
}

/// Makes one token of the vocabulary the same as another of its length.
fn with_duplicate_token(folder: &Path) -> PathBuf {
    lying_file(folder, "twice", |bytes| {
        let entry = |text: &[u8]| [&(text.len() as u64).to_le_bytes()[..], text].concat();
        let at = find(bytes, &entry(b"house"));
        bytes[at..at + 13].copy_from_slice(&entry(b"water"));
    })
}

#[test]
fn serve_ends_with_one_line_and_exit_code_1() {
    let _turn = engine_turn();
    let folder = tempfile::tempdir().unwrap();
    let refused = |file: PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let line = refusal(&file, &["--state", folder.path().to_str().unwrap()]);
        assert!(line.contains(&name), "{line}");
        std::fs::remove_file(file).unwrap();
        line
    };
    for (name, key, value) in lies() {
        refused(with_value(folder.path(), name, key, &value));
    }
    refused(with_duplicate_token(folder.path()));
    let foreign = lying_file(folder.path(), "foreign", |bytes| {
        let at = find(bytes, b"llama");
        bytes[at..at + 5].copy_from_slice(b"xlama");
    });
    let line = refused(foreign);
    assert!(
        line.contains("architecture") && line.contains("xlama"),
        "{line}"
    );
}

#[test]
fn in_a_folder_the_one_who_asks_gets_an_error_and_the_running_model_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(smollm2(), folder.path().join("a.gguf")).unwrap();
    let serve = Serve::start(folder.path(), &[]);
    let for_model = |model: &str| {
        let mut request = question("Hi", 2);
        request["model"] = json!(model);
        request
    };
    for (name, key, value) in [
        ("no-kv-heads", "llama.attention.head_count_kv", vec![0; 4]),
        (
            "negative-epsilon",
            "llama.attention.layer_norm_rms_epsilon",
            (-1f32).to_le_bytes().to_vec(),
        ),
    ] {
        let file = with_value(folder.path(), name, key, &value);
        let answer = serve.chat(&for_model(name));
        assert_eq!(answer.status, 500, "{}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "model_load_failed", "{error}");
        assert!(error["message"].as_str().unwrap().contains(name), "{error}");
        assert_eq!(serve.chat(&for_model("a")).status, 200);
        std::fs::remove_file(file).unwrap();
    }
}

/// In most vocabularies words are looked for by an expression that recurses for each character.
#[test]
fn the_longest_word_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let value = [6_u64.to_le_bytes().as_slice(), b"gpt-4o"].concat();
    let file = with_value(folder.path(), "words", "tokenizer.ggml.pre", &value);
    let serve = Serve::start(&file, &["--state", folder.path().to_str().unwrap()]);
    for word in ["a", " ", "漢", ","] {
        let answer = serve.chat(&question(&word.repeat(300_000 / word.len()), 2));
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
    }
    assert_eq!(serve.chat(&question(&"a".repeat(5000), 2)).status, 200);
}

#[test]
fn a_pipe_for_a_model_is_an_error_and_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("coreutils are installed").success());
        path
    };
    // The first of the folder is the one that is loaded first.
    let first = pipe("a.gguf");
    std::os::unix::fs::symlink(smollm2(), folder.path().join("b.gguf")).unwrap();
    std::os::unix::fs::symlink(&first, folder.path().join("c.gguf")).unwrap();
    let serve = Serve::start(folder.path(), &["--ctx", "256"]);
    assert_eq!(serve.get("/v1/models").status, 200);
    assert_eq!(serve.get("/api/tags").status, 200);
    for (model, status) in [("a", 500), ("b", 200), ("c", 500)] {
        let mut request = question("Hi", 2);
        request["model"] = json!(model);
        let answer = serve.chat(&request);
        assert_eq!(answer.status, status, "{model}: {}", answer.body);
        assert_eq!(
            answer.body.contains("no regular file"),
            status == 500,
            "{}",
            answer.body
        );
    }
    let line = refusal(&pipe("alone.gguf"), &[]);
    assert!(line.contains("no regular file"), "{line}");
}

#[test]
fn a_template_that_makes_nothing_of_the_messages_is_an_error_and_no_endless_wait() {
    let folder = tempfile::tempdir().unwrap();
    let file = with_template(folder.path(), "comment", "");
    let serve = Serve::start(&file, &[]);
    let answer = serve.chat(&question("Hi", 2));
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.json()["error"]["param"], "messages");
}

#[test]
fn a_template_that_would_fill_the_memory_is_an_error_and_who_is_answered_does_not_notice() {
    let folder = tempfile::tempdir().unwrap();
    let source = "{% set a = 'x' * 1000000 %}{% for m in messages %}\
        {% if 'bomb' in m.content %}{{ '' ~ [a] * 100000 }}{% endif %}\
        <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
    let file = with_template(folder.path(), "bomb", source);
    let serve = Serve::start(&file, &[]);
    let mut long = question("Write a story about a garden.", 100);
    long["temperature"] = json!(0);
    let alone = serve.chat(&long);
    assert_eq!(alone.status, 200, "{}", alone.body);
    let (before, text) = (serve.most_memory(), answered(&alone));
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| serve.chat(&long));
        for bomb in ["A bomb.", "Another bomb.", "The last bomb."] {
            let refused = serve.chat(&question(bomb, 2));
            assert_eq!(refused.status, 400, "{}", refused.body);
            let error = &refused.json()["error"];
            assert_eq!(error["param"], "messages");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("256 MiB of memory"), "{message}");
        }
        assert_eq!(answered(&beside.join().unwrap()), text);
    });
    let grown = serve.most_memory() - before;
    assert!(grown < 100 << 20, "{} MiB", grown >> 20);
}

#[test]
fn a_template_that_takes_longer_than_a_request_has_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    // A hundred gigabytes to compare: it would be refused after ten seconds.
    let source = "{% set a = 'x' * 1000000 %}{% set b = 'x' * 1000000 %}{% for m in messages %}\
        {% if 'long' in m.content and [a] * 100000 == [b] * 100000 %}same{% endif %}\
        <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
    let serve = Serve::start(&with_template(folder.path(), "slow", source), &[]);
    let mut request = question("A long one.", 2);
    for stream in [false, true] {
        request["deadline_ms"] = json!(300);
        request["stream"] = json!(stream);
        let answer = serve.chat(&request);
        assert_eq!(answer.status, 408, "{}", answer.body);
        assert_eq!(answer.json()["error"]["code"], "deadline_exceeded");
    }
    assert_eq!(serve.metric("prompt_tokens_total"), 0.0);
}

/// A `serve` that has just begun a trial, with its helper and the trial, which is held where it is; none where it was over
/// before it was seen.
fn caught_in_a_trial(state: &Path) -> Option<(Process, u32, u32)> {
    let port = free_port();
    let mut serve = Process::spawn(
        Command::new(program("cloister"))
            .args(["serve", "--ctx", "256", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--model")
            .arg(smollm2())
            .arg("--state")
            .arg(state)
            .stdin(Stdio::null())
            .stderr(Stdio::null()),
    );
    let (id, http) = (serve.0.id(), Http::default());
    let helper = until("it has its helper", || {
        let all = children_of(id);
        all.into_iter().find(|(_, name)| name == "model-trial")
    });
    let health = format!("http://127.0.0.1:{port}/health");
    loop {
        assert!(serve.runs(), "serve ended while it started");
        if let Some((trial, _)) = children_of(helper.0).pop() {
            // SAFETY: kill takes two numbers.
            unsafe { libc::kill(trial as libc::pid_t, libc::SIGSTOP) };
            return lives(trial).then_some((serve, helper.0, trial));
        }
        if http.get(&health, &[]).is_ok_and(|it| it.status == 200) {
            return None;
        }
    }
}

#[test]
fn a_trial_ends_with_serve_when_that_is_killed_in_the_middle_of_it() {
    let _turn = engine_turn();
    let state = tempfile::tempdir().unwrap();
    let caught = (0..20).find_map(|_| caught_in_a_trial(state.path()));
    let (mut serve, helper, trial) = caught.expect("a trial takes long enough to be seen");
    serve.end();
    for (process, what) in [(trial, "the trial"), (helper, "its helper")] {
        until(&format!("{what} has ended"), || {
            (!lives(process)).then_some(())
        });
    }
}
