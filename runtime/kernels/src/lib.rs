//! Matrix multiplication with low-bit weights, inside ggml's own threads.
//!
//! [`enable`] enters ggml's list of CPU extensions. From then on each product of weights of a
//! [`WeightType`] with floats is computed here, on the weights where they are mapped; everything else goes
//! ggml's own way. Nothing here allocates, opens a file or starts a thread.
//!
//! The way of one product: ggml asks for a work buffer ([`hook`](self)); each of its threads quantizes a share
//! of the activations into it, waits for the others, then takes panels of rows one after the other, so
//! that a thread on a slower core takes fewer. The same product gives the same bits for every number of
//! threads: each output is computed by one thread, always in the same order.

// Other CPUs have no kernels yet: there, every product goes ggml's own way.
#[cfg(target_arch = "x86_64")]
mod activation;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod hook;
#[cfg(target_arch = "x86_64")]
mod panel;
pub mod peak;
#[cfg(test)]
mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
mod weights;

pub use weights::WeightType;

/// Turns the kernels on or off for the whole process; they begin turned off. What is being computed
/// meanwhile must not be: call it before a model is loaded, with no other context at work.
///
/// Without AVX2 it changes nothing.
pub fn enable(enabled: bool) {
    #[cfg(target_arch = "x86_64")]
    hook::enable(enabled);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = enabled;
}

/// Whether the kernels lay rows side by side themselves, wherever these are mapped: then a copy of the weights in
/// ggml's interleaved layout, which goes ggml's own way, is slower.
pub fn interleave() -> bool {
    #[cfg(target_arch = "x86_64")]
    return hook::enabled() && simd::Simd::best() == Some(simd::Simd::Avx512);
    #[cfg(not(target_arch = "x86_64"))]
    false
}
