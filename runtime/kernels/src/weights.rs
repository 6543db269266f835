//! The weight types that have kernels, and the sizes of their blocks.

#[cfg(feature = "ggml")]
use llama_cpp_sys_2 as sys;

/// A ggml tensor type with kernels. Names are llama.cpp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum WeightType {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    Q2K,
    Q3K,
    Iq4Nl,
    Iq4Xs,
}

impl WeightType {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q2K,
        Self::Q3K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    /// ggml's number of the type.
    #[cfg(feature = "ggml")]
    pub fn ggml_type(self) -> sys::ggml_type {
        match self {
            Self::Q4_0 => sys::GGML_TYPE_Q4_0,
            Self::Q4_1 => sys::GGML_TYPE_Q4_1,
            Self::Q5_0 => sys::GGML_TYPE_Q5_0,
            Self::Q5_1 => sys::GGML_TYPE_Q5_1,
            Self::Q8_0 => sys::GGML_TYPE_Q8_0,
            Self::Q4K => sys::GGML_TYPE_Q4_K,
            Self::Q5K => sys::GGML_TYPE_Q5_K,
            Self::Q6K => sys::GGML_TYPE_Q6_K,
            Self::Q2K => sys::GGML_TYPE_Q2_K,
            Self::Q3K => sys::GGML_TYPE_Q3_K,
            Self::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
            Self::Iq4Xs => sys::GGML_TYPE_IQ4_XS,
        }
    }

    /// The type of that number, if it has kernels.
    #[cfg(feature = "ggml")]
    pub fn from_ggml(number: sys::ggml_type) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.ggml_type() == number)
    }

    /// Weights in a block: 32, or 256 for the K-quants' super-blocks.
    pub fn block_len(self) -> usize {
        match self {
            Self::Q4K | Self::Q5K | Self::Q6K | Self::Q2K | Self::Q3K | Self::Iq4Xs => 256,
            _ => 32,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Iq4Nl => 18,
            Self::Iq4Xs => 136,
        }
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
}
