//! A thousand asks, and each part killed fifty times: only `tests/run --all` runs this.

#[path = "end_to_end/parts/mod.rs"]
#[allow(dead_code, unused_imports)] // The other end-to-end tests use the rest.
mod parts;
#[path = "end_to_end/survive.rs"]
mod survive;

#[test]
fn a_thousand_asks_have_their_one_answer_through_fifty_kills_of_each() {
    survive::survive("5", 1000, 50, 200..1200);
}
