//! A control group (version 2) per worker, where we may make one: memory that runs out costs one worker, and is known.
//!
//! Only in a subtree that was delegated to us, as systemd's `Delegate=yes` does: there are no processes in it but ours.
//! Elsewhere workers have their nanny's limit alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::show_size;

/// Beside the worker's own limit: the nanny, and what the nanny's checks (every 100 ms) may miss. Unit: bytes.
const HEADROOM_MIN: u64 = 256 << 20;
/// The same, as a share of the limit.
const HEADROOM_SHARE: u64 = 10;
/// `cpu.weight` of one core; the system's default for a group.
const WEIGHT_PER_CORE: f64 = 100.0;

/// The group that the appliance itself moves into.
const HOME: &str = "rask-appliance";

/// Where groups are made, and with which limits.
#[derive(Clone, Debug)]
pub struct WorkerCgroups {
    folder: PathBuf,
    memory_bytes: u64,
    cores: f64,
    /// Ends for lack of memory that were told, by worker.
    told: Arc<Mutex<BTreeMap<String, u64>>>,
}

/// Prepares the group that this process is in for groups below it. `None`: it is not ours to divide.
///
/// Must be called before children are started: a group that has limits below it may not hold processes itself, so this
/// process moves into a group of its own.
pub fn delegated() -> Option<PathBuf> {
    let own = own_group(Path::new("/"))?;
    // After a restart of the appliance inside of its unit the group was divided before.
    let own = if own.file_name().is_some_and(|name| name == HOME) { own.parent()?.to_path_buf() } else { own };
    match divide(&own, std::process::id()) {
        Ok(divided) => divided.then_some(own),
        Err(error) => {
            tracing::debug!(group = %own.display(), %error, "no cgroups for workers");
            None
        }
    }
}

/// The folder of our own group in the hierarchy of version 2.
fn own_group(root: &Path) -> Option<PathBuf> {
    let table = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // The root group is the system's.
    let mount = root.join("sys/fs/cgroup");
    (!path.is_empty() && mount.join("cgroup.controllers").exists()).then(|| mount.join(path))
}

/// `false`: other processes live there, or the memory controller is not delegated.
fn divide(own: &Path, pid: u32) -> io::Result<bool> {
    let controllers = fs::read_to_string(own.join("cgroup.controllers"))?;
    let wanted: Vec<&str> = controllers.split_whitespace().filter(|name| ["memory", "cpu"].contains(name)).collect();
    if !wanted.contains(&"memory") {
        return Ok(false);
    }
    let inside = fs::read_to_string(own.join("cgroup.procs"))?;
    if inside.lines().any(|line| line.trim() != pid.to_string()) {
        return Ok(false);
    }
    let home = own.join(HOME);
    fs::create_dir_all(&home)?;
    fs::write(home.join("cgroup.procs"), pid.to_string())?;
    let wanted: Vec<String> = wanted.iter().map(|name| format!("+{name}")).collect();
    fs::write(own.join("cgroup.subtree_control"), wanted.join(" "))?;
    Ok(true)
}

impl WorkerCgroups {
    /// Groups in `folder`, which was [`delegated`]. `memory_bytes`, `cores`: 0 for no limit.
    pub fn new(folder: PathBuf, memory_bytes: u64, cores: f64) -> Self {
        Self { folder, memory_bytes, cores, told: Arc::default() }
    }

    fn group_of(&self, worker: &str) -> PathBuf {
        let safe: String =
            worker.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        self.folder.join(format!("rask-worker-{safe}"))
    }

    fn memory_max(&self) -> u64 {
        self.memory_bytes.saturating_add(HEADROOM_MIN.max(self.memory_bytes.checked_div(HEADROOM_SHARE).unwrap_or(0)))
    }

    /// Makes the group for a worker to start in. `None`: that fails, and it starts without.
    pub fn prepare(&self, worker: &str) -> Option<PathBuf> {
        let group = self.group_of(worker);
        match self.make(&group) {
            Ok(()) => return Some(group),
            Err(error) => tracing::warn!(worker, group = %group.display(), %error, "no cgroup for this worker"),
        }
        None
    }

