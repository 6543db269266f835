//! Vectors of texts over HTTP: beside a model that answers, and alone.

use cloister_tests::parts::{smollm2, tiny_bert};
use cloister_tests::process::until;
use cloister_tests::python;
use cloister_tests::serve::{Serve, question};
use serde_json::json;

#[test]
fn a_model_that_embeds_works_beside_one_that_answers() {
    let folder = tempfile::tempdir().unwrap();
    // By name it would be the first; a box that answers begins with what answers.
    std::os::unix::fs::symlink(smollm2(), folder.path().join("zzz.gguf")).unwrap();
    tiny_bert(folder.path());
    let serve = Serve::start(folder.path(), &["--ctx", "512"]);
    let answer = serve.chat(&question("Say hi.", 4));
    assert_eq!(
        (answer.status, &answer.json()["model"]),
        (200, &json!("zzz"))
    );
    python::run("embeddings.py", &[&serve.url, "tiny-bert", "zzz"]);

    let listed = serve.get("/v1/models").json();
    let of = |key: &str| {
        [
            listed["data"][0][key].clone(),
            listed["data"][1][key].clone(),
        ]
    };
    assert_eq!(
        of("capabilities"),
        [json!(["embedding"]), json!(["completion"])]
    );
    // Neither took the other's place.
    assert_eq!(of("loaded"), [json!(true), json!(true)]);
    // Nor does one need a name where only one can be meant.
    let unnamed = serve.post("/v1/embeddings", &json!({"input": "Hi"}).to_string());
    assert_eq!(unnamed.json()["model"], "tiny-bert");

    let stop = json!({"model": "tiny-bert", "input": "Hi", "keep_alive": 0});
    assert_eq!(serve.post("/api/embed", &stop.to_string()).status, 200);
    until("the model that embeds rests", || {
        let running = serve.get("/api/ps").json();
        (running["models"].as_array()?.len() == 1).then_some(())
    });
}

#[test]
fn a_box_may_have_nothing_but_a_model_that_embeds() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&tiny_bert(folder.path()), &[]);
    let request = json!({"model": "default", "input": ["Hi", "you"]});
    let answer = serve.post("/v1/embeddings", &request.to_string());
    assert_eq!(
        answer.json()["data"].as_array().unwrap().len(),
        2,
        "{}",
        answer.body
    );
    let answer = serve.chat(&question("Say hi.", 4));
    assert_eq!(
        (answer.status, &answer.json()["error"]["param"]),
        (400, &json!("model"))
    );
}
