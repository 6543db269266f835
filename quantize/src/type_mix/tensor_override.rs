//! `--tensor-type REGEX=TYPE`: a person's own choice for some tensors, with llama-quantize's
//! meaning: the expression may match anywhere in a tensor's name, in any case.

use std::fmt;
use std::str::FromStr;

use cloister_gguf::TensorType;
use regex_lite::{Regex, RegexBuilder};

use crate::file_type::FileType;

/// One `REGEX=TYPE`.
#[derive(Debug, Clone)]
pub struct TensorOverride {
    pattern: Regex,
    /// The type for the tensors that match.
    pub tensor_type: TensorType,
}

impl TensorOverride {
    /// Whether it is about the tensor of this name.
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name)
    }
}

impl fmt::Display for TensorOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.tensor_type)
    }
}

impl FromStr for TensorOverride {
    type Err = String;

    fn from_str(text: &str) -> Result<TensorOverride, String> {
        // A type's name holds no '=', an expression may.
        let (pattern, name) = match text.rsplit_once('=') {
            Some((pattern, name)) if !pattern.is_empty() => (pattern, name),
            _ => return Err("REGEX=TYPE is wanted, such as ffn_down=Q6_K".to_owned()),
        };
        let mut types = FileType::all().map(FileType::base);
        let Some(tensor_type) = types.find(|t| t.name().eq_ignore_ascii_case(name)) else {
            return Err(format!("{name:?} is no type that tensors can be given"));
        };
        let pattern = RegexBuilder::new(pattern)
            .case_insensitive(true)
            .build()
            .map_err(|error| format!("{pattern:?}: {error}"))?;
        Ok(TensorOverride {
            pattern,
            tensor_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_matches_anywhere_in_a_name_and_in_any_case() {
        let own: TensorOverride = r"BLK\.[0-3]\..*ffn_down=q6_k".parse().unwrap();
        assert_eq!(own.tensor_type, TensorType::Q6_K);
        assert!(own.matches("blk.2.ffn_down_exps.weight"));
        assert!(!own.matches("blk.12.ffn_down_exps.weight"));
    }

    #[test]
    fn what_is_no_pair_of_expression_and_type_is_refused() {
        for (text, part) in [
            ("ffn_down", "REGEX=TYPE is wanted"),
            ("=Q6_K", "REGEX=TYPE is wanted"),
            ("ffn_down=", "no type that tensors"),
            ("ffn_down=Q4_K_M", "no type that tensors"),
            ("ffn_down=I32", "no type that tensors"),
            ("ffn_(=Q6_K", "ffn_("),
        ] {
            let error = text.parse::<TensorOverride>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
