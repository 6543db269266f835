//! Small scales of K-quants, several to a register's lane, one by one.

use std::arch::x86_64::*;

use super::tile::Tile;

/// Byte `index` of each lane, as a number.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn byte(lanes: __m512i, index: usize) -> __m512i {
    pick(lanes, 0x8080_8000_u32 as i32 + index as i32, 1)
}

/// Bytes `index` and `index + 1` of each lane, as two numbers of 16 bits.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn two_bytes(lanes: __m512i, index: usize) -> __m512i {
    let which = 0x8001_8000_u32 as i32 + 0x1_0001 * index as i32;
    pick(lanes, which, 0x1_0001)
}

/// Of each lane the bytes that those of `which` number, 0 where one is 0x80; `numbers` has a 1 for each number.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn pick(lanes: __m512i, which: i32, numbers: i32) -> __m512i {
    // The instruction counts from the beginning of four lanes.
    let lane = |i: i32| which + numbers * i * 4;
    _mm512_shuffle_epi8(lanes, _mm512_set4_epi32(lane(3), lane(2), lane(1), lane(0)))
}

/// Unpacks the `part`th four of the sixteen signed scales of the tile's super-block `index`: a byte each in `scales`, to
/// be multiplied with `scale`.
///
/// # Safety
/// The CPU is available; the tile has the super-block.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) unsafe fn unpack_signed_scales(
    scales: __m512i,
    scale: __m512,
    tile: *mut Tile,
    index: usize,
    part: usize,
) {
    for j in 0..4i32 {
        let up = _mm512_sll_epi32(scales, _mm_cvtsi32_si128(24 - 8 * j));
        let small = _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(up));
        // SAFETY: the tile has sixteen scales for each super-block.
        unsafe {
            (*tile).scales[index * 16 + part * 4 + j as usize] = _mm512_mul_ps(small, scale);
        }
    }
}
