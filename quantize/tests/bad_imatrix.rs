//! An importance matrix that is wrong or missing is told in one line before anything is written: a
//! file of noise costs hours, and looks like a model.

mod support;

use std::path::{Path, PathBuf};

use support::llama_quantize::Given;
use support::{ANY, Run, cloister_quantize, names_in};

/// A model, and a sound importance matrix of all its matrices.
struct Model {
    folder: tempfile::TempDir,
    given: Given,
}

impl Model {
    fn new() -> Model {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.gguf");
        ANY.write(&source);
        let mut given = Given::imatrix_of(&source);
        let outer = ("token_embd.weight".to_owned(), vec![1.0; 256], vec![7.0]);
        given.imatrix.push(outer);
        Model { folder, given }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The matrix of `given`, as it is now.
    fn convert(&self, file_type: &str) -> Run {
        self.given.write_imatrix(&self.path("imatrix.gguf"));
        self.convert_with(&self.path("imatrix.gguf"), file_type)
    }

    fn convert_with(&self, imatrix: &Path, file_type: &str) -> Run {
        let (source, out) = (self.path("source.gguf"), self.path("out.gguf"));
        let [source, out, imatrix] = [&source, &out, imatrix].map(|p| p.to_str().unwrap());
        cloister_quantize([
            "convert",
            source,
            out,
            "--imatrix",
            imatrix,
            "--type",
            file_type,
        ])
    }

    /// The entry of a weight.
    fn entry(&mut self, name: &str) -> &mut (String, Vec<f32>, Vec<f32>) {
        let found = self.given.imatrix.iter_mut().find(|entry| entry.0 == name);
        found.unwrap()
    }

    /// `run` must have failed with a line that has all of `parts`, and left nothing.
    #[track_caller]
    fn assert_refused(&self, run: &Run, parts: &[&str]) {
        let line = run.error_line(1);
        for part in parts {
            assert!(line.contains(part), "{line:?} should contain {part:?}");
        }
        let names = names_in(self.folder.path());
        assert!(
            !names.iter().any(|n| n.starts_with("out.gguf")),
            "{names:?}"
        );
    }
}

const WEIGHT: &str = "blk.1.ffn_up.weight";

#[test]
fn a_sound_one_is_taken() {
    let model = Model::new();
    model.convert("IQ3_XXS").succeeded();
}

#[test]
fn low_types_ask_for_one() {
    let model = Model::new();
    let (source, out) = (model.path("source.gguf"), model.path("out.gguf"));
    for file_type in ["IQ1_S", "IQ2_XXS", "IQ2_M", "IQ3_XXS", "Q2_K_S"] {
        let run = support::convert(&source, &out, file_type);
        let parts = [
            file_type,
            "needs an importance matrix",
            "--imatrix",
            ".weight",
        ];
        model.assert_refused(&run, &parts);
    }
}

#[test]
fn one_without_an_entry_that_the_type_needs() {
    let mut model = Model::new();
    model.given.imatrix.retain(|entry| entry.0 != WEIGHT);
    let run = model.convert("IQ3_XXS");
    model.assert_refused(&run, &["no entry for", WEIGHT, "--tensor-type"]);
    // Types that do without need no entry.
    model.convert("Q4_K_M").succeeded();
}

#[test]
fn a_file_that_is_no_imatrix() {
    let model = Model::new();
    let run = model.convert_with(&model.path("no.gguf"), "Q4_K_M");
    model.assert_refused(&run, &["no.gguf", "No such file"]);
    let old = model.path("old.dat");
    std::fs::write(&old, b"\x02\0\0\0\x12\0\0\0blk.0.attn_q.weight").unwrap();
    let run = model.convert_with(&old, "Q4_K_M");
    model.assert_refused(
        &run,
        &["old.dat", "no imatrix in GGUF form", "llama-imatrix"],
    );
    let run = model.convert_with(&model.path("source.gguf"), "Q4_K_M");
    model.assert_refused(&run, &["source.gguf", "no imatrix"]);
}

#[test]
fn a_file_that_is_cut_short() {
    let model = Model::new();
    let path = model.path("imatrix.gguf");
    model.given.write_imatrix(&path);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let run = model.convert_with(&path, "Q4_K_M");
    model.assert_refused(&run, &["imatrix.gguf", "cut short"]);
}

#[test]
fn one_of_another_model() {
    let mut model = Model::new();
    model.entry(WEIGHT).0 = "blk.7.ffn_up.weight".to_owned();
    let run = model.convert("Q4_K_M");
    model.assert_refused(&run, &["imatrix of another model", "blk.7.ffn_up.weight"]);
    let mut model = Model::new();
    model.entry(WEIGHT).1 = vec![1.0; 512];
    let run = model.convert("Q4_K_M");
    model.assert_refused(&run, &["imatrix of another model", WEIGHT, "512", "256"]);
}

#[test]
fn sums_that_squares_cannot_have() {
    for (bad, shown) in [(f32::NAN, "NaN"), (-1.0, "-1"), (f32::INFINITY, "inf")] {
        let mut model = Model::new();
        model.entry(WEIGHT).1[9] = bad;
        let run = model.convert("Q4_K_M");
        model.assert_refused(&run, &["imatrix.gguf", WEIGHT, shown]);
        let mut model = Model::new();
        model.entry(WEIGHT).2[0] = bad;
        let run = model.convert("Q4_K_M");
        model.assert_refused(&run, &["imatrix.gguf", WEIGHT, "count", shown]);
    }
}

#[test]
fn a_missing_one_is_told_where_no_type_needs_it_too() {
    // F16 takes nothing of it, but who gives a file wants it read.
    let model = Model::new();
    let run = model.convert_with(&model.path("no.gguf"), "F16");
    model.assert_refused(&run, &["no.gguf", "No such file"]);
}
