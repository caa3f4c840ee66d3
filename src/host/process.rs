//! What another process uses, from `/proc`.

use std::fs;

/// Use of one process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// CPU time, its threads' too. Unit: seconds.
    pub cpu_secs: f64,
    /// Resident memory that is its own or that of files; what it shares by memory segments is not counted. Unit: bytes.
    pub memory_bytes: u64,
    /// Open descriptors.
    pub fds: u64,
}

/// Ticks per second of process times; 100 on every Linux that rask runs on.
const TICKS: f64 = 100.0;

impl ProcessUsage {
    /// Looks now. `None`: there is no such process.
    pub fn of(pid: u32) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64);
        Some(Self { cpu_secs: cpu(&read("stat")?)?, memory_bytes: Self::memory(pid)?, fds })
    }

    /// The memory alone, which is looked at often. Unit: bytes.
    pub fn memory(pid: u32) -> Option<u64> {
        resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }
}

/// Source: man 5 proc, `/proc/pid/stat`, fields 14 and 15.
fn cpu(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything; after it fields are plain.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

/// Source: man 5 proc, `/proc/pid/status`.
fn resident(status: &str) -> Option<u64> {
    let line = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(line("RssAnon:")?.saturating_add(line("RssFile:")?).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_a_name_may_hold_brackets() {
        let usage = ProcessUsage::of(std::process::id()).expect("we run");
        assert!(usage.memory_bytes > 1 << 20 && usage.fds > 2);
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 1 1 1";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(resident("RssAnon:\t  10 kB\nRssFile:\t   5 kB\nRssShmem: 9 kB\n"), Some(15 << 10));
        assert_eq!(resident("Name: kthread\n"), None);
    }
}
