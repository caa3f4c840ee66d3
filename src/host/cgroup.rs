//! The control group that this process is in: CPU quota, memory limit, whether it is ours to divide. Version 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};

/// Set by systemd on a group that a unit may divide. Source: systemd.resource-control(5), `Delegate=`.
const DELEGATED: &str = "user.delegate";

/// The control group of this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlGroup {
    /// Its path below the root of all groups; empty: control groups (version 2) are not there.
    pub path: String,
    /// systemd gave it to us to divide.
    pub delegated: bool,
    /// Quota of it and all around it. Unit: cores.
    pub cores: Option<f64>,
    /// Limit of it and all around it. Unit: bytes.
    pub memory_bytes: Option<u64>,
}

impl ControlGroup {
    /// Looks at the group of this process.
    pub fn look() -> Self {
        let root = Path::new("/");
        let (path, folder) = own_group(root).unwrap_or_default();
        Self { delegated: is_delegated(&folder), path, cores: cpu_quota(root), memory_bytes: memory_limit(root) }
    }
}

/// Path of the process's group in version 2, and its folder.
fn own_group(root: &Path) -> Option<(String, PathBuf)> {
    let table = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
    let folder = root.join("sys/fs/cgroup").join(path.trim_start_matches('/'));
    folder.join("cgroup.procs").exists().then_some((path, folder))
}

fn is_delegated(folder: &Path) -> bool {
    let mut value = [0u8; 8];
    rustix::fs::getxattr(folder, DELEGATED, &mut value).is_ok_and(|len| value.get(..len) == Some(b"1"))
}

/// Cores that the quota allows, of this group and of all groups around it. `None`: no quota.
pub(super) fn cpu_quota(root: &Path) -> Option<f64> {
    let v2 = groups(root, "").into_iter().filter_map(|dir| read(&dir, "cpu.max")).filter_map(|text| quota_v2(&text));
    let v1 = groups(root, "cpu").into_iter().filter_map(|dir| {
        let quota: f64 = read(&dir, "cpu.cfs_quota_us")?.trim().parse().ok()?;
        let period: f64 = read(&dir, "cpu.cfs_period_us")?.trim().parse().ok()?;
        cores_of(quota, period)
    });
    v2.chain(v1).min_by(f64::total_cmp)
}

/// Bytes that this group and all groups around it may hold. `None`: no limit.
pub(super) fn memory_limit(root: &Path) -> Option<u64> {
    let v2 = groups(root, "").into_iter().filter_map(|dir| read(&dir, "memory.max"));
    let v1 = groups(root, "memory").into_iter().filter_map(|dir| read(&dir, "memory.limit_in_bytes"));
    // "max" in version 2 is no number; version 1 says "no limit" by a number close to 2^63.
    v2.chain(v1).filter_map(|text| text.trim().parse().ok()).filter(|bytes| (1..1 << 60).contains(bytes)).min()
}

fn quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    cores_of(quota.parse().ok()?, period.parse().ok()?)
}

fn cores_of(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Folders of the process's group for a version 1 controller (or of version 2, by the empty name), innermost first.
///
/// In a container the path in `/proc/self/cgroup` may not exist below the mount: the mount itself is always asked.
fn groups(root: &Path, controller: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let own = table.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = if controller.is_empty() {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|c| c == controller)
        };
        found.then(|| path.trim_start_matches('/').to_owned())
    });
    let mount = root.join("sys/fs/cgroup").join(controller);
    let mut dirs: Vec<PathBuf> = own
        .iter()
        .flat_map(|path| Path::new(path).ancestors().map(|part| mount.join(part)).collect::<Vec<_>>())
        .collect();
    if dirs.last() != Some(&mount) {
        dirs.push(mount);
    }
    dirs
}

fn read(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("rask-cgroup-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("has a parent")).expect("temp folder");
                fs::write(path, text).expect("temp file");
            }
            Self(root)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_tightest_group_around_us_counts_in_version_2() {
        let fake = Fake::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/user/job\n"),
                ("sys/fs/cgroup/user/job/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/user/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/user/job/memory.max", "8589934592\n"),
                ("sys/fs/cgroup/user/memory.max", "max\n"),
            ],
        );
        assert_eq!(cpu_quota(&fake.0), Some(1.5));
        assert_eq!(memory_limit(&fake.0), Some(8 << 30));
    }

    #[test]
    fn version_1_and_its_way_to_say_no_limit_are_understood() {
        let fake = Fake::new(
            "v1",
            &[
                ("proc/self/cgroup", "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n"),
                ("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        assert_eq!(cpu_quota(&fake.0), None);
        assert_eq!(memory_limit(&fake.0), Some(1 << 30));
    }
}
