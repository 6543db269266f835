//! A JSON file whose top is an object, with errors that name the file and the field.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The largest JSON file that is read, in bytes. A tokenizer.json of 250,000 tokens has 35 MB.
const MAX_BYTES: u64 = 256 << 20;

pub struct JsonFile {
    path: PathBuf,
    object: Map<String, Value>,
}

impl JsonFile {
    pub fn read(path: &Path) -> Result<JsonFile> {
        let shown = path.display();
        let size = std::fs::metadata(path)
            .with_context(|| format!("{shown}: cannot read"))?
            .len();
        if size > MAX_BYTES {
            bail!("{shown}: {size} bytes; no such file is larger than {MAX_BYTES}");
        }
        let bytes = std::fs::read(path).with_context(|| format!("{shown}: cannot read"))?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(JsonFile {
                path: path.to_owned(),
                object,
            }),
            Ok(_) => bail!("{shown}: no JSON object"),
            Err(error) => bail!("{shown}: no sound JSON: {error}"),
        }
    }

    /// The file, or `None` if there is none.
    pub fn read_if_there(path: &Path) -> Result<Option<JsonFile>> {
        if path.exists() {
            JsonFile::read(path).map(Some)
        } else {
            Ok(None)
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A field that is there and not null.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// A whole number above 0, if the field is there.
    pub fn count(&self, field: &str) -> Result<Option<u32>> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(n) if n > 0 => Ok(Some(n)),
            _ => bail!(
                "{}: {field}: {value} is no positive whole number",
                self.path.display()
            ),
        }
    }

    /// True if the field is there without a value, which is not the same as missing.
    pub fn is_null(&self, field: &str) -> bool {
        self.object.get(field) == Some(&Value::Null)
    }

    /// A whole number, which may be 0.
    pub fn whole(&self, field: &str, default: u32) -> Result<u32> {
        let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        self.read_as(field, default, number, "whole number")
    }

    /// A number above 0 that F32 can hold.
    pub fn positive(&self, field: &str, default: f64) -> Result<f64> {
        let wanted = "number above 0 that F32 holds";
        self.read_as(field, default, positive, wanted)
    }

    /// True or false.
    pub fn flag(&self, field: &str, default: bool) -> Result<bool> {
        self.read_as(field, default, Value::as_bool, "true or false")
    }

    /// A field as `read` understands it, or `default` if there is none.
    fn read_as<T>(
        &self,
        field: &str,
        default: T,
        read: impl FnOnce(&Value) -> Option<T>,
        wanted: &str,
    ) -> Result<T> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => read(value).with_context(|| {
                format!("{}: {field}: {value} is no {wanted}", self.path.display())
            }),
        }
    }
}

/// A number above 0, as the F32 that GGUF has for it too.
pub fn positive(value: &Value) -> Option<f64> {
    let number = value.as_f64()?;
    let stored = number as f32;
    (stored.is_finite() && stored > 0.0).then_some(number)
}
