//! Matrix multiplication with low-bit weights, and attention over the KV cache, inside ggml's own threads.
//!
//! [`enable`] enters ggml's list of CPU extensions. From then on products of weights of a [`WeightType`] with floats are
//! computed here, on the weights where they are mapped, with as many columns as the kernel of this type and CPU is for
//! (`simd::Kernel::columns`; of experts also with up to 32 tokens), and attention over a cache of F16 or Q8_0 (`attention`); everything else goes ggml's own way.
//! What ggml calls allocates nothing, opens no file and starts no thread; [`peak`], which measures the machine, has memory
//! and threads of its own, and [`product`], for counting instructions, memory.
//!
//! The way of one product: ggml asks for a work buffer ([`hook`](self)); each of its threads quantizes a share
//! of the activations into it, waits for the others, then takes panels of rows one after the other, so
//! that a thread on a slower core takes fewer. The same product gives the same bits for every number of
//! threads: each output is computed by one thread, always in the same order.

// What only the hook uses.
#![cfg_attr(not(feature = "ggml"), allow(dead_code))]

// Other CPUs have no kernels: there, every product goes ggml's own way.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod activation;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(feature = "ggml", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod experts;
#[cfg(all(feature = "ggml", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod hook;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod panel;
#[cfg(all(feature = "ggml", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod panels;
pub mod peak;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod product;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod rounding;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod simd;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;
mod types;

pub use types::WeightType;

/// Turns the kernels on or off for the whole process; they begin turned off. What is being computed
/// meanwhile must not be: call it before a model is loaded, with no other context at work.
///
/// On x86-64 without AVX2 it changes nothing.
#[cfg(feature = "ggml")]
pub fn enable(enabled: bool) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    hook::enable(enabled);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = enabled;
}

/// Whether a copy of the weights in ggml's interleaved layout, which goes ggml's own way, gains nothing over the
/// kernels.
#[cfg(feature = "ggml")]
pub fn need_no_interleaving() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return hook::enabled() && simd::Simd::best().is_some_and(simd::Simd::needs_no_interleaving);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}
