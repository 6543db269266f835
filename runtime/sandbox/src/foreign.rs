//! A program of others that listens, as the broker is: it opens no connection and writes no file.
//!
//! In: its ports, from the process that is about to become it. Out: the same process, with less that it may. Such a
//! program starts, loads libraries and works as its makers had it, so that only this is refused, and not all but what
//! it needs.

use landlock::{
    Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use libc::c_long;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};

use crate::calls::{Rules, apply, program, rule};
use crate::{Error, files, privileges};

/// What opens connections, and what looks into other processes.
const REFUSED: [c_long; 7] = [
    libc::SYS_connect,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_io_uring_setup,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
];

/// Has this process, whatever program it becomes, open no connection, listen on these TCP ports alone, change no file,
/// and gain no privileges; as far as the running kernel can. To be called with one thread.
///
/// # Errors
/// The kernel has what is asked of it and refuses it all the same.
pub fn listens_only(ports: &[u16]) -> Result<(), Error> {
    privileges::no_new_privileges()?;
    restrict(ports).map_err(|error| Error::Rules(format!("Landlock: {error}")))?;
    refuse_connections()
}

fn restrict(ports: &[u16]) -> Result<(), RulesetError> {
    let newest = files::version(files::NEWEST);
    let null = PathFd::new("/dev/null");
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(newest))?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::from_all(newest))?
        .create()?;
    if let Ok(null) = null {
        rules = rules.add_rule(PathBeneath::new(null, AccessFs::WriteFile))?;
    }
    for port in ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    rules.restrict_self().map(drop)
}

/// Has this thread and all that it starts open no connection, not even as another program; all else may go on.
fn refuse_connections() -> Result<(), Error> {
    let mut rules = Rules::from(REFUSED.map(|call| (call, Vec::new())));
    // With an address it connects, too.
    rules.insert(libc::SYS_sendto, vec![rule(&[(4, Qword, Ne, 0)])?]);
    let internet = [libc::AF_INET, libc::AF_INET6].map(|family| family as u64);
    let known = [libc::AF_UNIX as u64, internet[0], internet[1]];
    let mut sockets = vec![rule(&known.map(|family| (0, Dword, Ne, family)))?];
    for family in internet {
        // Of the sixteen kinds that there are room for, all but streams.
        for kind in (0..16).filter(|kind| *kind != libc::SOCK_STREAM as u64) {
            sockets.push(rule(&[
                (0, Dword, Eq, family),
                (1, Dword, MaskedEq(0xf), kind),
            ])?);
        }
        // Streams of other protocols, as SCTP, connect by other calls, too.
        sockets.push(rule(&[
            (0, Dword, Eq, family),
            (2, Dword, Ne, 0),
            (2, Dword, Ne, libc::IPPROTO_TCP as u64),
        ])?);
    }
    rules.insert(libc::SYS_socket, sockets);
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let program = program(rules, SeccompAction::Allow, refused)?;
    #[cfg(target_arch = "x86_64")]
    let program: Vec<_> = no_x32().into_iter().chain(program).collect();
    apply(&program).map(drop)
}

/// The beginning of a filter that refuses every call of x32: each of the calls above has a second number there.
#[cfg(target_arch = "x86_64")]
fn no_x32() -> [seccompiler::sock_filter; 3] {
    const X32: u32 = 0x4000_0000;
    let step = |code: u32, jf, k| seccompiler::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, number),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 1, X32),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
    ]
}
