//! What this machine is and how it feels, for the head. Reads `/proc`; starts `nvidia-smi` at most once.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::clock::unix_ms;
use crate::host::Machine;
use crate::peer::wire::MachineFacts;

/// `nvidia-smi` wakes sleeping cards, which takes seconds.
const GPU_PATIENCE: Duration = Duration::from_secs(10);

/// What may be used of this machine, less than all of it if a person said so.
#[derive(Clone, Debug, Default)]
pub struct Caps {
    pub cores: Option<u32>,
    /// `--memory`. Unit: bytes.
    pub memory_bytes: Option<u64>,
}

/// What does not change while we run.
#[derive(Clone, Debug)]
pub struct FixedFacts {
    facts: MachineFacts,
}

impl FixedFacts {
    /// Looks once. `python`: version of the own Python and of `distributed` in it.
    pub async fn look(caps: &Caps, python: Option<(String, String)>) -> Self {
        let machine = Machine::look();
        let (python, distributed) = python.unzip();
        let facts = MachineFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: hostname(),
            cores: caps.cores.map_or(machine.cores, |cap| cap.min(machine.cores)),
            memory_bytes: caps.memory_bytes.map_or(machine.memory_bytes, |cap| cap.min(machine.memory_bytes)),
            gpus: gpus().await,
            python,
            distributed,
            ..MachineFacts::default()
        };
        Self { facts }
    }

    /// With what changes. `state`: where environments and spilled data go.
    pub fn now(&self, state: &Path) -> MachineFacts {
        MachineFacts {
            memory_free_bytes: free_memory().unwrap_or(0).min(self.facts.memory_bytes),
            load: load().unwrap_or(0.0),
            now_ms: unix_ms(),
            disk_free_bytes: disk_free(state),
            ..self.facts.clone()
        }
    }
}

/// This machine's name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `MemAvailable` of `/proc/meminfo`. Unit: bytes.
pub fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Free space below `path`, or the nearest folder above that exists. Unit: bytes.
pub fn disk_free(path: &Path) -> u64 {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    rustix::fs::statvfs(there).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// By the driver's own list, else by `nvidia-smi`.
async fn gpus() -> Vec<String> {
    let driver = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let listed: Vec<String> = driver
        .filter_map(|card| fs::read_to_string(card.path().join("information")).ok())
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("Model:").map(|name| name.trim().to_owned())))
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let ask = Command::new("nvidia-smi")
        .args(["--query-gpu=name", "--format=csv,noheader"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(GPU_PATIENCE, ask).await {
        Ok(Ok(answer)) if answer.status.success() => {
            String::from_utf8_lossy(&answer.stdout).lines().map(|line| line.trim().to_owned()).collect()
        }
        // Not there, or not well: no graphics processors that could be used.
        Ok(_) | Err(_) => Vec::new(),
    }
}
