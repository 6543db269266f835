//! Takes a model's name apart: `deepseek-ai/DeepSeek-R1-Distill-Qwen-7B` is of the organization
//! deepseek-ai, based on DeepSeek-R1-Distill-Qwen, of size 7B. The rules are those by which
//! upstream's converter fills the `general.*` keys.

use regex_lite::Regex;

/// The parts of a name; those that cannot be told are `None`.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelName {
    /// The name without the organization.
    pub name: String,
    pub organization: Option<String>,
    pub basename: Option<String>,
    pub finetune: Option<String>,
    pub version: Option<String>,
    pub size_label: Option<String>,
}

/// What one part between dashes says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Version,
    /// A type of weights, which is no part of any key.
    WeightType,
    Size,
    Finetune,
    Base,
    /// A version inside the base name, such as the 3.1 of Llama-3.1-8B.
    BaseVersion,
}

impl ModelName {
    /// Takes `id` apart. `parameters`, the number of weights, tells a size from a context length.
    pub fn parse(id: &str, parameters: u64) -> ModelName {
        let (organization, name) = match id.split_once('/') {
            Some((organization, name)) if !id.contains(' ') => (Some(organization), name),
            _ => (None, id),
        };
        let mut parsed = ModelName {
            name: name.to_owned(),
            organization: organization
                .filter(|o| !o.starts_with('.'))
                .map(str::to_owned),
            basename: None,
            finetune: None,
            version: None,
            size_label: None,
        };
        if id.contains(' ') {
            return parsed; // a sentence, not a name
        }
        let parts = name.split('-').filter(|part| !part.is_empty()).enumerate();
        let mut parts: Vec<_> = parts
            .map(|(i, part)| part_says(i, part, parameters))
            .collect();
        prefer_sizes_in_digits(&mut parts);
        find_base(&mut parts);

        let mut sizes: Vec<&str> = Vec::new();
        for (part, says) in &parts {
            if *says == Says::Size && !sizes.contains(&part.as_str()) {
                sizes.push(part);
            }
        }
        let joined = |wanted: &[Says]| {
            let of = parts.iter().filter(|(_, says)| wanted.contains(says));
            let of: Vec<&str> = of.map(|(part, _)| part.as_str()).collect();
            (!of.is_empty()).then(|| of.join("-"))
        };
        parsed.size_label = (!sizes.is_empty()).then(|| sizes.join("-"));
        parsed.finetune = joined(&[Says::Finetune]);
        parsed.version = joined(&[Says::Version]);
        // A base name alone would be just the name again.
        if parsed.size_label.is_some() || parsed.finetune.is_some() || parsed.version.is_some() {
            parsed.basename = joined(&[Says::Base, Says::BaseVersion]);
        }
        parsed
    }
}

/// What part number `i` of a name says, and its usual spelling.
fn part_says(i: usize, part: &str, parameters: u64) -> (String, Says) {
    if matches(part, r"(v|iter)?\d+([.]\d+)*") {
        (part.to_owned(), Says::Version)
    } else if matches(part, r"i?q\d(_\w)*|b?fp?(16|32)") {
        (part.to_uppercase(), Says::WeightType)
    } else if i > 0 && matches(part, r"(small|mini|medium|large|x?xl)") {
        (part.to_owned(), Says::Size)
    } else if i > 0 && matches(part, r"(a|\d+x)?\d+([._]\d+)?[kmbt]\d?") {
        size_says(part, parameters)
    } else if i > 0 && matches(part, "chat|instruct|vision|lora") {
        (part.to_owned(), Says::Finetune)
    } else {
        (part.to_owned(), Says::Nothing)
    }
}

fn matches(part: &str, expression: &str) -> bool {
    let whole = Regex::new(&format!("(?i)^({expression})$")).expect("the expression is sound");
    whole.is_match(part)
}

/// `7b` is the size 7B, `7b1` is 7.1B; `8k` of a model of billions is a context length.
fn size_says(part: &str, parameters: u64) -> (String, Says) {
    let mut part = part.replace('_', ".");
    let mut letters: Vec<char> = part.chars().collect();
    if let [.., unit, digit] = letters[..]
        && digit.is_ascii_digit()
    {
        letters.truncate(letters.len() - 2);
        letters.extend(['.', digit, unit]);
    }
    let unit = letters
        .pop()
        .expect("a size has at least a digit and a unit");
    let number: String = letters.into_iter().collect();
    part = format!("{number}{}", unit.to_ascii_uppercase());
    let scale = match unit.to_ascii_uppercase() {
        'K' => 1e3,
        'M' => 1e6,
        'B' => 1e9,
        _ => 1e12,
    };
    // Of a size such as 8x7B or A3B nothing can be said.
    let Ok(number_of) = number.parse::<f64>() else {
        return (part, Says::Size);
    };
    let parameters = parameters as f64;
    if (number_of * scale - parameters).abs() > parameters * 7.0 / 8.0 {
        return (
            format!("{number}{}", unit.to_ascii_lowercase()),
            Says::Finetune,
        );
    }
    (part, Says::Size)
}

/// Words such as `small` are sizes only where no size in digits is.
fn prefer_sizes_in_digits(parts: &mut [(String, Says)]) {
    let has_digit = |part: &str| part.contains(|c: char| c.is_ascii_digit());
    if parts
        .iter()
        .any(|(part, says)| *says == Says::Size && has_digit(part))
    {
        for (part, says) in parts {
            if *says == Says::Size && !has_digit(part) {
                *says = Says::Nothing;
            }
        }
    }
}

