//! What a person can ask `convert` for: the file types, by llama-quantize's names and numbers.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use cloister_gguf::TensorType;

/// A file type: mostly one tensor type, with others mixed in by `type_mix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, non_camel_case_types)] // the names are the documentation
pub enum FileType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    MXFP4_MOE,
    IQ4_NL,
    IQ4_XS,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    IQ3_M,
    IQ3_S,
    IQ3_XS,
    IQ3_XXS,
    Q2_K,
    Q2_K_S,
    IQ2_M,
    IQ2_S,
    IQ2_XS,
    IQ2_XXS,
    IQ1_M,
    IQ1_S,
    TQ2_0,
    TQ1_0,
}

use FileType::*;

/// Type, number in `general.file_type` (`llama_ftype`), name, another name, type of most weights.
#[rustfmt::skip]
const TABLE: &[(FileType, u32, &str, Option<&str>, TensorType)] = &[
    (F32,       0,  "F32",       None,          TensorType::F32),
    (F16,       1,  "F16",       None,          TensorType::F16),
    (BF16,      32, "BF16",      None,          TensorType::BF16),
    (Q8_0,      7,  "Q8_0",      None,          TensorType::Q8_0),
    (Q6_K,      18, "Q6_K",      None,          TensorType::Q6_K),
    (Q5_K_M,    17, "Q5_K_M",    Some("Q5_K"),  TensorType::Q5_K),
    (Q5_K_S,    16, "Q5_K_S",    None,          TensorType::Q5_K),
    (Q5_1,      9,  "Q5_1",      None,          TensorType::Q5_1),
    (Q5_0,      8,  "Q5_0",      None,          TensorType::Q5_0),
    (Q4_K_M,    15, "Q4_K_M",    Some("Q4_K"),  TensorType::Q4_K),
    (Q4_K_S,    14, "Q4_K_S",    None,          TensorType::Q4_K),
    (Q4_1,      3,  "Q4_1",      None,          TensorType::Q4_1),
    (Q4_0,      2,  "Q4_0",      None,          TensorType::Q4_0),
    (MXFP4_MOE, 38, "MXFP4_MOE", Some("MXFP4"), TensorType::MXFP4),
    (IQ4_NL,    25, "IQ4_NL",    None,          TensorType::IQ4_NL),
    (IQ4_XS,    30, "IQ4_XS",    None,          TensorType::IQ4_XS),
    (Q3_K_L,    13, "Q3_K_L",    None,          TensorType::Q3_K),
    (Q3_K_M,    12, "Q3_K_M",    Some("Q3_K"),  TensorType::Q3_K),
    (Q3_K_S,    11, "Q3_K_S",    None,          TensorType::Q3_K),
    (IQ3_M,     27, "IQ3_M",     None,          TensorType::IQ3_S),
    (IQ3_S,     26, "IQ3_S",     None,          TensorType::IQ3_S),
    (IQ3_XS,    22, "IQ3_XS",    None,          TensorType::IQ3_S),
    (IQ3_XXS,   23, "IQ3_XXS",   None,          TensorType::IQ3_XXS),
    (Q2_K,      10, "Q2_K",      None,          TensorType::Q2_K),
    (Q2_K_S,    21, "Q2_K_S",    None,          TensorType::Q2_K),
    (IQ2_M,     29, "IQ2_M",     None,          TensorType::IQ2_S),
    (IQ2_S,     28, "IQ2_S",     None,          TensorType::IQ2_XS),
    (IQ2_XS,    20, "IQ2_XS",    None,          TensorType::IQ2_XS),
    (IQ2_XXS,   19, "IQ2_XXS",   None,          TensorType::IQ2_XXS),
    (IQ1_M,     31, "IQ1_M",     None,          TensorType::IQ1_M),
    (IQ1_S,     24, "IQ1_S",     None,          TensorType::IQ1_S),
    (TQ2_0,     37, "TQ2_0",     None,          TensorType::TQ2_0),
    (TQ1_0,     36, "TQ1_0",     None,          TensorType::TQ1_0),
];

impl FileType {
    /// Every file type, roughly from large to small.
    pub fn all() -> impl Iterator<Item = FileType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The number in `general.file_type`: `llama_ftype`.
    pub fn number(self) -> u32 {
        self.row().1
    }

    /// llama-quantize's name.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Whether it is a type of two or three bits that can be made without an importance matrix and
    /// should not be.
    pub fn suffers_without_imatrix(self) -> bool {
        use TensorType::*;
        matches!(self.base(), Q2_K | Q3_K | IQ3_S)
    }

    /// The tensor type of most of its weights.
    pub fn base(self) -> TensorType {
        self.row().4
    }

    fn row(
        self,
    ) -> &'static (
        FileType,
        u32,
        &'static str,
        Option<&'static str>,
        TensorType,
    ) {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .expect("every file type has its row: a test walks them")
    }
}

impl ValueEnum for FileType {
    fn value_variants<'a>() -> &'a [FileType] {
        const ALL: [FileType; TABLE.len()] = {
            let mut all = [F32; TABLE.len()];
            let mut i = 0;
            while i < TABLE.len() {
                all[i] = TABLE[i].0;
                i += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (_, _, name, alias, _) = *self.row();
        Some(PossibleValue::new(name).aliases(alias))
    }
}

impl std::fmt::Display for FileType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of any `general.file_type`, if `convert` makes that one.
pub fn name_of(number: u64) -> Option<&'static str> {
    let row = TABLE.iter().find(|row| u64::from(row.1) == number)?;
    Some(row.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_type_leads_to_its_name() {
        for t in FileType::all() {
            assert_eq!(name_of(t.number().into()), Some(t.name()));
        }
        assert_eq!(name_of(4), None, "removed from llama.cpp");
    }

    #[test]
    fn every_type_can_be_asked_for_by_its_names() {
        for (file_type, _, name, alias, _) in TABLE {
            for name in std::iter::once(name).chain(alias) {
                let found = FileType::from_str(&name.to_lowercase(), true);
                assert_eq!(found, Ok(*file_type));
            }
        }
    }
}
