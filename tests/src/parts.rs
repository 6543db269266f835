//! Where the parts lie that the tests are made of: programs, models, scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

use cloister_gguf::{Gguf, Metadata, Writer};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the repository is there")
}

/// A program of the workspace, from the build that these tests belong to.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let path = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/<profile>/deps")
        .join(name);
    assert!(
        path.is_file(),
        "{} is missing; run: cargo build --release --workspace",
        path.display()
    );
    path
}

/// A file that `tests/fetch` or `tests/run` put into the cache.
pub fn cached(name: &str) -> PathBuf {
    let folder = std::env::var_os("CLOISTER_CACHE")
        .map_or_else(|| repository().join(".cloister/cache"), PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing; run: tests/run",
        path.display()
    );
    path
}

/// SmolLM2-135M-Instruct, Q4_1.
pub fn smollm2() -> PathBuf {
    cached("smollm2-135m-instruct-q4_1.gguf")
}

/// Its name in requests.
pub const SMOLLM2: &str = "smollm2-135m-instruct-q4_1";

/// SmolLM2 in a file of this name, with other metadata.
pub fn altered(file: &Path, change: impl FnOnce(&mut Metadata)) -> PathBuf {
    let source = Gguf::open(&smollm2()).expect("it is sound");
    let mut metadata = source.metadata.clone();
    change(&mut metadata);
    let mut out = Writer::create(file, &metadata, source.tensors.clone()).expect("there is room");
    for tensor in &source.tensors {
        let mut bytes = vec![0; tensor.bytes() as usize];
        let read = source.read_tensor(tensor, 0, &mut bytes);
        read.expect("it is whole");
        out.write(&bytes).expect("there is room");
    }
    out.finish().expect("there is room");
    file.to_owned()
}

/// A tiny model in `folder` with R1's vocabulary and chat template that after each of these tokens, as the
/// vocabulary spells them, says the next; without any its weights are random.
pub fn scripted_r1(folder: &Path, script: &[&str]) -> PathBuf {
    let out = folder.join("tiny-r1.gguf");
    let status = Command::new(program("examples/tiny_r1"))
        .arg(cached("r1-distill-qwen-7b-header.gguf"))
        .arg(&out)
        .args(script)
        .status()
        .expect("the example is built");
    assert!(status.success());
    out
}

/// A tiny BERT in `folder`, which embeds; its name in requests is `tiny-bert`.
pub fn tiny_bert(folder: &Path) -> PathBuf {
    let out = folder.join("tiny-bert.gguf");
    let status = Command::new(program("examples/tiny_bert"))
        .arg(&out)
        .status()
        .expect("the example is built");
    assert!(status.success());
    out
}
