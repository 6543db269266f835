//! Templates that the owner stores: by a request, in the configuration, ahead of time; and what of it survives a
//! restart of `cloister serve`.

use std::path::{Path, PathBuf};
use std::process::Command;

use cloister_tests::http::{post_over_unix, post_over_unix_as};
use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

const SYSTEM: &str = "You are the voice of a house with a kitchen, a living room, a bedroom, a cellar and a garden with \
    a fountain. You switch lights, open windows and read the weather report aloud. You answer in one short sentence.";

/// A word that is nowhere but in what a user says.
const WORD: &str = "quuxzanzibar";

fn asked(text: &str) -> Value {
    json!({
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
        "max_tokens": 4,
        "temperature": 0,
    })
}

fn storing(text: &str) -> Value {
    let mut request = asked(text);
    request["cache"] = json!("template");
    request
}

/// Serves with a state folder that stays.
fn serve(state: &Path, options: &[&str]) -> Serve {
    let state = state.to_str().unwrap();
    Serve::start(
        &smollm2(),
        &[&["--ctx", "512", "--state", state], options].concat(),
    )
}

/// How much of the prompt was not computed for this request.
fn cached(serve: &Serve, request: &Value) -> u64 {
    let answer = serve.chat(request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let usage = &answer.json()["usage"];
    usage["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap()
}

fn stored(state: &Path) -> Vec<PathBuf> {
    let entries = state.join("prefixes").read_dir();
    let files = entries.into_iter().flatten().map(|e| e.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|e| e == "prefix"))
        .collect()
}

#[test]
fn a_template_that_a_request_stores_survives_a_restart_and_what_the_user_said_does_not() {
    let state = tempfile::tempdir().unwrap();
    let first = serve(state.path(), &[]);
    assert_eq!(first.chat(&asked("Hi")).status, 200);
    assert!(stored(state.path()).is_empty());
    cached(&first, &storing(&format!("What is a {WORD}?")));
    assert_eq!(stored(state.path()).len(), 1);
    drop(first);

    let again = serve(state.path(), &[]);
    let taken_over = cached(&again, &asked("Is it warm in the garden?"));
    assert!(taken_over > 40, "{taken_over}");
    assert_eq!(cached(&again, &storing("And in the cellar?")), taken_over);
    drop(again);

    // A user's turn is neither text there nor tokens: what is stored has the length of what was taken over.
    let file = std::fs::read(&stored(state.path())[0]).unwrap();
    let tokens = u32::from_le_bytes(file[48..52].try_into().unwrap());
    assert_eq!(u64::from(tokens), taken_over);
    assert!(!file.windows(WORD.len()).any(|w| w == WORD.as_bytes()));
}

#[test]
fn only_the_owner_stores_and_only_what_is_a_template() {
    let state = tempfile::tempdir().unwrap();
    let serve = serve(state.path(), &[]);
    let request = storing("Hi").to_string();
    let path = "/v1/chat/completions";
    let for_others = post_over_unix_as(&serve.socket(), path, &request, "somebody");
    assert!(for_others.starts_with("HTTP/1.1 403"), "{for_others}");
    assert!(stored(state.path()).is_empty());
    let own = post_over_unix(&serve.socket(), path, &request);
    assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    assert_eq!(stored(state.path()).len(), 1);

    let mut nothing = storing("Hi");
    nothing["messages"] = json!([{"role": "user", "content": "Hi"}]);
    let mut wrong = storing("Hi");
    wrong["cache"] = json!("all");
    let mut long = storing("Hi");
    long["messages"][0]["content"] = json!("long ".repeat(600));
    for (request, param) in [(nothing, "cache"), (wrong, "cache"), (long, "messages")] {
        let answer = serve.chat(&request);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.json()["error"]["param"], param);
    }
    assert_eq!(stored(state.path()).len(), 1);
}

#[test]
fn without_room_on_the_disk_nothing_is_stored_and_that_is_said() {
    let state = tempfile::tempdir().unwrap();
    let none = serve(state.path(), &["--cache-disk", "0"]);
    let answer = none.chat(&storing("Hi"));
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.json()["error"]["param"], "cache");
    drop(none);
    let small = serve(state.path(), &["--cache-disk", "1"]);
    let answer = small.chat(&storing("Hi"));
    assert_eq!(answer.status, 507, "{}", answer.body);
    assert!(answer.body.contains("--cache-disk"), "{}", answer.body);
    assert!(stored(state.path()).is_empty());
    // An answer does not suffer.
    assert_eq!(small.chat(&asked("Hi")).status, 200);
}

#[test]
fn the_configurations_templates_are_stored_by_themselves() {
    let state = tempfile::tempdir().unwrap();
    let (template, config) = (
        state.path().join("house.json"),
        state.path().join("cloister.toml"),
    );
    let request = json!({"messages": [{"role": "system", "content": SYSTEM}]});
    std::fs::write(&template, request.to_string()).unwrap();
    let toml = format!("[serve]\ntemplates = [{:?}]\n", template.to_str().unwrap());
    std::fs::write(&config, toml).unwrap();
    let options = ["--config", config.to_str().unwrap()];
    let first = serve(state.path(), &options);
    until("the template is stored", || {
        (stored(state.path()).len() == 1).then_some(())
    });
    assert!(cached(&first, &asked("Hi")) > 40);
}

#[test]
fn warm_stores_ahead_of_time_and_says_so() {
    let state = tempfile::tempdir().unwrap();
    let template = state.path().join("house.txt");
    std::fs::write(&template, SYSTEM).unwrap();
    let warm = |template: &Path| {
        let output = Command::new(program("cloister"))
            .args(["warm", "--ctx", "512", "--state"])
            .arg(state.path())
            .arg("--model")
            .arg(smollm2())
            .arg(template)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, said, errors) = warm(&template);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("is stored:"), "{said}");
    assert!(warm(&template).1.contains("is stored already"));
    let serve = serve(state.path(), &[]);
    assert!(cached(&serve, &asked("Hi")) > 40);

    let missing = state.path().join("missing.txt");
    let (code, _, errors) = warm(&missing);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("missing.txt"), "{errors}");
}
