//! tokenizer.json, tokenizer_config.json and the chat template, as GGUF's `tokenizer.*` keys.
//!
//! Only byte-level BPE is read, the kind of Qwen, Llama 3 and DeepSeek.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use cloister_gguf::{Array, Metadata, StringArray};
use serde::Deserialize;
use serde_json::Value;

use super::config::Config;
use super::json_file::JsonFile;
use super::pre_tokenizer;

/// llama.cpp's kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The special tokens by Hugging Face's names and GGUF's.
const SPECIAL: [(&str, &str); 7] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"), // so spelled in GGUF
    ("pad", "padding"),
    ("cls", "cls"),
    ("mask", "mask"),
];

/// A folder's tokenizer.
struct Tokenizer<'c> {
    tokenizer: JsonFile,
    settings: Option<JsonFile>,
    config: &'c Config,
    /// `added_tokens` of tokenizer.json: text to id.
    added: HashMap<String, u32>,
    /// All tokens: text to id.
    vocabulary: HashMap<String, u32>,
}

/// Writes the keys of the tokenizer in `folder`.
pub fn write_keys(folder: &Path, config: &Config, metadata: &mut Metadata) -> Result<()> {
    let tokenizer = Tokenizer::read(folder, config)?;
    if config.architecture() == "llama" {
        let prefix = tokenizer
            .setting("add_prefix_space")
            .and_then(Value::as_bool);
        if let Some(prefix) = prefix {
            metadata.set("tokenizer.ggml.add_space_prefix", prefix);
        }
    }
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", tokenizer.pre_tokenizer()?);
    let (tokens, kinds) = tokenizer.tokens()?;
    metadata.set("tokenizer.ggml.tokens", Array::String(tokens));
    metadata.set("tokenizer.ggml.token_type", Array::I32(kinds));
    metadata.set("tokenizer.ggml.merges", Array::String(tokenizer.merges()?));
    for (theirs, ours) in SPECIAL {
        if let Some(id) = tokenizer.special_id(theirs) {
            metadata.set(&format!("tokenizer.ggml.{ours}_token_id"), id);
        }
    }
    for (name, added) in tokenizer.added_by_itself() {
        metadata.set(&format!("tokenizer.ggml.add_{name}_token"), added);
    }
    write_chat_template(folder, &tokenizer, metadata)
}