    fn make(&self, group: &Path) -> io::Result<()> {
        fs::create_dir_all(group)?;
        if self.memory_bytes > 0 {
            fs::write(group.join("memory.max"), self.memory_max().to_string())?;
            // Swapped-out workers are slower than restarted ones. Not there without swap.
            let _may_be_missing = fs::write(group.join("memory.swap.max"), "0");
        }
        if self.cores > 0.0 {
            let weight = (self.cores * WEIGHT_PER_CORE).clamp(1.0, 10_000.0) as u32;
            // The controller may not be delegated; then shares stay even.
            let _may_be_missing = fs::write(group.join("cpu.weight"), weight.to_string());
        }
        Ok(())
    }

    /// Why a worker in its group ended, if its memory ran out since the last question.
    pub fn verdict(&self, worker: &str) -> Option<String> {
        let group = self.group_of(worker);
        let events = fs::read_to_string(group.join("memory.events")).ok()?;
        let kills: u64 = events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if kills <= told.insert(worker.to_owned(), kills).unwrap_or(0) {
            return None;
        }
        let peak = fs::read_to_string(group.join("memory.peak")).ok().and_then(|text| text.trim().parse().ok());
        let peak = peak.map_or_else(String::new, |bytes: u64| format!(", peak {}", show_size(bytes)));
        Some(format!("out of memory (limit {}{peak})", show_size(self.memory_max())))
    }

    /// Removes a worker's group. What still ends in there keeps it a moment longer; the next one of that name takes it.
    pub fn remove(&self, worker: &str) {
        let _busy_or_gone = fs::remove_dir(self.group_of(worker));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: limits are written with headroom, and an end for lack of memory is told once. Method: a folder of files.
    #[test]
    fn a_worker_gets_its_limits_and_a_verdict() {
        let folder = std::env::temp_dir().join(format!("rask-cgroups-{}", std::process::id()));
        let cgroups = WorkerCgroups::new(folder.clone(), 1 << 30, 2.0);
        let group = cgroups.group_of("../a b");
        assert_eq!(group.parent(), Some(folder.as_path()));
        cgroups.make(&group).expect("made");
        let read = |name: &str| fs::read_to_string(group.join(name)).expect("written");
        assert_eq!(read("memory.max"), ((1u64 << 30) + (256 << 20)).to_string());
        assert_eq!(read("cpu.weight"), "200");
        assert_eq!(cgroups.verdict("../a b"), None);
        fs::write(group.join("memory.events"), "low 0\noom 1\noom_kill 1\n").expect("written");
        fs::write(group.join("memory.peak"), "1073741824\n").expect("written");
        let verdict = cgroups.verdict("../a b").expect("it ran out");
        assert!(verdict.contains("out of memory") && verdict.contains("peak 1 GiB"), "{verdict}");
        assert_eq!(cgroups.verdict("../a b"), None);
        fs::remove_dir_all(folder).expect("removed");
    }

    /// Goal: only a group with nobody else in it, and with the memory controller, is divided.
    #[test]
    fn a_group_with_others_in_it_is_left_alone() {
        let own = std::env::temp_dir().join(format!("rask-cgroups-own-{}", std::process::id()));
        fs::create_dir_all(&own).expect("a folder");
        let write = |name: &str, text: &str| fs::write(own.join(name), text).expect("written");
        write("cgroup.controllers", "cpu memory pids\n");
        write("cgroup.procs", "7\n8\n");
        assert!(!divide(&own, 7).expect("readable"));
        write("cgroup.procs", "7\n");
        assert!(divide(&own, 7).expect("writable"));
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).expect("written"), "+cpu +memory");
        write("cgroup.controllers", "pids\n");
        assert!(!divide(&own, 7).expect("readable"));
        fs::remove_dir_all(own).expect("removed");
    }
}
