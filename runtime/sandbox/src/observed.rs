//! What the kernel says about processes around this one that do not report: those that it has started, and those that
//! `cloister up` has started before it.
//!
//! In: `/proc`, before the seal, after which it is out of reach. Out: [`Observed`] whenever it is wanted.
//! Must never tell a name that is not one of [`Kin`].

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::Serialize;

use crate::status::{field, none};

/// A process that does not report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kin {
    /// `cloister up`.
    Up,
    /// The Mosquitto that it has started.
    Broker,
    /// The helper that tries models out.
    ModelTrial,
    /// The helper that renders chat templates.
    Templates,
}

/// What the kernel says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Which one it is.
    pub name: Kin,
    /// Its number.
    pub pid: u32,
    /// Its threads.
    pub threads: u32,
    /// Whether the system calls of its first thread are filtered.
    pub filtered: bool,
    /// Whether it can gain no privileges.
    pub no_new_privs: bool,
    /// Whether it has no capability.
    pub no_capabilities: bool,
}

/// What a process is to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Child,
    Parent,
    /// Another child of the parent.
    Sibling,
}

/// Such processes, for as long as they run: an open file of `/proc` never tells about a later process of the same number.
#[derive(Debug, Default)]
pub struct Family(Vec<(Relation, File)>);

impl Family {
    /// The children of this process, its parent if that is `cloister up`, and what that has started until now.
    pub fn around() -> Self {
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        let mut found: Vec<(Relation, File)> = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let number = entry.file_name().to_string_lossy().parse::<u32>();
            let (Ok(pid), Ok(file)) = (number, File::open(entry.path().join("status"))) else {
                continue;
            };
            let Some(text) = read(&file) else { continue };
            let of = field(&text, "PPid:").and_then(|of| of.parse::<u32>().ok());
            let relation = match field(&text, "Name:") {
                _ if of == Some(own) => Relation::Child,
                Some("cloister") if pid == parent => Relation::Parent,
                _ if of == Some(parent) => Relation::Sibling,
                _ => continue,
            };
            found.push((relation, file));
        }
        // What somebody's shell has started is not the box's.
        let up = found
            .iter()
            .any(|(relation, _)| *relation == Relation::Parent);
        found.retain(|(relation, _)| up || *relation != Relation::Sibling);
        Self(found)
    }

    /// Those that still run, as they are now.
    pub fn now(&self) -> Vec<Observed> {
        let texts = self
            .0
            .iter()
            .map(|(relation, file)| Some((*relation, read(file)?)));
        texts
            .flatten()
            .filter_map(|(relation, text)| told(relation, &text))
            .collect()
    }
}

/// All of it: a file of `/proc` is made anew when it is read from its beginning.
fn read(file: &File) -> Option<String> {
    let mut bytes = [0; 8192];
    // Of a process that is gone it gives an error.
    let length = file.read_at(&mut bytes, 0).ok()?;
    Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

fn told(relation: Relation, status: &str) -> Option<Observed> {
    // A helper takes its name soon after it was forked off, and not before.
    let name = match (relation, field(status, "Name:")?) {
        (Relation::Parent, _) => Kin::Up,
        (Relation::Sibling, "mosquitto") => Kin::Broker,
        (Relation::Child, "model-trial") => Kin::ModelTrial,
        (Relation::Child, "templates") => Kin::Templates,
        _ => return None,
    };
    let number = |what| field(status, what)?.parse().ok();
    // One that has ended and was not waited for.
    if field(status, "State:")?.starts_with('Z') {
        return None;
    }
    Some(Observed {
        name,
        pid: number("Pid:")?,
        threads: number("Threads:")?,
        filtered: field(status, "Seccomp:") == Some("2"),
        no_new_privs: field(status, "NoNewPrivs:") == Some("1"),
        no_capabilities: field(status, "CapPrm:").is_some_and(none),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_told_as_it_says_it_and_of_who_has_ended_nothing() {
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let told_now = told(Relation::Parent, &own).unwrap();
        assert_eq!(told_now.pid, std::process::id());
        assert!(!told_now.filtered, "{told_now:?}");
        let sealed = own.replace("Seccomp:\t0", "Seccomp:\t2");
        assert!(told(Relation::Parent, &sealed).unwrap().filtered);
        let mut ended = own.clone();
        let state = ended.find("State:\t").unwrap() + "State:\t".len();
        ended.replace_range(state..=state, "Z");
        assert_eq!(told(Relation::Parent, &ended), None);
    }

    #[test]
    fn a_child_that_has_ended_is_no_longer_told() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let file = File::open(format!("/proc/{}/status", child.id())).unwrap();
        let family = Family(vec![(Relation::Parent, file)]);
        assert_eq!(family.now()[0].pid, child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(family.now(), []);
    }
}
