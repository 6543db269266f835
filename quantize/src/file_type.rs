//! What a person can ask `convert` for: the file types, by llama-quantize's names and numbers.

use cloister_gguf::TensorType;

/// A file type: mostly one tensor type, with others mixed in by `type_mix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, non_camel_case_types)] // the names are the documentation
pub enum FileType {
    #[value(name = "F16")]
    F16,
    #[value(name = "BF16")]
    BF16,
    #[value(name = "Q8_0")]
    Q8_0,
    #[value(name = "Q6_K")]
    Q6_K,
    #[value(name = "Q5_K_M")]
    Q5_K_M,
    #[value(name = "Q4_K_M")]
    Q4_K_M,
    #[value(name = "Q4_0")]
    Q4_0,
    #[value(name = "Q3_K_M")]
    Q3_K_M,
    #[value(name = "Q2_K")]
    Q2_K,
    #[value(name = "IQ4_XS")]
    IQ4_XS,
}

impl FileType {
    /// The number in `general.file_type`: `llama_ftype`.
    pub fn number(self) -> u32 {
        match self {
            FileType::F16 => 1,
            FileType::Q4_0 => 2,
            FileType::Q8_0 => 7,
            FileType::Q2_K => 10,
            FileType::Q3_K_M => 12,
            FileType::Q4_K_M => 15,
            FileType::Q5_K_M => 17,
            FileType::Q6_K => 18,
            FileType::IQ4_XS => 30,
            FileType::BF16 => 32,
        }
    }

    /// The tensor type of most of its weights.
    pub fn base(self) -> TensorType {
        match self {
            FileType::F16 => TensorType::F16,
            FileType::BF16 => TensorType::BF16,
            FileType::Q8_0 => TensorType::Q8_0,
            FileType::Q6_K => TensorType::Q6_K,
            FileType::Q5_K_M => TensorType::Q5_K,
            FileType::Q4_K_M => TensorType::Q4_K,
            FileType::Q4_0 => TensorType::Q4_0,
            FileType::Q3_K_M => TensorType::Q3_K,
            FileType::Q2_K => TensorType::Q2_K,
            FileType::IQ4_XS => TensorType::IQ4_XS,
        }
    }
}

impl std::fmt::Display for FileType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            name_of(self.number().into()).expect("every type has a name: a test walks them"),
        )
    }
}

/// The name of any `general.file_type`, also of those that `convert` does not make.
pub fn name_of(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_number_of_a_type_leads_to_its_name() {
        for t in FileType::value_variants() {
            let name = t.to_possible_value().unwrap();
            assert_eq!(name_of(t.number().into()), Some(name.get_name()));
        }
    }
}
