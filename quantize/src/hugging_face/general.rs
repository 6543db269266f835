//! The `general.*` keys: what a model is called and how it likes to be sampled.

use std::path::Path;

use anyhow::Result;
use cloister_gguf::Metadata;
use serde_json::Value;

use super::config::Config;
use super::json_file::JsonFile;
use super::model_card;
use super::model_name::{self, ModelName};
use crate::source::SourceTensor;

/// Writes the keys that follow from the folder's name, README.md, config.json and generation_config.json.
pub fn write_keys(
    folder: &Path,
    config: &Config,
    tensors: &[SourceTensor],
    metadata: &mut Metadata,
) -> Result<()> {
    let parameters = tensors.iter().map(|t| t.info.elements()).sum();
    if let Some(file) = JsonFile::read_if_there(&folder.join("generation_config.json"))? {
        write_sampling(&file, metadata);
    }
    model_card::write_keys(folder, parameters, metadata)?;
    let absolute = std::path::absolute(folder)?;
    let folder_name = absolute
        .file_name()
        .map(|n| n.to_string_lossy())
        .unwrap_or_default();
    // A path with several slashes is a place on somebody's disk, not a name.
    let trained_as = config.file.get("_name_or_path").and_then(Value::as_str);
    let trained_as = trained_as.filter(|id| !id.is_empty() && id.matches('/').count() <= 1);
    for id in trained_as.into_iter().chain([&*folder_name]) {
        let ModelName {
            name,
            organization,
            basename,
            finetune,
            version,
            size_label,
        } = ModelName::parse(id, parameters);
        for (key, value) in [
            ("name", Some(model_name::title(&name))),
            ("organization", organization.map(|o| model_name::title(&o))),
            ("finetune", finetune),
            ("basename", basename),
            ("version", version),
            ("size_label", size_label),
        ] {
            let key = format!("general.{key}");
            if let (Some(value), None) = (value, metadata.get(&key)) {
                metadata.set(&key, value);
            }
        }
    }
    if metadata.get("general.size_label").is_none() {
        metadata.set("general.size_label", whole_size_label(tensors));
    }
    Ok(())
}

fn write_sampling(file: &JsonFile, metadata: &mut Metadata) {
    if let Some(top_k) = file.get("top_k").and_then(Value::as_i64) {
        metadata.set(
            "general.sampling.top_k",
            i32::try_from(top_k).unwrap_or(i32::MAX),
        );
    }
    for (theirs, ours) in [
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("temperature", "temp"),
        ("repetition_penalty", "penalty_repeat"),
    ] {
        if let Some(value) = file.get(theirs).and_then(Value::as_f64) {
            metadata.set(&format!("general.sampling.{ours}"), value as f32);
        }
    }
}

/// The size of a model without a size in its name. One with experts is so many times the size that
/// it would have with one of them: `256x20B`.
fn whole_size_label(tensors: &[SourceTensor]) -> String {
    let (mut once, mut experts, mut stacked) = (0, 0, 0);
    for tensor in tensors.iter().map(|t| &t.info) {
        match tensor.dims[..] {
            [row, rows, count] if tensor.name.contains("_exps.") => {
                once += row * rows;
                experts += count;
                stacked += 1;
            }
            _ => once += tensor.elements(),
        }
    }
    match experts / stacked.max(1) {
        0 => size_label(once),
        experts => format!("{experts}x{}", size_label(once)),
    }
}

/// A number of weights as `7.6B`: at least two digits.
fn size_label(parameters: u64) -> String {
    let n = parameters as f64;
    let (scaled, unit) = match parameters {
        1_000_000_000_001.. => (n / 1e12, "T"),
        1_000_000_001.. => (n / 1e9, "B"),
        1_000_001.. => (n / 1e6, "M"),
        _ => (n / 1e3, "K"),
    };
    let decimals = if scaled.round() >= 10.0 { 0 } else { 1 };
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_labels_have_two_digits() {
        assert_eq!(size_label(7_615_616_512), "7.6B");
        assert_eq!(size_label(134_515_008), "135M");
        assert_eq!(size_label(54_300), "54K");
    }
}
