//! How busy this process and this machine are, from `/proc`. Where there is none, nothing is known and nothing fails.

use std::fs;

/// Counters and gauges at one moment. Counters only go up: two readings give a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time of this process. Unit: seconds.
    pub process_cpu_secs: f64,
    /// Resident memory of this process. Unit: bytes.
    pub process_memory: u64,
    /// Open descriptors of this process.
    pub process_fds: u64,
    /// CPU time of the machine, all cores, and of that what was used. Unit: ticks.
    pub host_cpu_total: u64,
    /// See [`Usage::host_cpu_total`].
    pub host_cpu_busy: u64,
    /// Memory of the machine and what of it is in use. Unit: bytes.
    pub host_memory_total: u64,
    /// See [`Usage::host_memory_total`].
    pub host_memory: u64,
    /// Received and sent over all interfaces but loopback. Unit: bytes.
    pub net_read: u64,
    /// See [`Usage::net_read`].
    pub net_write: u64,
    /// Read from and written to whole disks. Unit: bytes.
    pub disk_read: u64,
    /// See [`Usage::disk_read`].
    pub disk_write: u64,
}

/// Ticks per second of process times; 100 on every Linux that rask runs on.
const TICKS: f64 = 100.0;

/// Source: man 5 proc, `/proc/diskstats` counts sectors of this size whatever the disk's are. Unit: bytes.
const SECTOR: u64 = 512;

impl Usage {
    /// Looks now.
    pub fn look() -> Self {
        let mut usage = Self::default();
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        usage.take_process(&text("/proc/self/stat"), &text("/proc/self/status"));
        usage.process_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        usage.take_cpu(&text("/proc/stat"));
        usage.take_memory(&text("/proc/meminfo"));
        usage.take_net(&text("/proc/net/dev"));
        usage.take_disks(&text("/proc/diskstats"));
        usage
    }

    fn take_process(&mut self, stat: &str, status: &str) {
        // The name in parentheses may hold anything; after it fields are plain.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        self.process_cpu_secs = (ticks(11) + ticks(12)) / TICKS;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        self.process_memory = resident.and_then(|line| numbers(line).next()).unwrap_or(0).saturating_mul(1024);
    }

    fn take_cpu(&mut self, stat: &str) {
        let numbers: Vec<u64> = numbers(stat.lines().next().unwrap_or_default()).collect();
        // user nice system idle iowait irq softirq steal; guest time is in user time already.
        let total: u64 = numbers.iter().take(8).sum();
        let idle: u64 = numbers.iter().skip(3).take(2).sum();
        (self.host_cpu_total, self.host_cpu_busy) = (total, total.saturating_sub(idle));
    }

    fn take_memory(&mut self, meminfo: &str) {
        let of = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| numbers(line).next()).unwrap_or(0).saturating_mul(1024)
        };
        self.host_memory_total = of("MemTotal:");
        self.host_memory = self.host_memory_total.saturating_sub(of("MemAvailable:"));
    }

    fn take_net(&mut self, dev: &str) {
        for line in dev.lines() {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let fields: Vec<u64> = numbers(rest).collect();
            if let ([read, ..], Some(write)) = (fields.as_slice(), fields.get(8))
                && name.trim() != "lo"
            {
                self.net_read = self.net_read.saturating_add(*read);
                self.net_write = self.net_write.saturating_add(*write);
            }
        }
    }

    fn take_disks(&mut self, diskstats: &str) {
        for line in diskstats.lines() {
            let mut fields = line.split_whitespace();
            let (Some(name), fields) = (fields.nth(2), fields) else { continue };
            // Partitions and layers would count the same bytes again.
            let part = name.ends_with(|c: char| c.is_ascii_digit()) && !name.starts_with("nvme")
                || name.starts_with("nvme") && name.contains('p')
                || ["loop", "ram", "dm-", "md"].iter().any(|layer| name.starts_with(layer));
            let fields: Vec<u64> = fields.filter_map(|text| text.parse().ok()).collect();
            if let (false, Some(read), Some(write)) = (part, fields.get(2), fields.get(6)) {
                self.disk_read = self.disk_read.saturating_add(read.saturating_mul(SECTOR));
                self.disk_write = self.disk_write.saturating_add(write.saturating_mul(SECTOR));
            }
        }
    }
}

fn numbers(line: &str) -> impl Iterator<Item = u64> {
    line.split_whitespace().filter_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the files are read as `proc(5)` says. Method: lines as they stand on a machine with one disk.
    #[test]
    fn the_files_of_proc_are_understood() {
        let mut usage = Usage::default();
        usage.take_process("7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0", "Name:\ta\nVmRSS:\t    12 kB\n");
        usage.take_cpu("cpu  10 0 20 60 10 0 0 0 0 0\ncpu0 1 2 3");
        usage.take_memory("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n");
        usage.take_net("Inter-|\n lo: 5 0 0 0 0 0 0 0 5 0\n eth0: 7 0 0 0 0 0 0 0 9 0\n");
        usage.take_disks(" 8 0 sda 1 0 10 0 1 0 20 0\n 8 1 sda1 1 0 10 0 1 0 20 0\n 259 0 nvme0n1 1 0 1 0 1 0 1 0\n");
        assert!((usage.process_cpu_secs - 3.0).abs() < 1e-9);
        assert_eq!(usage.process_memory, 12 * 1024);
        assert_eq!((usage.host_cpu_total, usage.host_cpu_busy), (100, 30));
        assert_eq!((usage.host_memory_total, usage.host_memory), (1_024_000, 614_400));
        assert_eq!((usage.net_read, usage.net_write), (7, 9));
        assert_eq!((usage.disk_read, usage.disk_write), (11 * 512, 21 * 512));
    }
}
