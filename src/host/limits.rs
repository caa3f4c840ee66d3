//! Limits of this process, memory and network interfaces: what a machine grants, read and not changed.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// Interface flags. Source: `include/uapi/linux/if.h`.
const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;
const MULTICAST: u32 = 0x1000;

/// What the kernel grants to this process. None: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedLimits {
    /// Open files, now.
    pub open_files: Option<u64>,
    /// Open files, at most, by asking.
    pub open_files_max: Option<u64>,
    /// Processes and threads of this user.
    pub processes: Option<u64>,
}

impl GrantedLimits {
    /// Asks the kernel.
    pub fn look() -> Self {
        let files = getrlimit(Resource::Nofile);
        Self { open_files: files.current, open_files_max: files.maximum, processes: getrlimit(Resource::Nproc).current }
    }
}

/// Memory of the machine now. Unit: bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    /// All of it.
    pub total_bytes: u64,
    /// What new programs can have without swapping.
    pub available_bytes: u64,
    /// Swap space.
    pub swap_bytes: u64,
}

impl MemoryState {
    /// Reads `/proc/meminfo`; what is not there is 0.
    pub fn look() -> Self {
        Self::parse(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or(0).saturating_mul(1024)
        };
        Self {
            total_bytes: bytes("MemTotal:"),
            available_bytes: bytes("MemAvailable:"),
            swap_bytes: bytes("SwapTotal:"),
        }
    }
}

/// Names of interfaces that are up and can speak to a whole LAN.
pub fn multicast_interfaces() -> Vec<String> {
    interfaces_in(Path::new("/sys/class/net"))
}

fn interfaces_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| {
            let flags = fs::read_to_string(entry.path().join("flags")).unwrap_or_default();
            let flags = flags.trim().strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
            flags.is_some_and(|flags| flags & UP != 0 && flags & MULTICAST != 0 && flags & LOOPBACK == 0)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let memory = MemoryState::parse("MemTotal:  8 kB\nMemFree: 1 kB\nMemAvailable:  4 kB\nSwapTotal: 0 kB\n");
        assert_eq!(memory, MemoryState { total_bytes: 8192, available_bytes: 4096, swap_bytes: 0 });
    }

    #[test]
    fn only_interfaces_that_are_up_and_reach_a_lan_count() {
        let folder = std::env::temp_dir().join(format!("rask-net-{}", std::process::id()));
        for (name, flags) in [("eth0", "0x1003\n"), ("eth1", "0x1002\n"), ("lo", "0x9\n"), ("tun0", "0x91\n")] {
            fs::create_dir_all(folder.join(name)).expect("temp folder");
            fs::write(folder.join(name).join("flags"), flags).expect("temp file");
        }
        assert_eq!(interfaces_in(&folder), ["eth0"]);
        fs::remove_dir_all(folder).expect("removed");
    }
}
