//! Which of this CPU's instruction sets computes, and how much of a product it takes at once.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use crate::attention::range::Range;
#[cfg(target_arch = "aarch64")]
use crate::neon;
use crate::panel::Panel;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// An instruction set with kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simd {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    I8mm,
    #[cfg(target_arch = "aarch64")]
    DotProduct,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// How products of a type are computed with an instruction set.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub simd: Simd,
    /// Computes a panel of the type.
    ///
    /// # Safety
    /// `simd` is one of [`Simd::available`], and the panel keeps its promises.
    pub multiply: unsafe fn(&Panel),
    /// What quantized columns have to look like for it: as those of [`Layout`](crate::activation::Layout).
    pub zero: i32,
    pub sums_of: usize,
    /// How many columns may lie side by side; 1 where all lie alone.
    pub together: usize,
    /// For which numbers of columns it is faster than ggml: others go ggml's way.
    pub columns: RangeInclusive<usize>,
}

/// How attention is computed with an instruction set.
pub(crate) struct Attention {
    /// As [`Range::attend`].
    ///
    /// # Safety
    /// As there, with one of [`Simd::available`].
    pub attend: unsafe fn(&Range),
    /// As [`merge`](crate::attention::range::merge).
    ///
    /// # Safety
    /// As there, with one of [`Simd::available`].
    pub merge: unsafe fn(*mut f32, *const f32, usize),
}

static BEST: OnceLock<Option<Simd>> = OnceLock::new();

impl Simd {
    /// Those that this CPU has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let all = [
            (Self::Avx512, avx512::available()),
            (Self::AvxVnni, avx2::has_vnni()),
            (Self::Avx2, avx2::available()),
        ];
        #[cfg(target_arch = "aarch64")]
        let all = [
            (Self::I8mm, neon::has_i8mm()),
            (Self::DotProduct, neon::has_dot_products()),
            (Self::Neon, true),
        ];
        all.into_iter()
            .filter_map(|(simd, available)| available.then_some(simd))
    }

    /// The fastest that this CPU has.
    pub fn best() -> Option<Self> {
        *BEST.get_or_init(|| Self::available().next())
    }

    /// For measuring: the one of this name is the best, if this CPU has it. To be called before anything asks for the best.
    pub fn choose(name: &str) -> bool {
        let named = Self::available().find(|simd| format!("{simd:?}") == name);
        named.is_some_and(|simd| BEST.set(Some(simd)).is_ok())
    }

    /// Multiplies values in registers as the kernels do, and nothing else; gives the number of operations.
    ///
    /// # Safety
    /// `self` is one of [`Simd::available`].
    pub unsafe fn multiply_in_registers(self, rounds: usize) -> usize {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512::multiply_in_registers(rounds),
                #[cfg(target_arch = "x86_64")]
                Self::AvxVnni => avx2::multiply_in_registers_by_vnni(rounds),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2::multiply_in_registers(rounds),
                #[cfg(target_arch = "aarch64")]
                Self::I8mm => neon::multiply_matrices_in_registers(rounds),
                #[cfg(target_arch = "aarch64")]
                Self::DotProduct => neon::multiply_dot_products_in_registers(rounds),
                #[cfg(target_arch = "aarch64")]
                Self::Neon => neon::multiply_in_registers(rounds),
            }
        }
    }

    /// How it computes attention.
    pub fn attention(self) -> Attention {
        macro_rules! by {
            ($family:ident) => {
                Attention {
                    attend: $family::vector::attend,
                    merge: $family::vector::merge,
                }
            };
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => by!(avx512),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => by!(avx2),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm | Self::DotProduct | Self::Neon => by!(neon),
        }
    }

    /// Asks memory for the first rows of a panel, from `row` on, that will be computed soon.
    #[cfg(feature = "ggml")]
    pub fn ask_for_first(self, row: *const u8, panel: &Panel) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::ask_for_first(row, panel.weights_stride),
            _ => {
                let _ = (row, panel);
            }
        }
    }

    /// Whether a copy of the weights in ggml's interleaved layout is no faster.
    #[cfg(feature = "ggml")]
    pub fn needs_no_interleaving(self) -> bool {
        match self {
            // It lays rows side by side itself.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => true,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => false,
            #[cfg(target_arch = "aarch64")]
            Self::I8mm | Self::DotProduct => false,
            // ggml has such layouts for CPUs with dot products only.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
        }
    }

    /// Most rows of a panel, with `row_bytes` bytes each, for `columns` columns; and what they are a multiple of.
    #[cfg(feature = "ggml")]
    pub fn panel_rows(self, row_bytes: usize, columns: usize) -> (usize, usize) {
        let row_by_row = match columns {
            ..=4 => (STREAM_BYTES / row_bytes).max(1),
            _ => (PANEL_BYTES / row_bytes).clamp(1, 64),
        };
        match self {
            // Each row meets all columns before the next is read.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if columns <= avx512::FEW_COLUMNS => (usize::MAX, avx512::ROWS),
            // All of them meet the same strip of the columns before the next strip is read.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => (256, 2 * avx512::ROWS),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => (row_by_row, 1),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm | Self::DotProduct | Self::Neon => (row_by_row, neon::ROWS),
        }
    }
}

/// Weights of one panel, in bytes: they stay in the first-level cache while the columns pass by.
#[cfg(feature = "ggml")]
const PANEL_BYTES: usize = 16 << 10;
/// The same where each row is read once: long stretches of memory come faster than short ones.
#[cfg(feature = "ggml")]
const STREAM_BYTES: usize = 256 << 10;
