//! The front matter of a folder's README.md, which says who made the model, out of what, and under which
//! licence: YAML between two lines of `---`.
//!
//! In: a folder. Out: the keys that llama.cpp's converter takes from there; none where there is no front
//! matter. It must never read more than a card is long.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cloister_gguf::{Array, Metadata, StringArray};
use serde_json::{Map, Value};

use super::model_name::{self, ModelName};

/// The longest README.md that is read, in bytes: those with many evaluations have some 100,000.
const MAX_BYTES: u64 = 4 << 20;

/// Keys of one string each, and the fields for it, of which the first that is there counts.
const STRINGS: [(&str, &[&str]); 14] = [
    ("name", &["name", "model_name"]),
    ("author", &["author", "model_author", "model_creator"]),
    ("version", &["version", "model_version"]),
    ("organization", &["organization", "model_organization"]),
    ("description", &["description", "model_description"]),
    ("finetune", &["finetune", "model_finetune"]),
    ("basename", &["basename", "model_basename", "model_type"]),
    ("size_label", &["size_label", "model_size_label"]),
    ("source.url", &["url", "model_url"]),
    ("source.doi", &["doi", "model_doi"]),
    ("source.uuid", &["uuid", "model_uuid"]),
    ("source.repo_url", &["repo_url", "model_repo_url"]),
    ("license.name", &["license_name"]),
    ("license.link", &["license_link"]),
];

/// Keys of a list each, and the fields that add to it.
const LISTS: [(&str, [&str; 2]); 2] = [
    ("tags", ["tags", "pipeline_tag"]),
    ("languages", ["languages", "language"]),
];

/// What a model was made of: the keys' middle part, and the fields, of which the first that is there counts.
const ORIGINS: [(&str, [&str; 3]); 2] = [
    (
        "base_model",
        ["base_model", "base_models", "base_model_sources"],
    ),
    ("dataset", ["datasets", "dataset", "dataset_sources"]),
];

/// What can be said of a base model or a data set.
const OF_AN_ORIGIN: [&str; 9] = [
    "name",
    "author",
    "version",
    "organization",
    "description",
    "url",
    "doi",
    "uuid",
    "repo_url",
];

/// Where models are published, as llama.cpp's converter writes their addresses.
const HUB: &str = "https://huggingface.co";

/// Writes the keys that follow from the card. `parameters` is the number of weights.
pub fn write_keys(folder: &Path, parameters: u64, metadata: &mut Metadata) -> Result<()> {
    let path = folder.join("README.md");
    let Some(card) = read(&path).with_context(|| path.display().to_string())? else {
        return Ok(());
    };
    for (key, fields) in STRINGS {
        if let Some(text) = fields.iter().find_map(|field| text(card.get(*field)?)) {
            metadata.set(&format!("general.{key}"), text);
        }
    }
    if let Some(license) = card.get("license") {
        metadata.set("general.license", several(license).join(","));
    }
    for (key, fields) in LISTS {
        let values = fields.iter().filter_map(|field| card.get(*field));
        let values: Vec<String> = values.flat_map(several).collect();
        if !values.is_empty() {
            let mut array = StringArray::default();
            values.iter().for_each(|value| array.push(value.as_bytes()));
            metadata.set(&format!("general.{key}"), Array::String(array));
        }
    }
    for (kind, fields) in ORIGINS {
        let Some(origins) = fields.iter().find_map(|field| card.get(*field)) else {
            continue;
        };
        let origins = match origins {
            Value::Array(all) => all.iter().collect(),
            Value::Null => Vec::new(),
            one => vec![one],
        };
        metadata.set(&format!("general.{kind}.count"), origins.len() as u32);
        for (number, origin) in origins.into_iter().enumerate() {
            let said = match origin {
                Value::Object(fields) => fields.clone(),
                other => origin_of(&text(other).unwrap_or_default(), parameters),
            };
            for field in OF_AN_ORIGIN {
                if let Some(text) = said.get(field).and_then(text) {
                    metadata.set(&format!("general.{kind}.{number}.{field}"), text);
                }
            }
        }
    }
    Ok(())
}

