//! Whether a model and its context fit this machine, told before anything is loaded.
//!
//! In: the header, the context's shape, and what the kernel says is free: `MemAvailable`, and what is
//! left of every memory limit of the process's cgroups (v1 and v2). Out: nothing, or why not. Mapped
//! weights count in full although they are page cache: each token reads them, so that without room for
//! them each token waits for the disk. Cached files of others count as free, as the kernel drops them.

use std::fs;
use std::path::Path;

use cloister_gguf::{
    ContextShape, Gguf, KvCacheType, MemoryError, MemoryNeed, TensorInfo, memory_need,
};

use crate::llama::KvType;

/// A context of `n_slots` slots of `n_ctx` tokens each, with batches of at most `n_batch`, of which `n_outputs` may ask
/// for logits.
pub fn shape(
    n_ctx: u32,
    n_slots: u32,
    n_batch: u32,
    n_outputs: u32,
    kv_type: KvType,
) -> ContextShape {
    ContextShape {
        n_ctx: n_ctx.into(),
        n_slots: n_slots.into(),
        n_ubatch: n_batch.into(),
        n_outputs: n_outputs.into(),
        kv_type: match kv_type {
            KvType::F16 => KvCacheType::F16,
            KvType::Q8_0 => KvCacheType::Q8_0,
        },
    }
}

/// Fails when running all of these, each in its context, takes more than is free once `leaving` bytes have gone. Of a
/// model whose need is not known its weights count; a machine that does not tell what it has lets all pass. Gives the need in bytes.
pub fn check(models: &[(&Gguf, ContextShape)], leaving: u64) -> Result<u64, String> {
    let mut need = weights(0);
    for (file, context) in models {
        let one = match memory_need(&file.metadata, &file.tensors, *context) {
            Ok(one) => one,
            Err(error @ MemoryError::Context(_)) => {
                return Err(format!("{error}; use a smaller --ctx"));
            }
            // Its caches are not known, but its weights are.
            Err(MemoryError::Architecture(_) | MemoryError::Key(_)) => {
                weights(file.tensors.iter().map(TensorInfo::bytes).sum())
            }
        };
        need.weights += one.weights;
        need.kv_cache += one.kv_cache;
        need.compute += one.compute;
        need.margin += one.margin;
    }
    let free = free().map(|free| free.saturating_add(leaving));
    let Some(free) = free.filter(|free| need.total() > *free) else {
        return Ok(need.total());
    };
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!(
        "it needs {} MiB (weights {}, KV cache {}, compute {}, rest {}) and {} MiB are free: {} MiB too few; use a smaller --ctx, fewer --slots, --kv-type q8_0, or a file of fewer bits",
        mib(need.total()),
        mib(need.weights),
        mib(need.kv_cache),
        mib(need.compute),
        mib(need.margin),
        free >> 20,
        mib(need.total() - free),
    ))
}

fn weights(weights: u64) -> MemoryNeed {
    MemoryNeed {
        weights,
        kv_cache: 0,
        compute: 0,
        margin: 0,
    }
}

/// Bytes that this process may still take, where the kernel tells.
pub fn free() -> Option<u64> {
    free_below(Path::new("/"))
}

fn free_below(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib = field(&meminfo, "MemAvailable:")?;
    let mut free = kib.saturating_mul(1024);
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mount, limit, usage, cache) = if controllers.is_empty() {
            let names = ("memory.max", "memory.current", "inactive_file");
            ("sys/fs/cgroup", names.0, names.1, names.2)
        } else if controllers.split(',').any(|c| c == "memory") {
            let names = ("memory.limit_in_bytes", "memory.usage_in_bytes");
            (
                "sys/fs/cgroup/memory",
                names.0,
                names.1,
                "total_inactive_file",
            )
        } else {
            continue;
        };
        // Every group above limits as well; in a container the path may not be there, its top is.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let folder = root.join(mount).join(group);
            let number = |name: &str| -> Option<u64> {
                fs::read_to_string(folder.join(name))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            };
            // "max" is no number: no limit.
            let (Some(limit), Some(usage)) = (number(limit), number(usage)) else {
                continue;
            };
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let cached = field(&stat, cache).unwrap_or(0);
            free = free.min(limit.saturating_sub(usage.saturating_sub(cached)));
        }
    }
    Some(free)
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(char::is_whitespace).then_some(rest)
    })?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        free_below(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 900 kB\nMemAvailable:  800 kB\n");

    #[test]
    fn without_a_limit_it_is_what_the_machine_has() {
        assert_eq!(machine(&[MEMINFO]), Some(800 << 10));
        assert_eq!(machine(&[]), None);
    }

    #[test]
    fn a_limit_of_a_group_above_counts_less_what_is_cached() {
        let free = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "5000\n"),
            ("sys/fs/cgroup/a/memory.max", "10000\n"),
            ("sys/fs/cgroup/a/memory.current", "6000\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 1\ninactive_file 1000\n",
            ),
        ]);
        assert_eq!(free, Some(5000));
    }

    #[test]
    fn the_limits_of_cgroup_v1_count() {
        let free = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "4:cpu:/x\n3:memory:/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "4000\n"),
        ]);
        assert_eq!(free, Some(5000));
    }
}
