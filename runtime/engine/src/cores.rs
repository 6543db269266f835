//! How many threads ggml should use: the physical cores that this process may really run on. One
//! thread more than that and ggml's spinning barriers make it hundreds of times slower, not a little.

use std::collections::BTreeSet;
use std::fs;

/// Physical cores within the process's affinity mask, bounded by its cgroup's CPU quota. At least 1.
pub fn usable_cores() -> usize {
    // Respects affinity and cgroup quota, but counts hardware threads.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    threads
        .min(physical_cores(&affinity()).unwrap_or(threads))
        .max(1)
}

/// Distinct groups of hardware threads that share a core, among `cpus`. `None` where sysfs does not
/// tell.
fn physical_cores(cpus: &[usize]) -> Option<usize> {
    let mut cores = BTreeSet::new();
    for cpu in cpus {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        cores.insert(fs::read_to_string(path).ok()?);
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// The CPUs that the scheduler may put this process on.
fn affinity() -> Vec<usize> {
    // SAFETY: an all-zero set is a valid empty set; the kernel fills it up to the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize)
            .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_threads_than_the_scheduler_grants() {
        let n = usable_cores();
        assert!(n >= 1);
        assert!(
            n <= std::thread::available_parallelism()
                .expect("Linux tells")
                .get()
        );
    }
}
