//! Hugging Face folders for tests: the fixtures' configs and tokenizers, with weights that follow
//! from a formula (`stored.rs`) for the names that follow from the config (`shapes.rs`).

pub mod shapes;
pub mod stored;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
pub use shapes::shapes;
pub use stored::{Stored, safetensors};

pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hugging_face");

/// A checkpoint folder in a temporary place.
pub struct Folder {
    parent: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    /// A copy of the fixture `name`, with its weights.
    pub fn of(name: &str) -> Folder {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(name);
        std::fs::create_dir(&path).unwrap();
        for entry in std::fs::read_dir(Path::new(FIXTURES).join(name)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "expected.json" && entry.file_name() != "logits.json" {
                std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
            }
        }
        let folder = Folder { parent, path };
        folder.write_weights();
        folder
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path beside the folder for what is made of it.
    pub fn out(&self) -> PathBuf {
        self.parent.path().join("out.gguf")
    }

    pub fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path.join(file)).unwrap()).unwrap()
    }

    /// Replaces a JSON file by what `change` makes of it.
    pub fn change(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut value = self.json(file);
        change(&mut value);
        std::fs::write(self.path.join(file), value.to_string()).unwrap();
    }

    /// What the fixture expects of its conversion.
    pub fn expected(&self) -> Value {
        self.fixture_json("expected.json")
    }

    /// A JSON file of the fixture, which is no part of the folder.
    pub fn fixture_json(&self, file: &str) -> Value {
        let name = self.path.file_name().unwrap();
        let path = Path::new(FIXTURES).join(name).join(file);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Writes the safetensors files for the config as it is now.
    pub fn write_weights(&self) {
        self.write_weights_with(|_| {});
    }

    /// The same of tensors that `change` has changed.
    pub fn write_weights_with(&self, change: impl Fn(&mut Stored)) {
        let index = self.index();
        let dtype = self.expected()["stored"].as_str().unwrap().to_owned();
        let mut files: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
        for (name, shape) in shapes(&self.json("config.json")) {
            for mut tensor in Stored::of(&name, &shape, &dtype) {
                let file = match &index {
                    None => "model.safetensors",
                    Some(index) => index["weight_map"][&tensor.name].as_str().unwrap(),
                };
                change(&mut tensor);
                files.entry(file.to_owned()).or_default().push(tensor);
            }
        }
        for (file, tensors) in files {
            std::fs::write(self.path.join(file), safetensors(&tensors)).unwrap();
        }
    }

    /// The index of the shards, if there is one.
    fn index(&self) -> Option<Value> {
        let index = "model.safetensors.index.json";
        self.path.join(index).exists().then(|| self.json(index))
    }

    /// The shard that holds the tensor `name`.
    pub fn shard(&self, name: &str) -> String {
        let index = self.index().expect("an index");
        index["weight_map"][name].as_str().unwrap().to_owned()
    }
}
