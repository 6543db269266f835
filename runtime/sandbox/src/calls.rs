//! Which system calls may be made: seccomp.
//!
//! In: a policy. Out: a filter on this thread and all that it starts. What is not listed
//! here is refused with EPERM, so that a program goes on and says what it could not do; a call of a foreign ABI (i386 on
//! x86-64) ends the process; one of x32 is not listed. A filter cannot look behind a pointer: calls that carry an
//! address there are refused whole.
//! Must never list a call that opens a connection, starts a program, or looks into another process.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::{Error, Policy, Sockets};

/// Files that are open, and files by name, which Landlock judges.
const FILES: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_flock,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_readahead,
    libc::SYS_copy_file_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_truncate,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_pipe2,
];

/// Memory; mapping is listed with its conditions.
const MEMORY: &[c_long] = &[
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_membarrier,
];

/// Threads, time, signals to oneself, waiting, and what a process may know of itself.
const ITSELF: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getpriority,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_capget,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Further filters only take away.
    libc::SYS_seccomp,
];

/// What newer ABIs do by the calls above, and some that `libc` names for this one alone.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_renameat,
    libc::SYS_sync_file_range,
    libc::SYS_sendfile,
    libc::SYS_fadvise64,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_chmod,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_pause,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_getrlimit,
    libc::SYS_arch_prctl,
];
/// renameat, sync_file_range, sendfile and fadvise64, by the numbers that all newer ABIs have.
#[cfg(target_arch = "aarch64")]
const OLDER: &[c_long] = &[38, 84, 71, 223];

/// Connections that are there: reading, writing, looking at them, ending them.
const CONNECTIONS: &[c_long] = &[
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
];

/// Connections that others make to sockets that listen already.
const ACCEPTING: &[c_long] = &[
    libc::SYS_accept4,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_accept,
];

/// Processes that end with this one's word.
const ENDING: &[c_long] = &[libc::SYS_kill, libc::SYS_pidfd_open];

/// What `prctl` may be asked for: names of threads, and questions. Not to be dumpable again.
const PRCTL: [libc::c_int; 10] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_PDEATHSIG,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_SECCOMP,
    libc::PR_SET_SECCOMP,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    // Names of mappings, by the C library.
    0x5356_4d41,
];

/// Whether a stream would wait, and what a terminal is like. Not to put characters into one.
const IOCTL: [u64; 7] = [
    libc::FIONBIO,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::TCGETS,
    libc::TIOCGWINSZ,
    // TCGETS2
    0x802c_542a,
];

/// To set up and ask devices: GPIO chips and their lines, I2C and SPI buses, watchdogs.
const DEVICES: [u64; 11] = [
    // GPIO_GET_CHIPINFO
    0x8044_b401,
    // GPIO_V2_GET_LINE
    0xc250_b407,
    // GPIO_V2_LINE_GET_VALUES
    0xc010_b40e,
    // GPIO_V2_LINE_SET_VALUES
    0xc010_b40f,
    // I2C_SLAVE
    0x0703,
    // I2C_RDWR
    0x0707,
    // I2C_PEC, which is switched off with each opening of a bus
    0x0708,
    // SPI_IOC_WR_MODE, SPI_IOC_WR_BITS_PER_WORD, SPI_IOC_WR_MAX_SPEED_HZ
    0x4001_6b01,
    0x4001_6b03,
    0x4004_6b04,
    // WDIOC_SETTIMEOUT
    0xc004_5706,
];

/// What `fcntl` may not be asked for, beside `F_SETFL` with `O_ASYNC`: whom to send a signal when a file is ready, and which,
/// F_SETOWN_EX among it.
const SIGNALS_OF_FILES: [libc::c_int; 3] = [libc::F_SETOWN, 10, 15];

const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

pub type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// A condition on an argument, counted from 0.
pub type Condition = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);

/// Filters the calls of this thread and all that it starts. False where the kernel has no filters.
pub fn filter(policy: &Policy) -> Result<bool, Error> {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let allowed = program(rules(policy)?, refused, SeccompAction::Allow)?;
    // The C library knows another way where this one is not there; its flags lie behind a pointer.
    let absent = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let enosys = SeccompAction::Errno(libc::ENOSYS as u32);
    let absent = program(absent, SeccompAction::Allow, enosys)?;
    // Of two refusals that of the later one is told.
    Ok(apply(&allowed)? && apply(&absent)?)
}

/// False where the kernel has no filters.
pub fn apply(program: &BpfProgram) -> Result<bool, Error> {
    match seccompiler::apply_filter(program) {
        Ok(()) => Ok(true),
        Err(seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            Ok(false)
        }
        Err(error) => Err(Error::Rules(format!("seccomp: {error}"))),
    }
}

/// A rule of which all conditions have to hold.
pub fn rule(conditions: &[Condition]) -> Result<SeccompRule, Error> {
    let conditions = conditions.iter().map(|(argument, length, is, value)| {
        SeccompCondition::new(*argument, length.clone(), is.clone(), *value)
    });
    conditions
        .collect::<Result<Vec<_>, _>>()
        .and_then(SeccompRule::new)
        .map_err(|error| Error::Rules(format!("seccomp: {error}")))
}

