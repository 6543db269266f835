//! What this machine can do at most, measured: the limits that a kernel's speed is held against.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The most that some threads reach together.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// Bytes a second, read from memory one after the other.
    pub bytes: f64,
    /// Operations a second on 8-bit numbers, a product and a sum counted as two, on values in registers. Of
    /// the instructions that the kernels use; nothing where there are no kernels.
    pub operations: Option<f64>,
}

/// Measures for about a second, with `threads` threads of its own and 256 MiB of memory.
pub fn measure(threads: usize) -> Peaks {
    // Larger than any cache of the machines that this is for.
    let memory = vec![1u64; (256 << 20) / 8];
    let share = memory.len().div_ceil(threads.max(1));
    let bytes = best(|| {
        together(memory.chunks(share), |part| {
            black_box(part.chunks_exact(64).fold([0u64; 64], |mut sums, words| {
                for (sum, word) in sums.iter_mut().zip(words) {
                    *sum = sum.wrapping_add(*word);
                }
                sums
            }));
        });
        memory.len() * 8
    });
    Peaks {
        bytes,
        operations: operations(threads),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn operations(threads: usize) -> Option<f64> {
    const ROUNDS: usize = 1 << 20;
    let simd = crate::simd::Simd::best()?;
    Some(best(|| {
        // SAFETY: `best` looked at the CPU.
        let count = |_| unsafe { simd.multiply_in_registers(ROUNDS) };
        together(0..threads, count).into_iter().sum()
    }))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn operations(_: usize) -> Option<f64> {
    None
}

/// Units of work a second, in the best of the runs that go into half a second.
fn best(work: impl Fn() -> usize) -> f64 {
    let end = Instant::now() + Duration::from_millis(500);
    let mut best = 0.0f64;
    while Instant::now() < end {
        let began = Instant::now();
        let done = work();
        best = best.max(done as f64 / began.elapsed().as_secs_f64());
    }
    best
}

/// Does `work` on each of `shares`, all at once.
fn together<S: Send, T: Send>(
    shares: impl Iterator<Item = S>,
    work: impl Fn(S) -> T + Copy + Send,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares.map(|s| scope.spawn(move || work(s))).collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("no share panics"))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn peaks_are_those_of_a_computer() {
        let peaks = super::measure(1);
        assert!(peaks.bytes > 1e6 && peaks.bytes < 1e13, "{peaks:?}");
        if let Some(operations) = peaks.operations {
            assert!(operations > 1e6 && operations < 1e15, "{peaks:?}");
        }
    }
}
