//! Registers of four floats, for attention.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::attention::range::{self, Range};
use crate::attention::vector::{Vector, instructions};

/// Four numbers of half precision. Assembly, as the library has no stable function for what each arm64 CPU can do.
#[inline(always)]
fn halves(four: uint16x4_t) -> float32x4_t {
    let floats;
    // SAFETY: each arm64 CPU has it; it works on registers only.
    unsafe {
        asm!("fcvtl {floats:v}.4s, {four:v}.4h", floats = out(vreg) floats, four = in(vreg) four,
            options(pure, nomem, nostack, preserves_flags));
    }
    floats
}

impl Vector for float32x4_t {
    const LANES: usize = 4;
    const QUERIES: usize = 4;

    #[inline(always)]
    fn ask(at: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe {
            asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags))
        };
    }

    instructions! {
        fn splat(x: f32) -> Self { vdupq_n_f32(x) }
        fn load(at: *const f32) -> Self { vld1q_f32(at) }
        fn load_halves(at: *const u16) -> Self { halves(vld1_u16(at)) }
        fn load_bytes(at: *const i8) -> Self {
            let four = vreinterpret_s8_u32(vdup_n_u32(at.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(four))))
        }
        fn splat_half(at: *const u16) -> Self { halves(vdup_n_u16(at.read_unaligned())) }
        fn store(self: Self, at: *mut f32) { vst1q_f32(at, self) }
        fn add(self: Self, other: Self) -> Self { vaddq_f32(self, other) }
        fn masked(self: Self, mask: Self) -> Self {
            let unseen = vceqq_f32(mask, vdupq_n_f32(f32::NEG_INFINITY));
            vbslq_f32(unseen, mask, vaddq_f32(self, mask))
        }
        fn multiply(self: Self, other: Self) -> Self { vmulq_f32(self, other) }
        fn add_product(self: Self, a: Self, b: Self) -> Self { vfmaq_f32(self, a, b) }
        fn max(self: Self, other: Self) -> Self { vmaxq_f32(self, other) }
        fn round(self: Self) -> Self { vrndnq_f32(self) }
        fn times_power(self: Self, exponent: Self) -> Self {
            let bits = vaddq_s32(vcvtq_s32_f32(exponent), vdupq_n_s32(127));
            vmulq_f32(self, vreinterpretq_f32_s32(vshlq_n_s32::<23>(bits)))
        }
        fn sum(self: Self) -> f32 { vaddvq_f32(self) }
        fn greatest(self: Self) -> f32 { vmaxvq_f32(self) }
        fn store_sums(of: [Self; 4], at: *mut f32) {
            let [a, b, c, d] = of;
            vst1q_f32(at, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)))
        }
    }
}

/// As [`Range::attend`].
///
/// # Safety
/// As there.
pub(crate) unsafe fn attend(range: &Range) {
    // SAFETY: by the caller's word.
    unsafe { range.attend::<float32x4_t>() }
}

/// As [`merge`](crate::attention::range::merge).
///
/// # Safety
/// As there.
pub(crate) unsafe fn merge(total: *mut f32, part: *const f32, width: usize) {
    // SAFETY: by the caller's word.
    unsafe { range::merge::<float32x4_t>(total, part, width) }
}
