//! This machine: cores, memory, quotas, interpreters found. Starts nothing but probes, changes nothing.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod cgroup;
mod disk;
mod limits;
mod ports;
mod process;
mod python;
mod sizing;
mod usage;

pub use cgroup::ControlGroup;
pub use disk::{Disk, existing};
pub use limits::{GrantedLimits, MemoryState, multicast_interfaces};
pub use ports::{PortHolder, holder_of};
pub use process::ProcessUsage;
pub use python::{Interpreter, ProbeError, candidates, interpreter_of, looks_complete, packages, probe};
pub use sizing::{AskedSize, PoolSize, SizeError, size_pool};
pub use usage::Usage;

use std::fs;

/// What this process may use of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The smallest of the affinity mask, the cgroup's CPU quota (rounded up) and the machine's cores. At least 1.
    pub cores: u32,
    /// The smaller of the cgroup's limit and the machine's memory. Unit: bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// Looks at the machine. What cannot be read is taken as not limited.
    ///
    /// Source: `dask/system.py`, `cpu_count`; `distributed/system.py`, `memory_limit`.
    pub fn look() -> Self {
        let root = std::path::Path::new("/");
        let affinity = rustix::thread::sched_getaffinity(None).map_or(u32::MAX, |set| set.count());
        let online = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        // `available_parallelism` rounds a quota down, Dask rounds it up: the mask and the quota are read on their own.
        let machine = if affinity == u32::MAX { online } else { affinity };
        let quota = cgroup::cpu_quota(root).map_or(u32::MAX, |cores| cores.ceil().max(1.0) as u32);
        let total = total_memory().unwrap_or(u64::MAX);
        Self {
            cores: machine.min(quota).max(1),
            memory_bytes: cgroup::memory_limit(root).map_or(total, |limit| limit.min(total)),
        }
    }
}

/// `MemTotal` of `/proc/meminfo`. Unit: bytes.
fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