impl Tokenizer<'_> {
    fn read<'c>(folder: &Path, config: &'c Config) -> Result<Tokenizer<'c>> {
        let path = folder.join("tokenizer.json");
        if !path.exists() && folder.join("tokenizer.model").exists() {
            bail!(
                "{}: SentencePiece cannot be converted; a tokenizer.json is needed",
                folder.display()
            );
        }
        let tokenizer = JsonFile::read(&path)?;
        let shown = path.display();
        let model = tokenizer.get("model").unwrap_or(&Value::Null);
        if model["type"] != "BPE" || model["byte_fallback"] == true {
            bail!("{shown}: a tokenizer that is no byte-level BPE cannot be converted");
        }
        let ids = HashMap::<String, u32>::deserialize(&model["vocab"])
            .map_err(|error| anyhow::anyhow!("{shown}: model.vocab: {error}"))?;
        let mut added = HashMap::new();
        for token in tokenizer
            .get("added_tokens")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let (Some(id), Some(text)) = (id, token["content"].as_str()) else {
                bail!("{shown}: added_tokens: {token} has no id or no content");
            };
            added.entry(text.to_owned()).or_insert(id);
        }
        let mut vocabulary = ids;
        vocabulary.extend(added.iter().map(|(text, id)| (text.clone(), *id)));
        let settings = JsonFile::read_if_there(&folder.join("tokenizer_config.json"))?;
        Ok(Tokenizer {
            tokenizer,
            settings,
            config,
            added,
            vocabulary,
        })
    }

    /// A field of tokenizer_config.json.
    fn setting(&self, field: &str) -> Option<&Value> {
        self.settings.as_ref()?.get(field)
    }

    /// The text of a special token: the field is a string or an object with `content`.
    fn special_text(&self, name: &str) -> Option<&str> {
        let value = self.setting(&format!("{name}_token"))?;
        value.as_str().or_else(|| value["content"].as_str())
    }

    fn special_id(&self, name: &str) -> Option<u32> {
        let text = self.special_text(name);
        let named = text.and_then(|text| self.added.get(text).or(self.vocabulary.get(text)));
        let in_config = || self.config.file.get(&format!("{name}_token_id"))?.as_u64();
        named.copied().or_else(|| u32::try_from(in_config()?).ok())
    }

    /// The token that the tokenizer puts before a text by itself.
    fn begin(&self) -> Option<&str> {
        let asked = self.setting("add_bos_token") == Some(&Value::Bool(true));
        let adds = asked || self.added_by_itself().contains(&("bos", true));
        self.special_text("bos").filter(|_| adds)
    }

    fn pre_tokenizer(&self) -> Result<&'static str> {
        let pre_tokenizer = self.tokenizer.get("pre_tokenizer").unwrap_or(&Value::Null);
        pre_tokenizer::name_of(pre_tokenizer, self.begin()).with_context(|| {
            let path = self.tokenizer.path().display();
            format!("{path}: this pre_tokenizer is not known here: {pre_tokenizer}")
        })
    }

    /// Text and kind of each id, the gaps filled up to the rows of the embedding.
    fn tokens(&self) -> Result<(StringArray, Vec<i32>)> {
        let shown = self.tokenizer.path().display();
        let size = self.config.vocabulary as usize;
        let mut texts: Vec<Option<&str>> = vec![None; size];
        for (text, &id) in &self.vocabulary {
            match texts.get_mut(id as usize) {
                Some(free @ None) => *free = Some(text),
                Some(Some(_)) => bail!("{shown}: two tokens have the id {id}"),
                None => bail!("{shown}: token {id} is beyond the {size} rows of vocab_size"),
            }
        }
        let control = self.control_tokens();
        let mut tokens = StringArray::default();
        let mut kinds = Vec::with_capacity(size);
        for (id, text) in texts.into_iter().enumerate() {
            let Some(text) = text else {
                tokens.push(format!("[PAD{id}]").as_bytes());
                kinds.push(UNUSED);
                continue;
            };
            if control.contains(text) {
                tokens.push(text.as_bytes());
                kinds.push(CONTROL);
            } else if self.added.contains_key(text) {
                // llama.cpp matches these in plain text, where a space is a space.
                tokens.push(text.replace('\u{2581}', " ").as_bytes());
                kinds.push(USER_DEFINED);
            } else {
                tokens.push(text.as_bytes());
                kinds.push(NORMAL);
            }
        }
        Ok((tokens, kinds))
    }

    /// Tokens that steer the model and never stand for text: those that the files call special, and
    /// added ones that look so, since some models mark theirs wrongly.
    fn control_tokens(&self) -> HashSet<&str> {
        let mut control: HashSet<&str> = SPECIAL
            .iter()
            .filter_map(|(name, _)| self.special_text(name))
            .collect();
        let added = self.tokenizer.get("added_tokens").and_then(Value::as_array);
        let decoder = self
            .setting("added_tokens_decoder")
            .and_then(Value::as_object);
        let entries = added
            .into_iter()
            .flatten()
            .chain(decoder.into_iter().flat_map(|d| d.values()));
        let special = entries.filter(|token| token["special"] == true);
        control.extend(special.filter_map(|token| token["content"].as_str()));
        let additional = self
            .setting("additional_special_tokens")
            .and_then(Value::as_array);
        control.extend(
            additional
                .into_iter()
                .flatten()
                .filter_map(|token| token.as_str().or_else(|| token["content"].as_str())),
        );
        control.extend(
            self.added
                .keys()
                .map(String::as_str)
                .filter(|text| looks_special(text)),
        );
        control
    }

    /// Merges as `left right`. Newer files have pairs, whose parts may hold a space.
    fn merges(&self) -> Result<StringArray> {
        let path = self.tokenizer.path();
        let merges = self
            .tokenizer
            .get("model")
            .and_then(|model| model["merges"].as_array());
        let merges =
            merges.with_context(|| format!("{}: model.merges is missing", path.display()))?;
        let merge = |merge: &Value| match merge {
            Value::String(text) => Some(text.clone()),
            Value::Array(pair) => match pair.as_slice() {
                // Ġ is what byte-level BPE writes for a space.
                [Value::String(left), Value::String(right)] => Some(format!(
                    "{} {}",
                    left.replace(' ', "Ġ"),
                    right.replace(' ', "Ġ")
                )),
                _ => None,
            },
            _ => None,
        };
        let merges: Option<StringArray> = merges.iter().map(merge).collect();
        merges.with_context(|| format!("{}: model.merges: no pairs of strings", path.display()))
    }

    /// Which special tokens the tokenizer adds to a text by itself: the post-processor's word comes
    /// before tokenizer_config.json's.
    fn added_by_itself(&self) -> Vec<(&'static str, bool)> {
        let mut added: Vec<(&'static str, bool)> = Vec::new();
        let mut set = |name: &'static str, value: bool, override_old: bool| match added
            .iter_mut()
            .find(|(known, _)| *known == name)
        {
            Some((_, old)) if override_old => *old = value,
            Some(_) => {}
            None => added.push((name, value)),
        };
        let post = self.tokenizer.get("post_processor").unwrap_or(&Value::Null);
        let steps = match post["processors"].as_array() {
            Some(steps) => steps.as_slice(),
            None => std::slice::from_ref(post),
        };
        for step in steps {
            match step["type"].as_str() {
                Some("ByteLevel") => {
                    set("bos", false, false);
                    set("eos", false, false);
                }
                Some("TemplateProcessing") => {
                    for (name, value) in self.added_by_template(step) {
                        set(name, value, true);
                    }
                }
                _ => {}
            }
        }
        for (name, _) in SPECIAL {
            if let Some(value) = self
                .setting(&format!("add_{name}_token"))
                .and_then(Value::as_bool)
            {
                set(name, value, false);
            }
        }
        added
    }

    /// What a template such as `<bos> A <eos>` adds.
    fn added_by_template(&self, template: &Value) -> Vec<(&'static str, bool)> {
        let special = |item: &Value| item["SpecialToken"]["id"].as_str().map(str::to_owned);
        let items = |field: &str| template[field].as_array().cloned().unwrap_or_default();
        let mut added = Vec::new();
        let single = items("single");
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = single.first().and_then(special);
            last = single.last().and_then(special);
        }
        for (name, found) in [("bos", &first), ("eos", &last)] {
            if let Some(text) = found {
                let known = self.special_text(name);
                added.push((name, known.is_none_or(|known| known == text)));
            }
        }
        // Of a pair, what is left between A and B.
        let mut pair = items("pair");
        if first.is_some() && pair.first().and_then(special) == first {
            pair.remove(0);
        }
        if last.is_some() && pair.last().and_then(special) == last {
            pair.pop();
        }
        if let [a, between @ .., b] = &pair[..]
            && (&a["Sequence"]["id"], &b["Sequence"]["id"]) == (&"A".into(), &"B".into())
            && !between.is_empty()
        {
            let separates = |item: &Value| {
                let text = special(item);
                text.is_some()
                    && ["sep", "eos"]
                        .iter()
                        .any(|n| self.special_text(n) == text.as_deref())
            };
            let by_first = separates(&between[0]) && last.is_none();
            added.push((
                "sep",
                by_first || between.len() == 2 && separates(&between[1]),
            ));
        }
        added
    }
}

