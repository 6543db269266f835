//! Finds llama.cpp's name for the way in which a tokenizer.json cuts text into words.
//!
//! llama.cpp has the known ways built in and picks one by `tokenizer.ggml.pre`. Upstream's converter
//! finds the name by the hash of a tokenized text, which needs the whole tokenizer to run; here the
//! `pre_tokenizer` itself is compared with those that the names stand for, part by part, so that a
//! way that differs by one character is refused rather than taken for another.

use serde_json::Value;

/// The regular expression of GPT-4's tokenizer, but for the number of digits kept together.
macro_rules! gpt4_like {
    ($digits:literal) => {
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}
const QWEN2: &str = gpt4_like!(r"\p{N}");
const LLAMA3: &str = gpt4_like!(r"\p{N}{1,3}");

/// The three expressions of DeepSeek-V3's tokenizer, one after the other.
const DEEPSEEK_V3: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"##,
        "\r\n",
        r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[",
        "\r\n",
        r"]*|\s*[",
        "\r\n",
        r"]+|\s+(?!\S)|\s+"
    ),
];

/// The token that begins a text in DeepSeek's tokenizers.
const DEEPSEEK_BEGIN: &str = "<｜begin▁of▁sentence｜>";

/// llama.cpp's name for `pre_tokenizer`, or `None` if it is none of the known. `begin` is the token
/// that is put before each text, which tells R1's distills of Qwen from Qwen.
pub fn name_of(pre_tokenizer: &Value, begin: Option<&str>) -> Option<&'static str> {
    let parts = match pre_tokenizer["type"].as_str()? {
        "Sequence" => pre_tokenizer["pretokenizers"].as_array()?.as_slice(),
        _ => std::slice::from_ref(pre_tokenizer),
    };
    match parts {
        [splits @ .., bytes]
            if is_bytes(bytes, false)
                && splits.iter().map(expression).eq(DEEPSEEK_V3.map(Some)) =>
        {
            Some("deepseek-v3")
        }
        [split, bytes] if is_bytes(bytes, false) => match expression(split)? {
            LLAMA3 => Some("llama-bpe"),
            QWEN2 if begin == Some(DEEPSEEK_BEGIN) => Some("deepseek-r1-qwen"),
            QWEN2 => Some("qwen2"),
            _ => None,
        },
        [digits, bytes] if is_bytes(bytes, true) && digits["type"] == "Digits" => {
            (digits["individual_digits"] == true).then_some("smollm")
        }
        [bytes] if is_bytes(bytes, true) => Some("gpt-2"),
        _ => None,
    }
}

/// What a step cuts by, if it keeps all that it cuts.
fn expression(split: &Value) -> Option<&str> {
    let keeps = split["behavior"] == "Isolated" && split["invert"] != true;
    let expression = split["pattern"]["Regex"].as_str();
    expression.filter(|_| split["type"] == "Split" && keeps)
}

/// True for the step that makes bytes of text, with or without GPT-2's own expression before it.
fn is_bytes(part: &Value, own_expression: bool) -> bool {
    part["type"] == "ByteLevel"
        && part["add_prefix_space"] == false
        && part["use_regex"].as_bool().unwrap_or(true) == own_expression
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn split_by(expression: &str) -> Value {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]})
    }

    #[test]
    fn the_expressions_of_qwen2_and_llama3_have_their_names() {
        assert_eq!(
            name_of(&split_by(QWEN2), Some("<|endoftext|>")),
            Some("qwen2")
        );
        assert_eq!(name_of(&split_by(QWEN2), None), Some("qwen2"));
        assert_eq!(
            name_of(&split_by(QWEN2), Some(DEEPSEEK_BEGIN)),
            Some("deepseek-r1-qwen")
        );
        assert_eq!(
            name_of(&split_by(LLAMA3), Some("<|begin_of_text|>")),
            Some("llama-bpe")
        );
        // R1's distill of Llama cuts as Llama does.
        assert_eq!(
            name_of(&split_by(LLAMA3), Some(DEEPSEEK_BEGIN)),
            Some("llama-bpe")
        );
    }

    #[test]
    fn deepseek_v3_splits_by_three_expressions_in_their_order() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let split = |expression: &&str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
        let of = |expressions: &[&str]| {
            let mut steps: Vec<Value> = expressions.iter().map(split).collect();
            steps.push(bytes.clone());
            json!({"type": "Sequence", "pretokenizers": steps})
        };
        let [digits, han, words] = DEEPSEEK_V3;
        let name = |expressions: &[&str]| name_of(&of(expressions), Some(DEEPSEEK_BEGIN));
        assert_eq!(name(&[digits, han, words]), Some("deepseek-v3"));
        assert_eq!(name(&[han, digits, words]), None);
        assert_eq!(name(&[digits, words]), None);
    }

    #[test]
    fn smollm_splits_digits_and_then_as_gpt2() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let both = json!({"type": "Sequence", "pretokenizers": [digits, bytes]});
        assert_eq!(name_of(&both, None), Some("smollm"));
        assert_eq!(name_of(&bytes, None), Some("gpt-2"));
    }

    #[test]
    fn a_way_that_differs_a_little_has_no_name() {
        assert_eq!(name_of(&split_by(&QWEN2.replace("'ll", "'LL")), None), None);
        let mut removed = split_by(LLAMA3);
        removed["pretokenizers"][0]["behavior"] = json!("Removed");
        assert_eq!(name_of(&removed, None), None);
        assert_eq!(name_of(&json!({"type": "Metaspace"}), None), None);
        assert_eq!(name_of(&Value::Null, None), None);
    }
}