/// The fields of the front matter, if there is one.
fn read(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let size = std::fs::metadata(path).context("cannot read")?.len();
    if size > MAX_BYTES {
        bail!("{size} bytes; no model card is larger than {MAX_BYTES}: move it out of the folder");
    }
    let bytes = std::fs::read(path).context("cannot read")?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next() != Some("---") {
        return Ok(None);
    }
    let matter: Vec<&str> = lines.take_while(|line| *line != "---").collect();
    // Tabs are in some cards, and are no indentation to YAML.
    let matter = matter.join("\n").replace('\t', "  ");
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        // `no` is Norwegian.
        strict_booleans: true,
    };
    match serde_saphyr::from_str_with_options(&matter, options) {
        Ok(Value::Object(fields)) => Ok(Some(fields)),
        // A line across the page, not the start of front matter.
        Ok(_) => Ok(None),
        Err(error) => bail!(
            "its front matter is no sound YAML: {}; mend it, or move the file out of the folder",
            error.to_string().lines().next().unwrap_or_default()
        ),
    }
}

/// A value that is one word or number, as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A value that is one word, or a list of them.
fn several(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

/// What the name or the address of an origin says of it.
fn origin_of(id: &str, parameters: u64) -> Map<String, Value> {
    let mut said = Map::new();
    let mut say = |field: &str, text: String| said.insert(field.to_owned(), Value::String(text));
    let is_address = ["http://", "https://", "ssh://"]
        .iter()
        .any(|scheme| id.starts_with(scheme));
    let name = match is_address {
        false => Some(id),
        true => name_at_hub(id),
    };
    if let Some(name) = name {
        let name = ModelName::parse(name, parameters);
        say("name", model_name::title(&name.name));
        if let Some(version) = name.version {
            say("version", version);
        }
        if let Some(organization) = name.organization {
            say("organization", model_name::title(&organization));
            say("repo_url", format!("{HUB}/{organization}/{}", name.name));
        }
    }
    if is_address {
        say("repo_url", id.to_owned());
    }
    said
}

/// `organization/name` in the address of a model.
fn name_at_hub(address: &str) -> Option<&str> {
    let plain = HUB.replace("https:", "http:");
    let path = address
        .strip_prefix(HUB)
        .or_else(|| address.strip_prefix(&plain))?;
    let (organization, name) = path.strip_prefix('/')?.split_once('/')?;
    let sound = !organization.is_empty() && !name.is_empty() && !name.contains('/');
    sound.then_some(&path[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(card: &str) -> Result<Metadata> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README.md"), card).unwrap();
        let mut metadata = Metadata::default();
        write_keys(folder.path(), 1_000_000, &mut metadata)?;
        Ok(metadata)
    }

    #[test]
    fn a_card_without_front_matter_says_nothing() {
        for card in [
            "",
            "# Title\n---\nlicense: mit\n---\n",
            "---\nJust a line.\n---\n",
        ] {
            assert_eq!(keys(card).unwrap(), Metadata::default(), "{card:?}");
        }
    }

    #[test]
    fn an_address_of_the_hub_is_a_name_too() {
        let base = keys(&format!(
            "---\nbase_model: {HUB}/meta-llama/Llama-3.1-8B\n---\n"
        ))
        .unwrap();
        let said = |field: &str| base.str(&format!("general.base_model.0.{field}"));
        assert_eq!(said("name"), Some("Llama 3.1 8B"));
        assert_eq!(said("organization"), Some("Meta Llama"));
        assert_eq!(
            said("repo_url"),
            Some(&*format!("{HUB}/meta-llama/Llama-3.1-8B"))
        );
        assert_eq!(name_at_hub(&format!("{HUB}/datasets/a/b")), None);
    }

    #[test]
    fn unsound_yaml_is_an_error_that_says_where() {
        let error = keys("---\nlicense: [mit\nname: x\n---\n").unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("README.md: its front matter"), "{error}");
        assert!(error.contains("line"), "{error}");
    }

    /// Nine lines that would be a thousand million words.
    #[test]
    fn aliases_of_aliases_do_not_explode() {
        let mut card = "---\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let of = format!("*a{}, ", n - 1).repeat(10);
            card += &format!("a{n}: &a{n} [{of}]\n");
        }
        assert!(keys(&(card + "---\n")).is_err());
    }
}
