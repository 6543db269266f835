//! The weight types that have kernels. A type is a file here, or a part of one: how its blocks are packed, spelled out once
//! for the tests, and with which instruction sets it has kernels; and a line in the list below.

#[cfg(feature = "ggml")]
pub(crate) mod grid;
mod iq4;
mod k_quant;
mod legacy;

#[cfg(feature = "ggml")]
use llama_cpp_sys_2 as sys;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::simd::{Kernel, Simd};
/// Other CPUs have no kernels.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use std::convert::{Infallible as Kernel, Infallible as Simd};

/// What the kernels have to know of a type.
pub(crate) struct Format {
    /// ggml's number of it, which is a file's too.
    number: u32,
    /// Weights of a block.
    block_len: usize,
    /// Bytes of a block.
    block_bytes: usize,
    /// Where in a block of 32 what is added to each weight is, of half precision.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(dead_code)
    )]
    pub minimum: Option<usize>,
    /// Where in a block numbers of half precision are.
    #[cfg(test)]
    pub halves: &'static [usize],
    /// The weights of a block, in order: the reference.
    #[cfg(test)]
    pub dequantize: fn(&[u8]) -> Vec<f64>,
    /// Its kernel with an instruction set, if there is one.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(dead_code)
    )]
    kernel: fn(Simd) -> Option<Kernel>,
}

/// The kernels of a [`Format`]: for each family of instruction sets, what a type in its folder is called.
macro_rules! kernels {
    ($($family:ident $kernel:ty),*) => {
        |simd| {
            $(kernels!(@ $family $kernel, simd);)*
            let _ = simd;
            None
        }
    };
    (@ avx512 $kernel:ty, $simd:ident) => { kernels!(@ avx512 "x86_64" $kernel, $simd) };
    (@ avx2 $kernel:ty, $simd:ident) => { kernels!(@ avx2 "x86_64" $kernel, $simd) };
    (@ neon $kernel:ty, $simd:ident) => { kernels!(@ neon "aarch64" $kernel, $simd) };
    (@ $family:ident $arch:literal $kernel:ty, $simd:ident) => {
        #[cfg(target_arch = $arch)]
        {
            use crate::$family::*;
            if let Some(kernel) = kernel::<$kernel>($simd) {
                return Some(kernel);
            }
        }
    };
}
use kernels;

/// The weights that the four bits of IQ4_NL and IQ4_XS number.
#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) static IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

macro_rules! types {
    ($($(#[$condition:meta])? $name:ident = $format:path,)*) => {
        /// A ggml tensor type with kernels. Names are llama.cpp's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum WeightType {
            $($(#[$condition])? $name,)*
        }

        impl WeightType {
            /// All of them.
            pub const ALL: &[Self] = &[$($(#[$condition])? Self::$name),*];

            pub(crate) fn format(self) -> &'static Format {
                match self {
                    $($(#[$condition])? Self::$name => &$format,)*
                }
            }
        }
    };
}

types! {
    Q4_0 = legacy::Q4_0,
    Q4_1 = legacy::Q4_1,
    Q5_0 = legacy::Q5_0,
    Q5_1 = legacy::Q5_1,
    Q8_0 = legacy::Q8_0,
    Q4K = k_quant::Q4K,
    Q5K = k_quant::Q5K,
    Q6K = k_quant::Q6K,
    Q2K = k_quant::Q2K,
    Q3K = k_quant::Q3K,
    Iq4Nl = iq4::IQ4_NL,
    Iq4Xs = iq4::IQ4_XS,
    #[cfg(feature = "ggml")]
    Iq2Xxs = grid::IQ2_XXS,
    #[cfg(feature = "ggml")]
    Iq2Xs = grid::IQ2_XS,
    #[cfg(feature = "ggml")]
    Iq2S = grid::IQ2_S,
    #[cfg(feature = "ggml")]
    Iq3Xxs = grid::IQ3_XXS,
    #[cfg(feature = "ggml")]
    Iq3S = grid::IQ3_S,
}

impl WeightType {
    /// ggml's number of the type.
    #[cfg(feature = "ggml")]
    pub fn ggml_type(self) -> sys::ggml_type {
        self.format().number
    }

    /// The type of that number, if it has kernels.
    #[cfg(feature = "ggml")]
    pub fn from_ggml(number: sys::ggml_type) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.ggml_type() == number)
    }

    /// Weights in a block: 32, or 256 for the K-quants' super-blocks.
    pub fn block_len(self) -> usize {
        self.format().block_len
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.format().block_bytes
    }

    /// Bytes of a row of `k` weights.
    ///
    /// # Panics
    /// When `k` fills no whole number of blocks.
    pub fn row_bytes(self, k: usize) -> usize {
        assert!(
            k.is_multiple_of(self.block_len()),
            "{k} weights do not fill blocks of {}",
            self.block_len()
        );
        k / self.block_len() * self.block_bytes()
    }

    /// Its kernel with `simd`, if there is one.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn kernel_with(self, simd: Simd) -> Option<Kernel> {
        (self.format().kernel)(simd)
    }

    /// Its kernel with the fastest instruction set of this CPU that has one.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn kernel(self) -> Option<Kernel> {
        let best = Simd::best()?;
        let mut all = Simd::available().skip_while(|simd| *simd != best);
        all.find_map(|simd| self.kernel_with(simd))
    }
}