/// The base is what the name starts with, versions within included but not behind it; what else
/// says nothing is a finetune's name.
fn find_base(parts: &mut [(String, Says)]) {
    let mut at_start = true;
    for (part, says) in parts.iter_mut() {
        let alphabetic = part.starts_with(char::is_alphabetic);
        *says = match *says {
            Says::Nothing if at_start && alphabetic => Says::Base,
            Says::Version if at_start => Says::BaseVersion,
            other => {
                at_start = false;
                if other == Says::Nothing {
                    Says::Finetune
                } else {
                    other
                }
            }
        };
    }
    for (_, says) in parts.iter_mut().rev() {
        match says {
            Says::BaseVersion => *says = Says::Version,
            _ => break,
        }
    }
}

/// `deepseek-r1-7b` as `Deepseek R1 7b`: words in small letters get a capital, but versions and
/// numbers do not.
pub fn title(name: &str) -> String {
    let dashless = name.replace('-', " ");
    let words = dashless.split_whitespace().map(|word| {
        let small = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        if !small || matches(word, r"v\d+(\.\d+)*|\d.*") {
            return word.to_owned();
        }
        let mut after_letter = false;
        let capitalized = word.chars().flat_map(|c| {
            let first = !std::mem::replace(&mut after_letter, c.is_alphabetic());
            let upper = first.then(|| c.to_uppercase());
            let same = (!first).then_some(c);
            upper.into_iter().flatten().chain(same)
        });
        capitalized.collect()
    });
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, weights, and what upstream's converter says of it: title, basename, finetune, version,
    /// size label.
    type Row = (&'static str, u64, [&'static str; 5]);

    const UPSTREAM: &[Row] = &[
        (
            "DeepSeek-R1-Distill-Qwen-7B",
            7_615_616_512,
            [
                "DeepSeek R1 Distill Qwen 7B",
                "DeepSeek-R1-Distill-Qwen",
                "",
                "",
                "7B",
            ],
        ),
        (
            "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
            8_030_261_312,
            [
                "DeepSeek R1 Distill Llama 8B",
                "DeepSeek-R1-Distill-Llama",
                "",
                "",
                "8B",
            ],
        ),
        (
            "Llama-3.1-8B-Instruct",
            8_030_261_312,
            ["Llama 3.1 8B Instruct", "Llama-3.1", "Instruct", "", "8B"],
        ),
        (
            "Qwen2.5-Coder-0.5B-Instruct",
            494_032_768,
            [
                "Qwen2.5 Coder 0.5B Instruct",
                "Qwen2.5-Coder",
                "Instruct",
                "",
                "0.5B",
            ],
        ),
        (
            "Qwen2.5-7B-Instruct-1M",
            7_615_616_512,
            ["Qwen2.5 7B Instruct 1M", "Qwen2.5", "Instruct-1m", "", "7B"],
        ),
        (
            "SmolLM2-135M-Instruct",
            134_515_008,
            ["SmolLM2 135M Instruct", "SmolLM2", "Instruct", "", "135M"],
        ),
        (
            "smollm2-135M-8k-lc100K-mix1-ep2",
            134_515_008,
            [
                "Smollm2 135M 8k lc100K Mix1 Ep2",
                "smollm2",
                "8k-lc100K-mix1-ep2",
                "",
                "135M",
            ],
        ),
        ("tiny-qwen2", 54_300, ["Tiny Qwen2", "", "", "", ""]),
        (
            "Mistral-7B-v0.3",
            7_248_023_552,
            ["Mistral 7B v0.3", "Mistral", "", "v0.3", "7B"],
        ),
        (
            "Mixtral-8x7B-v0.1",
            46_702_792_704,
            ["Mixtral 8x7B v0.1", "Mixtral", "", "v0.1", "8x7B"],
        ),
        (
            "bloom-7b1",
            7_069_016_064,
            ["Bloom 7b1", "bloom", "", "", "7.1B"],
        ),
        (
            "Phi-3-mini-4k-instruct-fp16",
            3_821_079_552,
            [
                "Phi 3 Mini 4k Instruct Fp16",
                "Phi-3",
                "4k-instruct",
                "",
                "mini",
            ],
        ),
        (
            "phi-2-small-3B",
            2_700_000_000,
            ["Phi 2 Small 3B", "phi-2-small", "", "", "3B"],
        ),
        (
            "my model of sundays",
            1_000,
            ["My Model Of Sundays", "", "", "", ""],
        ),
        (
            "gpt2--large",
            774_030_080,
            ["Gpt2 Large", "gpt2", "", "", "large"],
        ),
        (
            "checkpoint-1200",
            1_000_000,
            ["Checkpoint 1200", "checkpoint", "", "1200", ""],
        ),
        ("v2a-r1x", 100_000, ["V2A R1X", "", "", "", ""]),
    ];

    #[test]
    fn names_are_taken_apart_as_upstream_does() {
        for &(id, parameters, [name, basename, finetune, version, size_label]) in UPSTREAM {
            let parsed = ModelName::parse(id, parameters);
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            assert_eq!(title(&parsed.name), name, "{id}");
            assert_eq!(parsed.basename, some(basename), "{id}");
            assert_eq!(parsed.finetune, some(finetune), "{id}");
            assert_eq!(parsed.version, some(version), "{id}");
            assert_eq!(parsed.size_label, some(size_label), "{id}");
        }
    }

    #[test]
    fn what_stands_before_the_slash_is_the_organization() {
        let parsed = ModelName::parse("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7_615_616_512);
        assert_eq!(parsed.organization.as_deref(), Some("deepseek-ai"));
        assert_eq!(parsed.name, "DeepSeek-R1-Distill-Qwen-7B");
        assert_eq!(ModelName::parse("./model", 1).organization, None);
    }
}
