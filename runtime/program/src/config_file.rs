//! `cloister.toml`: one file for the box, with a table for each program.
//!
//! In: the file's path and the name of a table. Out: that table, or all of that name.
//! Must never pass over a key or a table that nobody reads, as a mistyped one would seem to hold; must
//! never quote a value in an error, for the file may hold the broker's password.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// The tables that the file may have: one for each program that reads it.
const TABLES: [&str; 4] = ["up", "serve", "bridge", "panel"];

/// The table of which there may be many; the bridge reads them.
const MANY: &str = "recipe";

/// Why a configuration cannot be used. Each is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("cannot read the configuration {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: line {line}: {message}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// The line where it stops being TOML, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A key outside of the known tables.
    #[error("{}: {what}; its tables are [up], [serve], [bridge], [panel] and, as often as wanted, [[recipe]]", file.display())]
    UnknownTable {
        /// The file.
        file: PathBuf,
        /// The table or key, and what is wrong with it.
        what: String,
    },
    /// A table with an unknown key, or with a value of another type.
    #[error("{}: [{table}]: {message}", file.display())]
    Table {
        /// The file.
        file: PathBuf,
        /// The table's name.
        table: String,
        /// The key and what is wrong with it.
        message: String,
    },
}

/// The table `[name]` of the configuration file, or an empty one without a file or without the table.
///
/// # Errors
/// The file cannot be read, is no TOML, has a table that no program reads, or a key in `[name]` that `T`
/// does not know.
pub fn table<T: DeserializeOwned + Default>(
    file: Option<&Path>,
    name: &str,
) -> Result<T, ConfigError> {
    let Some((path, mut tables)) = file.map(read).transpose()? else {
        return Ok(T::default());
    };
    match tables.remove(name) {
        None => Ok(T::default()),
        Some(table) => of_table(path, name, table),
    }
}

/// The tables `[[name]]` of the configuration file, in order.
///
/// # Errors
/// As [`table`].
pub fn tables<T: DeserializeOwned>(file: Option<&Path>, name: &str) -> Result<Vec<T>, ConfigError> {
    let Some((path, mut tables)) = file.map(read).transpose()? else {
        return Ok(Vec::new());
    };
    match tables.remove(name) {
        None => Ok(Vec::new()),
        Some(table) => of_table(path, name, table),
    }
}

fn of_table<T: DeserializeOwned>(
    file: &Path,
    name: &str,
    table: toml::Value,
) -> Result<T, ConfigError> {
    table
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Table {
            file: file.to_path_buf(),
            table: name.to_owned(),
            // Of a table that is read already, this names the key and quotes no text.
            message: in_one_line(&error.to_string()),
        })
}

fn read(path: &Path) -> Result<(&Path, toml::Table), ConfigError> {
    let file = || path.to_path_buf();
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        file: file(),
        source,
    })?;
    let tables: toml::Table =
        toml::from_str(&text).map_err(|error: toml::de::Error| ConfigError::NotToml {
            file: file(),
            line: error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1),
            message: in_one_line(error.message()),
        })?;
    for (key, value) in &tables {
        let many = |value: &toml::Value| {
            value
                .as_array()
                .is_some_and(|list| list.iter().all(toml::Value::is_table))
        };
        let what = match (TABLES.contains(&key.as_str()), value.is_table()) {
            (true, true) => continue,
            _ if key == MANY && many(value) => continue,
            _ if key == MANY => format!("\"{key}\" is written [[{key}]]"),
            (true, false) => format!("\"{key}\" is no table"),
            (false, true) => format!("the table [{key}] is unknown"),
            (false, false) => format!("the key \"{key}\" stands in no table"),
        };
        return Err(ConfigError::UnknownTable { file: file(), what });
    }
    Ok((path, tables))
}

fn in_one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Serve {
        listen: Option<String>,
        slots: Option<u32>,
    }

    fn read(text: &str) -> Result<Serve, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cloister.toml");
        std::fs::write(&file, text).unwrap();
        table(Some(&file), "serve").map_err(|error| {
            let line = error.to_string();
            assert!(line.contains("cloister.toml"), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            line
        })
    }

    /// A sample of the files that reached new code while `tests/fuzz` ran.
    #[test]
    fn every_file_of_the_fuzz_corpus_is_read_or_refused_in_one_line() {
        let corpus = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fuzz/corpus/cloister_toml"
        );
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
        assert!(files.len() > 20, "{}", files.len());
        for file in files {
            let path = file.unwrap().path();
            if let Err(error) = table::<toml::Table>(Some(&path), "serve") {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }

    #[test]
    fn a_programs_own_table_is_read_and_the_others_are_left_to_theirs() {
        let read = read("[bridge]\nnode = \"n\"\n[serve]\nlisten = \"x\"\n[up]\nport = 1\n");
        assert_eq!(read.unwrap().listen.as_deref(), Some("x"));
    }

    #[test]
    fn without_a_file_or_a_table_nothing_is_set() {
        assert_eq!(table::<Serve>(None, "serve").unwrap(), Serve::default());
        assert_eq!(read("").unwrap(), Serve::default());
    }

    #[test]
    fn whatever_nobody_would_read_is_refused_by_its_name() {
        for (text, named) in [
            ("[serv]\nlisten = \"x\"\n", "[serv]"),
            ("listen = \"x\"\n", "\"listen\""),
            ("serve = 1\n", "\"serve\""),
            ("[serve]\nlisen = \"x\"\n", "`lisen`"),
            ("[[serve]]\nlisten = \"x\"\n", "\"serve\""),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }

    #[test]
    fn of_some_tables_there_may_be_many() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cloister.toml");
        std::fs::write(&file, "[[recipe]]\nslots = 1\n[[recipe]]\nslots = 2\n").unwrap();
        let all: Vec<Serve> = tables(Some(&file), "recipe").unwrap();
        assert_eq!(
            all.iter().map(|one| one.slots).collect::<Vec<_>>(),
            [Some(1), Some(2)]
        );
        std::fs::write(&file, "[recipe]\nslots = 1\n").unwrap();
        let error = tables::<Serve>(Some(&file), "recipe").unwrap_err();
        assert!(error.to_string().contains("[[recipe]]"), "{error}");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line_and_without_its_text() {
        let error = read("[bridge]\n\nbroker = \"mqtt://me:secret@b\n").unwrap_err();
        assert!(error.contains("line 3"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_with_its_table() {
        let error = read("[serve]\nslots = \"many\"\n").unwrap_err();
        assert!(
            error.contains("[serve]") && error.contains("`slots`"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = table::<Serve>(Some(Path::new("/nonexistent/cloister.toml")), "serve");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/cloister.toml"), "{error}");
    }
}
