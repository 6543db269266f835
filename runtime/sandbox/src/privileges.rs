//! Privileges given away, and the memory kept out of files.
//!
//! Must never leave a capability behind that could be taken up again.

use crate::Error;

/// From now on no program that is started gains what its starter has not.
pub fn no_new_privileges() -> Result<(), Error> {
    // SAFETY: prctl takes numbers only here.
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(Error::last("PR_SET_NO_NEW_PRIVS")),
    }
}

/// Version 3 of `capset`, with the two halves of 64 capabilities.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The capability to send signals to processes of other users.
const CAP_KILL: u32 = 5;

/// Gives away every capability, from every set, but `CAP_KILL` where that is to be kept and is there.
pub fn drop_capabilities(keep_kill: bool) -> Result<(), Error> {
    let kept = match keep_kill && crate::status::has_capability(CAP_KILL) {
        true => 1 << CAP_KILL,
        false => 0,
    };
    // Refused to who has none, and then there is nothing to give away either.
    for capability in 0..64 {
        // SAFETY: prctl takes numbers only here.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    // SAFETY: as above. A kernel without ambient capabilities has none to clear.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut sets = [CapabilitySet::default(); 2];
    sets[0].effective = kept;
    sets[0].permitted = kept;
    // SAFETY: header and sets have the layout of the kernel's `cap_user_header_t` and of two
    // `cap_user_data_t`, as this version wants, and live for the call.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } {
        0 => Ok(()),
        // Whoever started this process may have taken the call away, and the capabilities with it.
        _ if crate::status::no_capabilities() => Ok(()),
        _ => Err(Error::last("capset")),
    }
}

/// See [`crate::no_core_dumps`].
pub fn no_core_dumps() -> Result<(), Error> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: setrlimit reads the structure, which lives for the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } != 0 {
        let error = Error::last("RLIMIT_CORE");
        let mut now = none;
        // SAFETY: getrlimit writes to the structure, which lives for the call.
        let told = unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut now) } == 0;
        // Whoever started this process may have taken the call away, after it had set the limit.
        if !told || now.rlim_max != 0 {
            return Err(error);
        }
    }
    // SAFETY: prctl takes numbers only here.
    match unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(Error::last("PR_SET_DUMPABLE")),
    }
}
