//! How many worker processes, with how many threads and how much memory each. Arithmetic only.

use super::Machine;
use crate::base::Blame;

/// What was asked for; `None` is "auto".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedSize {
    /// Processes; negative counts down from the cores plus one, as Dask's `--nworkers` does.
    pub nworkers: Option<i64>,
    /// Threads in each.
    pub nthreads: Option<u32>,
    /// Memory of each, 0 for no limit. Unit: bytes.
    pub memory_bytes: Option<u64>,
}

/// A worker pool whose processes are all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    pub nworkers: u32,
    /// Threads in each.
    pub nthreads: u32,
    /// Memory of each, 0 for no limit. Unit: bytes.
    pub memory_bytes: u64,
}

/// Why a pool cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Zero processes, or fewer than none after counting down.
    #[error("nworkers {nworkers} leaves no worker process on {cores} cores")]
    NoWorkers {
        nworkers: i64,
        /// What it was counted down from.
        cores: u32,
    },
    /// Zero threads.
    #[error("a worker needs at least one thread")]
    NoThreads,
}

impl SizeError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        Blame::Caller
    }
}

/// Fits a pool to the machine.
///
/// Source: `distributed/deploy/utils.py`, `nprocesses_nthreads`; `distributed/deploy/local.py`, where threads follow
/// from a given number of processes and the other way round; `distributed/worker_memory.py`, `parse_memory_limit`.
pub fn size_pool(machine: Machine, asked: AskedSize) -> Result<PoolSize, SizeError> {
    let cores = machine.cores.max(1);
    if asked.nthreads == Some(0) {
        return Err(SizeError::NoThreads);
    }
    let nworkers = match (asked.nworkers, asked.nthreads) {
        (Some(count), _) => counted(count, cores)?,
        (None, Some(nthreads)) => cores.checked_div(nthreads).unwrap_or(1).max(1),
        (None, None) => processes_for(cores),
    };
    let nthreads = asked.nthreads.unwrap_or_else(|| cores.checked_div(nworkers).unwrap_or(1).max(1));
    let memory_bytes = match asked.memory_bytes {
        None => machine.memory_bytes.checked_div(u64::from(nworkers)).unwrap_or(machine.memory_bytes),
        Some(bytes) => bytes.min(machine.memory_bytes),
    };
    Ok(PoolSize { nworkers, nthreads, memory_bytes })
}

fn counted(count: i64, cores: u32) -> Result<u32, SizeError> {
    let total = if count < 0 { i64::from(cores).saturating_add(1).saturating_add(count) } else { count };
    let fits = u32::try_from(total).ok().filter(|total| *total > 0);
    fits.ok_or(SizeError::NoWorkers { nworkers: count, cores })
}

/// One process per core up to four; above, the smallest divisor that is at least the square root.
fn processes_for(cores: u32) -> u32 {
    if cores <= 4 {
        return cores;
    }
    let at_least_root = |n: &u32| u64::from(*n) * u64::from(*n) >= u64::from(cores);
    (1..=cores).filter(|n| cores.is_multiple_of(*n)).find(at_least_root).unwrap_or(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(cores: u32) -> (u32, u32) {
        let machine = Machine { cores, memory_bytes: 16 << 30 };
        let pool = size_pool(machine, AskedSize::default()).expect("auto always fits");
        (pool.nworkers, pool.nthreads)
    }

    /// The pairs were taken from `nprocesses_nthreads` itself.
    #[test]
    fn auto_follows_dasks_rule() {
        for (cores, want) in [(1, (1, 1)), (2, (2, 1)), (4, (4, 1)), (5, (5, 1)), (6, (3, 2)), (8, (4, 2))] {
            assert_eq!(auto(cores), want, "{cores} cores");
        }
        for (cores, want) in [(12, (4, 3)), (16, (4, 4)), (32, (8, 4)), (64, (8, 8)), (7, (7, 1)), (96, (12, 8))] {
            assert_eq!(auto(cores), want, "{cores} cores");
        }
    }

    #[test]
    fn what_is_said_is_kept_and_the_rest_follows() {
        let machine = Machine { cores: 16, memory_bytes: 16 << 30 };
        let pool = |asked| size_pool(machine, asked);
        let two = PoolSize { nworkers: 2, nthreads: 8, memory_bytes: 8 << 30 };
        assert_eq!(pool(AskedSize { nworkers: Some(2), ..AskedSize::default() }), Ok(two));
        assert_eq!(pool(AskedSize { nthreads: Some(8), ..AskedSize::default() }), Ok(two));
        let down = pool(AskedSize { nworkers: Some(-1), memory_bytes: Some(1 << 40), ..AskedSize::default() });
        assert_eq!(down, Ok(PoolSize { nworkers: 16, nthreads: 1, memory_bytes: 16 << 30 }));
        let none = pool(AskedSize { nworkers: Some(-17), ..AskedSize::default() });
        assert_eq!(none, Err(SizeError::NoWorkers { nworkers: -17, cores: 16 }));
    }
}
