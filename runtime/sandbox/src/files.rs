//! Which files may be opened, and which TCP ports connected to: Landlock.
//!
//! In: a policy. Out: the version of Landlock that enforces it, 0 where there is none.
//! Must never let a program be started, and must never grant a folder where a file is enough.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};

use crate::{Error, Policy, Sockets};

/// The newest version whose rights are known here. Of these, older kernels enforce those that they have.
const NEWEST: ABI = ABI::V10;

/// What the C library, ggml and the engine read of the machine: memory, processors, limits of control groups.
const MACHINE: [&str; 10] = [
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/dev/urandom",
];

/// The path itself, and for a folder also what the links directly in it lead to: Landlock judges where a path
/// ends, and models are often links into another folder.
pub fn with_links(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    let entries = path.read_dir().into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    all.extend(links.filter_map(|link| link.path().canonicalize().ok()));
    all
}

/// Restricts this process.
pub fn restrict(policy: &Policy) -> Result<u32, Error> {
    let status = restricted(policy).map_err(|error| Error::Rules(format!("Landlock: {error}")))?;
    Ok(match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi: _,
        } => effective_abi as u32,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    })
}

fn restricted(policy: &Policy) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Neither execution, nor devices, sockets and pipes.
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let null = Path::new("/dev/null");
    rules = grant(rules, null, AccessFs::ReadFile | AccessFs::WriteFile)?;
    for path in MACHINE.map(Path::new) {
        rules = grant(rules, path, read)?;
    }
    for path in &policy.read {
        rules = grant(rules, path, read)?;
    }
    for path in &policy.write {
        rules = grant(rules, path, write)?;
    }
    for path in &policy.connect {
        rules = grant(rules, path, AccessFs::ResolveUnix.into())?;
    }
    if let Sockets::Broker { port } = policy.sockets {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

fn grant(
    rules: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    // What is not there cannot be opened either; a pipe is held open by who has it.
    let (Ok(place), Ok(about)) = (PathFd::new(path), path.metadata()) else {
        return Ok(rules);
    };
    let access = match about.file_type() {
        kind if kind.is_dir() => access,
        kind if kind.is_file() || kind.is_char_device() => access & AccessFs::from_file(NEWEST),
        _ => return Ok(rules),
    };
    // The kernel knows a place by its inode, and makes new ones for /proc when memory is short: not while one is
    // held open.
    let held = Box::leak(Box::new(place));
    rules.add_rule(PathBeneath::new(&*held, access))
}
