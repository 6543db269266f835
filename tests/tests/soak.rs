//! Half an hour of eight clients that ask, cancel, disconnect and send rubbish; less where `CLOISTER_SOAK_SECONDS`
//! says so.

use cloister_tests::parts::smollm2;
use cloister_tests::python;
use cloister_tests::serve::Serve;

#[test]
fn eight_careless_clients_leave_no_slot_busy_and_no_memory_taken() {
    let seconds = std::env::var("CLOISTER_SOAK_SECONDS").unwrap_or_else(|_| "1800".to_owned());
    let serve = Serve::start(&smollm2(), &["--ctx", "1024", "--queue", "16"]);
    let id = serve.id().to_string();
    let figures = python::run("soak.py", &[&serve.url, &id, &seconds, "1"]);
    println!("{figures}");
}
