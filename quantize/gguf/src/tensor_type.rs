//! The element types that a GGUF tensor may have: number, name, elements and bytes of one block.
//! Facts about storage only; the arithmetic of the types is ggml's.

/// A tensor's element type. The discriminant is the number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, non_camel_case_types)] // the names are the documentation, in ggml's spelling
pub enum TensorType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q8_1 = 9,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    Q8_K = 15,
    IQ2_XXS = 16,
    IQ2_XS = 17,
    IQ3_XXS = 18,
    IQ1_S = 19,
    IQ4_NL = 20,
    IQ3_S = 21,
    IQ2_S = 22,
    IQ4_XS = 23,
    I8 = 24,
    I16 = 25,
    I32 = 26,
    I64 = 27,
    F64 = 28,
    IQ1_M = 29,
    BF16 = 30,
    TQ1_0 = 34,
    TQ2_0 = 35,
    MXFP4 = 39,
    NVFP4 = 40,
    Q1_0 = 41,
    Q2_0 = 42,
}

use TensorType::*;

/// Type, name, elements in a block, bytes in a block.
const TABLE: &[(TensorType, &str, u64, u64)] = &[
    (F32, "F32", 1, 4),
    (F16, "F16", 1, 2),
    (Q4_0, "Q4_0", 32, 18),
    (Q4_1, "Q4_1", 32, 20),
    (Q5_0, "Q5_0", 32, 22),
    (Q5_1, "Q5_1", 32, 24),
    (Q8_0, "Q8_0", 32, 34),
    (Q8_1, "Q8_1", 32, 36),
    (Q2_K, "Q2_K", 256, 84),
    (Q3_K, "Q3_K", 256, 110),
    (Q4_K, "Q4_K", 256, 144),
    (Q5_K, "Q5_K", 256, 176),
    (Q6_K, "Q6_K", 256, 210),
    (Q8_K, "Q8_K", 256, 292),
    (IQ2_XXS, "IQ2_XXS", 256, 66),
    (IQ2_XS, "IQ2_XS", 256, 74),
    (IQ3_XXS, "IQ3_XXS", 256, 98),
    (IQ1_S, "IQ1_S", 256, 50),
    (IQ4_NL, "IQ4_NL", 32, 18),
    (IQ3_S, "IQ3_S", 256, 110),
    (IQ2_S, "IQ2_S", 256, 82),
    (IQ4_XS, "IQ4_XS", 256, 136),
    (I8, "I8", 1, 1),
    (I16, "I16", 1, 2),
    (I32, "I32", 1, 4),
    (I64, "I64", 1, 8),
    (F64, "F64", 1, 8),
    (IQ1_M, "IQ1_M", 256, 56),
    (BF16, "BF16", 1, 2),
    (TQ1_0, "TQ1_0", 256, 54),
    (TQ2_0, "TQ2_0", 256, 66),
    (MXFP4, "MXFP4", 32, 17),
    (NVFP4, "NVFP4", 64, 36),
    (Q1_0, "Q1_0", 128, 18),
    (Q2_0, "Q2_0", 64, 18),
];

impl TensorType {
    /// Every type, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = TensorType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type with this number in a file, if there is one.
    pub fn from_number(number: u32) -> Option<TensorType> {
        TensorType::all().find(|t| t.number() == number)
    }

    /// The number that stands for it in a file: `ggml_type`.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// ggml's name in capitals, as people write it: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements in one block.
    pub fn block_elements(self) -> u64 {
        self.row().2
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> u64 {
        self.row().3
    }

    /// True for types that hold several elements in a block, with scales.
    pub fn is_quantized(self) -> bool {
        self.block_elements() > 1
    }

    /// Bytes of `elements` elements, or `None` if they fill no whole number of blocks or the number
    /// of bytes overflows.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }

    fn row(self) -> &'static (TensorType, &'static str, u64, u64) {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .expect("every type has its row: a test walks all numbers")
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_types() {
        for t in TensorType::all() {
            assert_eq!(TensorType::from_number(t.number()), Some(t));
        }
        assert_eq!(TensorType::from_number(4), None, "removed from ggml");
        assert_eq!(TensorType::from_number(u32::MAX), None);
    }

    #[test]
    fn half_a_block_has_no_size() {
        assert_eq!(Q4_K.bytes_of(512), Some(288));
        assert_eq!(Q4_K.bytes_of(128), None);
        assert_eq!(F32.bytes_of(u64::MAX), None);
    }
}
