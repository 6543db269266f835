//! Converting takes memory that does not grow with the model.

mod support;

use std::mem::MaybeUninit;
use std::process::Command;

use cloister_gguf::Gguf;
use support::{binary, fetched};

/// The most memory that a child had resident, in bytes, after its success.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn peak_memory(command: &mut Command) -> u64 {
    let child = command.spawn().unwrap();
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: `status` and `usage` are valid for writing; all zeroes is a valid `rusage`. The child
    // is ours and nobody else waits for it.
    let usage = unsafe {
        let pid = libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr());
        assert_eq!(pid, child.id() as i32);
        usage.assume_init()
    };
    assert_eq!(status, 0, "the conversion failed");
    usage.ru_maxrss as u64 * 1024
}

#[test]
fn converting_half_a_billion_weights_stays_within_the_largest_tensor_and_300_mb() {
    let source = fetched("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
    let tensors = Gguf::open(&source).unwrap().tensors;
    let largest = tensors.iter().map(|t| t.elements() * 4).max().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let peak = peak_memory(
        Command::new(binary())
            .arg("convert")
            .args([&source, &out])
            .args(["--type", "Q8_0"]),
    );
    println!(
        "peak {} MB, largest tensor in F32 {} MB",
        peak >> 20,
        largest >> 20
    );
    assert!(peak <= largest + 300_000_000);
    // In fact no tensor is ever held whole, so that models with larger ones need no more.
    assert!(peak <= 300_000_000, "{} MB", peak >> 20);
}