fn looks_special(text: &str) -> bool {
    let within = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || within("<|", "|>")
        || within("<｜", "｜>")
        || within("<unused", ">")
}

/// The template of tokenizer_config.json, or a file of its own: a text, or several with names.
fn write_chat_template(
    folder: &Path,
    tokenizer: &Tokenizer,
    metadata: &mut Metadata,
) -> Result<()> {
    let jinja = folder.join("chat_template.jinja");
    let template = match tokenizer.setting("chat_template") {
        Some(template) => template.clone(),
        None if jinja.exists() => {
            let text = std::fs::read_to_string(&jinja);
            text.with_context(|| format!("{}: cannot read", jinja.display()))?
                .into()
        }
        None => match JsonFile::read_if_there(&folder.join("chat_template.json"))? {
            Some(file) => file.get("chat_template").cloned().unwrap_or_default(),
            None => Value::Null,
        },
    };
    match template {
        Value::Null => {}
        Value::String(text) => metadata.set("tokenizer.chat_template", text),
        Value::Array(templates) => {
            let mut names = StringArray::default();
            for entry in &templates {
                let (Some(name), Some(text)) = (entry["name"].as_str(), entry["template"].as_str())
                else {
                    bail!("{}: a chat template without name or text", folder.display());
                };
                let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                if name == "default" {
                    metadata.set("tokenizer.chat_template", text);
                } else {
                    names.push(name.as_bytes());
                    metadata.set(&format!("tokenizer.chat_template.{name}"), text);
                }
            }
            if !names.is_empty() {
                metadata.set("tokenizer.chat_templates", Array::String(names));
            }
        }
        other => bail!(
            "{}: the chat template is {other}, not text",
            folder.display()
        ),
    }
    Ok(())
}
