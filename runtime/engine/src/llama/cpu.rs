//! What of this CPU ggml computes with.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

/// The instruction sets that the CPU backend was built for and found here, by ggml's names: `NEON DOTPROD ...`.
pub fn cpu_features() -> String {
    // SAFETY: returns a string that lives as long as the program; it is made anew by each call, and two calls at a time
    // would write it together, which nobody does who describes one bench or test.
    let line = unsafe { CStr::from_ptr(sys::llama_print_system_info()) };
    // `CPU : NEON = 1 | DOTPROD = 1 | `, after those of other backends.
    let line = line.to_string_lossy();
    let cpu = line.rsplit("CPU : ").next().unwrap_or_default();
    let features = cpu.split('|').filter_map(|one| one.split_once(" = 1"));
    features
        .map(|(name, _)| name.trim())
        .collect::<Vec<_>>()
        .join(" ")
}
