//! Which files may be opened, and which TCP ports connected to: Landlock.
//!
//! In: a policy. Out: the version of Landlock that enforces it, 0 where there is none.
//! Must never let a program be started, and must never grant a folder where a file is enough.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};

use crate::{Error, Policy, Sockets};

/// The newest version whose rights are known here. Of these, older kernels enforce those that they have.
pub const NEWEST: u32 = ABI::V10 as u32;

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
    if policy.landlock == 0 {
        return Ok(0);
    }
    let status = restricted(policy).map_err(|error| Error::Rules(format!("Landlock: {error}")))?;
    Ok(match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi: _,
        } => policy.landlock.min(effective_abi as u32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    })
}

fn restricted(policy: &Policy) -> Result<RestrictionStatus, RulesetError> {
    let known = version(policy.landlock);
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    rules = rules.handle_access(AccessFs::from_all(known))?;
    for access in AccessNet::from_all(known) {
        rules = rules.handle_access(access)?;
    }
    for scope in Scope::from_all(known) {
        // The processes that it ends are under other rules, or none.
        if scope != Scope::Signal || !policy.ends_others {
            rules = rules.scope(scope)?;
        }
    }
    let mut rules = rules.create()?;
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
    let handled = AccessFs::from_all(known);
    let grant =
        |rules, path: &Path, access: BitFlags<AccessFs>| grant(rules, path, access & handled);
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
    for path in &policy.device_files {
        let ask = read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        rules = grant(rules, path, ask)?;
    }
    for path in &policy.connect {
        rules = grant(rules, path, AccessFs::ResolveUnix.into())?;
    }
    if let Sockets::Broker { port } = policy.sockets
        && !AccessNet::from_all(known).is_empty()
    {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

/// Landlock's version of this number.
pub fn version(number: u32) -> ABI {
    ABI::from(i32::try_from(number).unwrap_or(i32::MAX))
}

fn grant(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    // What is not there cannot be opened either; a pipe is held open by who has it.
    let (Ok(place), Ok(about)) = (PathFd::new(path), path.metadata()) else {
        return Ok(rules);
    };
    let access = match about.file_type() {
        kind if kind.is_dir() => access,
        kind if kind.is_file() || kind.is_char_device() => {
            access & AccessFs::from_file(version(NEWEST))
        }
        _ => return Ok(rules),
    };
    // What the kernel has not could not be granted.
    if access.is_empty() {
        return Ok(rules);
    }
    // The kernel knows a place by its inode, and makes new ones for /proc when memory is short: not while one is
    // held open.
    let held = Box::leak(Box::new(place));
    rules.add_rule(PathBeneath::new(&*held, access))
}
