//! `/openapi.json` is what `serve` does: every path with its method, every field by its name, and answers as they are.

use cloister_tests::parts::{smollm2, tiny_bert};
use cloister_tests::python;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

/// Where routes are made.
const ROUTES: [&str; 2] = [
    include_str!("../../runtime/src/serve/mod.rs"),
    include_str!("../../runtime/src/serve/ollama.rs"),
];

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[test]
fn every_path_is_in_it_with_its_method_and_every_field_is_known() {
    let serve = Serve::start(&smollm2(), &["--ctx", "256"]);
    let document = serve.get("/openapi.json").json();
    let mut told: Vec<String> = Vec::new();
    for (path, operations) in object(&document["paths"]) {
        told.extend(object(operations).map(|(method, _)| format!("{method} {path}")));
    }
    let mut made: Vec<String> = Vec::new();
    for source in ROUTES {
        for route in source.split(".route(").skip(1) {
            let route = route.trim_start().trim_start_matches('"');
            let (path, rest) = route.split_once('"').expect("a path");
            let method = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            let method = method.split('(').next();
            made.push(format!("{} {path}", method.expect("a method")));
        }
    }
    told.sort();
    made.sort();
    assert_eq!(told, made);

    let mut checked = 0;
    for (path, operations) in object(&document["paths"]) {
        let body = &operations["post"]["requestBody"]["content"]["application/json"];
        for (field, _) in object(&body["schema"]["properties"]) {
            // Of a kind that no field takes, so that the answer is an error about it, if any.
            let mut request = body.get("example").cloned().unwrap_or(json!({}));
            request[field] = json!({"no such thing": 1});
            let answer = serve.post(path, &request.to_string());
            let said = format!("there is no request field {field:?}");
            assert!(
                !answer.body.contains(&said.replace('"', "\\\"")),
                "{path}: {}",
                answer.body
            );
            checked += 1;
        }
        if body["schema"]["additionalProperties"] == false {
            let mut request = body
                .get("example")
                .cloned()
                .unwrap_or(json!({"model": "x"}));
            request["no such field"] = json!(1);
            let answer = serve.post(path, &request.to_string());
            assert_eq!(answer.status, 400, "{path}: {}", answer.body);
            assert!(
                answer.body.contains("no such field"),
                "{path}: {}",
                answer.body
            );
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
#[ignore = "takes minutes"]
fn schemathesis_finds_no_server_error_and_no_answer_that_is_not_in_it() {
    // With one that embeds beside the one that answers.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(smollm2(), folder.path().join("smollm2.gguf")).unwrap();
    tiny_bert(folder.path());
    let serve = Serve::start(folder.path(), &["--ctx", "128"]);
    python::run("fuzz_api.py", &[&serve.url, "40"]);
    assert_eq!(serve.metric("slots_busy"), 0.0);
}
