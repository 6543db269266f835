//! The openai client from PyPI against `cloister serve`.

use cloister_tests::parts::{SMOLLM2, smollm2};
use cloister_tests::python;
use cloister_tests::serve::Serve;

fn run(script: &str) {
    let serve = Serve::start(&smollm2(), &["--ctx", "512"]);
    python::run(script, &[&format!("{}/v1", serve.url), SMOLLM2]);
}

#[test]
fn it_gets_a_plain_answer() {
    run("openai_plain.py");
}

#[test]
fn it_gets_a_streamed_answer() {
    run("openai_streamed.py");
}

#[test]
fn it_lists_the_models() {
    run("openai_models.py");
}

#[test]
fn it_raises_its_own_error_for_each_refusal() {
    run("openai_errors.py");
}
