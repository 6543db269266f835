//! What an unfinished file is made from and how: it is gone on with only by work that has the same.
//!
//! In: the paths and the recipe. Out: names and values for `cloister_gguf::Writer`. It must never read
//! weights: a source file is known by its name, size and time of change.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use cloister_gguf::Identity;
use sha2::{Digest, Sha256};

use crate::type_mix::Recipe;

/// Endings of the files of a folder that a conversion may read.
const READ: [&str; 3] = ["safetensors", "json", "jinja"];

/// The identity of converting `source` by `recipe`, with the importance matrix in the file `imatrix`.
pub fn identity(source: &Path, recipe: &Recipe, imatrix: Option<&Path>) -> Result<Identity> {
    let mut identity = vec![
        ("version".into(), env!("CARGO_PKG_VERSION").into()),
        ("type".into(), recipe.file_type.to_string()),
    ];
    let mut add = |name: &str, value: String| identity.push((name.to_owned(), value));
    let own = recipe.overrides.iter().map(ToString::to_string);
    add(
        "types of one's own",
        own.reduce(|all, one| all + ", " + &one)
            .unwrap_or("none".into()),
    );
    add(
        "mix",
        match recipe.like_llama_quantize {
            true => "llama-quantize's".into(),
            false => "our own".into(),
        },
    );
    let imatrix = imatrix.map(hash).transpose()?;
    add("imatrix", imatrix.unwrap_or("none".into()));

    let cannot = || format!("{}: cannot open", source.display());
    let stat = fs::metadata(source).with_context(cannot)?;
    if !stat.is_dir() {
        add("source", described(&stat));
        return Ok(identity);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(source).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path
            .extension()
            .is_some_and(|e| READ.iter().any(|read| e == *read))
        {
            // Through links: a downloaded folder often holds nothing else.
            let stat = fs::metadata(&path);
            let stat = stat.with_context(|| format!("{}: cannot read", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push((format!("source file {name}"), described(&stat)));
        }
    }
    files.sort();
    identity.extend(files);
    Ok(identity)
}

fn described(stat: &Metadata) -> String {
    let (seconds, nanoseconds) = (stat.mtime(), stat.mtime_nsec());
    format!(
        "of {} bytes, changed at {seconds}.{nanoseconds:09}",
        stat.len()
    )
}

/// SHA-256 of a file.
fn hash(path: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let hashed = File::open(path).and_then(|mut file| {
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => digest.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    });
    hashed.with_context(|| format!("{}: cannot read", path.display()))?;
    Ok(digest
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect())
}
