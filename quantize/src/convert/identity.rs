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

/// What `recipe` adds to the identity.
pub fn of_recipe(recipe: &Recipe) -> Identity {
    let own = recipe.overrides.iter().map(ToString::to_string);
    let own = own.reduce(|all, one| all + ", " + &one);
    let mix = match recipe.like_llama_quantize {
        true => "llama-quantize's",
        false => "our own",
    };
    vec![
        ("type".into(), recipe.file_type.to_string()),
        ("types of one's own".into(), own.unwrap_or("none".into())),
        ("mix".into(), mix.into()),
        ("layers raised".into(), recipe.raised.to_string()),
    ]
}

/// The identity of the files: `source` and the importance matrix.
pub fn of_files(source: &Path, imatrix: Option<&Path>) -> Result<Identity> {
    let imatrix = imatrix.map(hash).transpose()?;
    let mut identity = vec![
        ("version".into(), env!("CARGO_PKG_VERSION").into()),
        ("imatrix".into(), imatrix.unwrap_or("none".into())),
    ];
    let cannot = || format!("{}: cannot open", source.display());
    let stat = fs::metadata(source).with_context(cannot)?;
    if !stat.is_dir() {
        identity.push(("source".into(), described(&stat)));
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
