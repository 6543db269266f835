//! The door to ggml's arithmetic: rows of any tensor type to F32 and back. All `unsafe` of this
//! crate is here.
//!
//! In: bytes of whole rows and slices of the right length. Out: filled slices. It must never be
//! called with a length that does not fit: it panics before ggml reads or writes beyond a slice.

use cloister_gguf::TensorType;
use llama_cpp_sys_2 as sys;

use crate::quantizers;

/// True if ggml can turn this type into F32. It cannot for integers and for the types that exist
/// only inside a matrix product.
pub fn can_be_read(tensor_type: TensorType) -> bool {
    tensor_type == TensorType::F32 || to_float(tensor_type).is_some()
}

fn to_float(tensor_type: TensorType) -> sys::ggml_to_float_t {
    // SAFETY: the numbers of `TensorType` are below `GGML_TYPE_COUNT` (a test holds them against
    // ggml), for which ggml returns a pointer into a constant table.
    unsafe { (*sys::ggml_get_type_traits(tensor_type.number())).to_float }
}

/// Reads `bytes`, elements of `tensor_type`, into `values`, one F32 for each.
///
/// # Panics
/// If the lengths do not fit each other or ggml cannot read the type ([`can_be_read`]).
pub fn to_f32(tensor_type: TensorType, bytes: &[u8], values: &mut [f32]) {
    assert_eq!(
        tensor_type.bytes_of(values.len() as u64),
        Some(bytes.len() as u64)
    );
    if tensor_type == TensorType::F32 {
        for (value, four) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*four);
        }
        return;
    }
    // As ggml does it, in SIMD: most checkpoints are of this type.
    if tensor_type == TensorType::BF16 {
        for (value, two) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *value = f32::from_bits(u32::from(u16::from_le_bytes(*two)) << 16);
        }
        return;
    }
    assert_aligned(tensor_type, bytes);
    let to_float = to_float(tensor_type).expect("the caller asked can_be_read");
    // SAFETY: ggml reads the blocks of `values.len()` elements and writes as many F32; the first
    // assertion says that `bytes` holds exactly these blocks, the second that they are aligned.
    unsafe {
        to_float(
            bytes.as_ptr().cast(),
            values.as_mut_ptr(),
            values.len() as i64,
        )
    }
}

/// What is known of bytes that were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// They mean finite numbers.
    Finite,
    /// Their scales may have overflowed.
    Unchecked,
}

/// Quantizes rows of `row_elements` F32 each, finite ones, into `bytes`. `importance`, if given, has one value for
/// each column.
///
/// # Panics
/// If the lengths do not fit each other, or the type cannot do without `importance`.
pub fn from_f32(
    tensor_type: TensorType,
    values: &[f32],
    row_elements: u64,
    importance: Option<&[f32]>,
    bytes: &mut [u8],
) -> Made {
    let size = tensor_type.bytes_of(values.len() as u64);
    assert_eq!(size, Some(bytes.len() as u64));
    if importance.is_none() && quantizers::quantize(tensor_type, values, bytes) {
        return Made::Finite;
    }
    from_f32_by_ggml(tensor_type, values, row_elements, importance, bytes);
    Made::Unchecked
}

/// [`from_f32`], whatever the type, by ggml itself.
pub fn from_f32_by_ggml(
    tensor_type: TensorType,
    values: &[f32],
    row_elements: u64,
    importance: Option<&[f32]>,
    bytes: &mut [u8],
) {
    use TensorType::*;
    match importance {
        Some(importance) => assert_eq!(importance.len() as u64, row_elements),
        None => assert!(!matches!(tensor_type, IQ1_S | IQ2_XXS | IQ2_XS)),
    }
    let rows = values.len() as u64 / row_elements;
    assert_eq!(rows * row_elements, values.len() as u64);
    let row_bytes = tensor_type
        .bytes_of(row_elements)
        .expect("rows are whole blocks");
    assert_eq!(rows * row_bytes, bytes.len() as u64);
    assert_aligned(tensor_type, bytes);
    // SAFETY: ggml reads `rows * row_elements` F32 from `values` and writes `rows * row_bytes` bytes,
    // which the assertions above hold against both slices. Of the importance it reads `row_elements`
    // F32, which the first assertion holds, or takes a null pointer for none.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            tensor_type.number(),
            values.as_ptr(),
            bytes.as_mut_ptr().cast(),
            0,
            rows as i64,
            row_elements as i64,
            importance.map_or(std::ptr::null(), <[f32]>::as_ptr),
        )
    };
    assert_eq!(written, bytes.len());
}

/// A value as F16, rounded to the nearest, of two the even one.
pub fn f16_bits(value: f32) -> u16 {
    #[cfg(target_feature = "f16c")]
    // SAFETY: the program is compiled for machines that have the instruction.
    unsafe {
        use std::arch::x86_64::*;
        let halves = _mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(value));
        _mm_extract_epi16::<0>(halves) as u16
    }
    #[cfg(not(target_feature = "f16c"))]
    // SAFETY: it computes with its argument alone.
    unsafe {
        sys::ggml_fp32_to_fp16(value)
    }
}

/// The value of an F16.
pub fn f16_value(bits: u16) -> f32 {
    // SAFETY: it computes with its argument alone.
    unsafe { sys::ggml_fp16_to_fp32(bits) }
}

/// A block's alignment divides its size, so its size tells an alignment that is enough.
fn assert_aligned(tensor_type: TensorType, bytes: &[u8]) {
    let enough = 1usize << tensor_type.block_bytes().trailing_zeros().min(2);
    assert!(
        (bytes.as_ptr() as usize).is_multiple_of(enough),
        "rows of {tensor_type} not aligned"
    );
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn the_table_of_types_agrees_with_ggml() {
        for t in TensorType::all() {
            // SAFETY: the number is below GGML_TYPE_COUNT, asserted first; the name is a constant.
            let (elements, bytes, name) = unsafe {
                assert!(t.number() < sys::GGML_TYPE_COUNT);
                let name = CStr::from_ptr(sys::ggml_type_name(t.number()));
                (
                    sys::ggml_blck_size(t.number()),
                    sys::ggml_type_size(t.number()),
                    name,
                )
            };
            assert_eq!(
                (t.block_elements(), t.block_bytes()),
                (elements as u64, bytes as u64),
                "{t}"
            );
            assert_eq!(t.name(), name.to_str().unwrap().to_uppercase());
        }
    }

    #[test]
    fn no_type_of_ggml_is_missing_from_the_table() {
        let in_ggml = (0..sys::GGML_TYPE_COUNT)
            // SAFETY: the number is below GGML_TYPE_COUNT.
            .filter(|&number| unsafe { sys::ggml_blck_size(number) } > 0);
        for number in in_ggml {
            assert!(
                TensorType::from_number(number).is_some(),
                "ggml type {number}"
            );
        }
    }

    #[test]
    fn a_row_survives_the_way_through_q8_0_nearly_unchanged() {
        let values: Vec<f32> = (0..64).map(|i| (i as f32 - 31.5) / 8.0).collect();
        let mut bytes = vec![0; 68];
        from_f32(TensorType::Q8_0, &values, 64, None, &mut bytes);
        let mut back = vec![0.0; 64];
        to_f32(TensorType::Q8_0, &bytes, &mut back);
        for (a, b) in values.iter().zip(&back) {
            assert!((a - b).abs() <= 4.0 / 127.0, "{a} became {b}");
        }
    }
}
