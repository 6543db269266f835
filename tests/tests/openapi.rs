//! `/openapi.json` is what `serve` does: every path with its method, every field by its name, and answers as they are.

use std::collections::BTreeSet;

use cloister_tests::parts::{smollm2, tiny_bert};
use cloister_tests::python;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

/// Where routes are made.
const ROUTES: [&str; 2] = [
    include_str!("../../runtime/src/serve/routes.rs"),
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

/// Where a field is, as `docs/api.md` calls it.
fn place(path: &str) -> &str {
    match path {
        "/v1/chat/completions" => "chat",
        "/v1/responses" => "responses",
        "/v1/embeddings" => "embeddings",
        _ => path,
    }
}

#[test]
fn the_table_of_fields_in_the_documentation_is_that_of_the_document() {
    let document: Value =
        serde_json::from_str(include_str!("../../runtime/src/serve/openapi.json")).unwrap();
    let mut accepted = BTreeSet::new();
    for (path, operations) in object(&document["paths"]) {
        // The page and the panel have their own.
        let own = ["/api/panel", "/api/privacy", "/api/render", "/pair"];
        if own.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        let body = &operations["post"]["requestBody"]["content"]["application/json"];
        for (field, kind) in object(&body["schema"]["properties"]) {
            accepted.insert((field.clone(), place(path).to_owned()));
            for (option, _) in object(&kind["properties"]).filter(|_| field == "options") {
                accepted.insert((option.clone(), "options".to_owned()));
            }
        }
    }
    let page = include_str!("../../docs/api.md");
    let (_, table) = page.split_once("## Request fields").expect("it is there");
    let mut told = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for field in cells[1].split(", ") {
            for place in cells[4].split(", ") {
                let row = (field.trim_matches('`').to_owned(), place.to_owned());
                assert!(told.insert(row), "{field} at {place} is there twice");
            }
        }
    }
    assert_eq!(told, accepted);
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
