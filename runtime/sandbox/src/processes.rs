//! What each process of the box may do: the table of ARCHITECTURE.md as policies. The programs seal themselves with
//! these, and the tests try what is forbidden under these.

use std::path::Path;

use crate::{Policy, Sockets};

/// `cloister serve` once it listens, and `cloister warm`: reads the models and the board's sensors, uses its state
/// folder, answers who comes.
pub fn serve(models: &[&Path], state: &Path) -> Policy {
    let policy = Policy::new(Sockets::Accepted);
    let policy = models.iter().fold(policy, Policy::read);
    policy
        .read("/sys/class/thermal")
        .read("/sys/class/hwmon")
        .write(state)
}

/// Its helper that tries model files out, in copies of itself.
pub fn model_trial(models: &[&Path]) -> Policy {
    let policy = Policy::new(Sockets::None);
    models.iter().fold(policy, Policy::read).children()
}

/// Its helper that renders the chat templates of models, in children of it.
pub fn templates() -> Policy {
    Policy::new(Sockets::None).children()
}

/// `cloister-bridge`: connects to the broker's port and to Unix sockets in the folder of `socket`, uses its state
/// folder, and reads `files` again for each connection.
pub fn bridge(port: u16, socket: &Path, state: &Path, files: &[&Path]) -> Policy {
    let mut policy = Policy::new(Sockets::Broker { port })
        .write(state)
        .connect(socket.parent().unwrap_or(Path::new("/")));
    // Who renews a certificate puts a new file in its place: the kernel lets a folder be read, not a name.
    for file in files {
        let leads_to = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
        for folder in [file, &*leads_to].into_iter().filter_map(Path::parent) {
            policy = policy.read(folder);
        }
    }
    policy
}

/// `cloister-panel`: Unix sockets in the folder of `socket`, and what the kernel tells of devices. Where those are that it
/// opens, also such as come later, is for it to add.
pub fn panel(socket: &Path) -> Policy {
    Policy::new(Sockets::Unix)
        .connect(socket.parent().unwrap_or(Path::new("/")))
        .read("/sys")
        .read("/proc/device-tree")
        .asks_devices()
}

/// `cloister up` once everything is started: waits, and ends it.
pub fn up() -> Policy {
    Policy::new(Sockets::Connected).ends_others()
}

/// `cloister bench`: reads the model.
pub fn bench(model: &Path) -> Policy {
    Policy::new(Sockets::None).read(model)
}

/// `cloister-quantize`: reads what it is given, and writes into the folder of what it makes.
pub fn quantize(reads: &[&Path], out: Option<&Path>) -> Policy {
    let policy = Policy::new(Sockets::None);
    let policy = reads.iter().fold(policy, Policy::read);
    let Some(out) = out else { return policy };
    policy.write(match out.parent() {
        None => out,
        Some(here) if here == Path::new("") => Path::new("."),
        Some(folder) => folder,
    })
}