pub fn program(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    SeccompFilter::new(rules, otherwise, matched, arch())
        .and_then(BpfProgram::try_from)
        .map_err(|error| Error::Rules(format!("seccomp: {error}")))
}

fn arch() -> TargetArch {
    match () {
        #[cfg(target_arch = "x86_64")]
        () => TargetArch::x86_64,
        #[cfg(target_arch = "aarch64")]
        () => TargetArch::aarch64,
    }
}

/// The calls that may be made. No conditions: always; several rules: where one of them holds.
fn rules(policy: &Policy) -> Result<Rules, Error> {
    let Policy {
        sockets,
        children,
        ends_others,
        devices,
        ..
    } = *policy;
    let mut rules = Rules::new();
    let mut always = |calls: &[c_long]| {
        rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    };
    always(FILES);
    always(MEMORY);
    always(ITSELF);
    always(OLDER);
    if sockets != Sockets::None {
        always(CONNECTIONS);
    }
    if sockets == Sockets::Accepted {
        always(ACCEPTING);
    }
    if children || ends_others {
        always(ENDING);
    }
    if children {
        // Of a child's threads, as abort() does.
        always(&[libc::SYS_tgkill]);
    }

    let mut when = |call: c_long, conditions: &[Condition]| -> Result<(), Error> {
        rules.entry(call).or_default().push(rule(conditions)?);
        Ok(())
    };
    if !children {
        let itself = std::process::id();
        when(libc::SYS_tgkill, &[(0, Dword, Eq, itself.into())])?;
    }
    let mut others = vec![(1, Dword, Ne, libc::F_SETFL as u64)];
    others.extend(SIGNALS_OF_FILES.map(|asked| (1, Dword, Ne, asked as u64)));
    when(libc::SYS_fcntl, &others)?;
    let quiet = (2, Dword, MaskedEq(libc::O_ASYNC as u64), 0);
    when(
        libc::SYS_fcntl,
        &[(1, Dword, Eq, libc::F_SETFL as u64), quiet],
    )?;
    let executable = MaskedEq(libc::PROT_EXEC as u64);
    when(libc::SYS_mmap, &[(2, Dword, executable.clone(), 0)])?;
    when(libc::SYS_mprotect, &[(2, Dword, executable, 0)])?;
    let thread = libc::CLONE_THREAD as u64;
    when(
        libc::SYS_clone,
        &[(0, Qword, MaskedEq(thread | NEW_NAMESPACES), thread)],
    )?;
    if children {
        when(
            libc::SYS_clone,
            &[(0, Qword, MaskedEq(thread | NEW_NAMESPACES), 0)],
        )?;
        // A child's own memory, of which each then has less.
        let memory = (1, Dword, Eq, u64::from(libc::RLIMIT_DATA));
        when(libc::SYS_prlimit64, &[(0, Dword, Eq, 0), memory])?;
    }
    // A limit is read, not set.
    when(libc::SYS_prlimit64, &[(2, Qword, Eq, 0)])?;
    for option in PRCTL {
        when(
            libc::SYS_prctl,
            &[(0, Dword, Eq, u64::from(option.unsigned_abs()))],
        )?;
    }
    let of_devices = DEVICES.iter().filter(|_| devices);
    for request in IOCTL.iter().chain(of_devices).copied() {
        when(libc::SYS_ioctl, &[(1, Dword, Eq, request)])?;
    }
    if sockets != Sockets::None {
        // To whom it is connected already, without an address.
        when(libc::SYS_sendto, &[(4, Qword, Eq, 0)])?;
        for level in [libc::SOL_SOCKET, libc::IPPROTO_TCP] {
            when(libc::SYS_setsockopt, &[(1, Dword, Eq, level as u64)])?;
        }
        // The two ends of a pipe: tokio wakes itself by one.
        when(
            libc::SYS_socketpair,
            &[(0, Dword, Eq, libc::AF_UNIX as u64)],
        )?;
    }
    if matches!(sockets, Sockets::Broker { .. } | Sockets::Unix) {
        let stream = (1, Dword, MaskedEq(0xf), libc::SOCK_STREAM as u64);
        when(
            libc::SYS_socket,
            &[(0, Dword, Eq, libc::AF_UNIX as u64), stream.clone()],
        )?;
        if sockets != Sockets::Unix {
            for family in [libc::AF_INET, libc::AF_INET6] {
                // Landlock limits the ports of TCP, and of nothing that resembles it.
                for protocol in [0, libc::IPPROTO_TCP] {
                    when(
                        libc::SYS_socket,
                        &[
                            (0, Dword, Eq, family as u64),
                            stream.clone(),
                            (2, Dword, Eq, protocol as u64),
                        ],
                    )?;
                }
            }
        }
        rules.insert(libc::SYS_connect, Vec::new());
    }
    Ok(rules)
}
