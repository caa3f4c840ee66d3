//! What a folder lies on: kind of file system, room left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// File systems that keep files in memory.
const IN_MEMORY: &[&str] = &["tmpfs", "ramfs", "devtmpfs"];

/// File systems behind a network: slow, and without the locks and shared memory that a database needs.
const OVER_NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
    "pvfs2",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.s3fs",
    "fuse.rclone",
];

/// The file system that a path is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its type, as in `/proc/mounts`.
    pub kind: String,
    /// Room for us. Unit: bytes.
    pub free_bytes: u64,
    /// All of it. Unit: bytes.
    pub total_bytes: u64,
    /// Files that can still be made. None: it does not count them.
    pub free_files: Option<u64>,
    /// Mounted for reading only.
    pub read_only: bool,
}

impl Disk {
    /// The disk of `path`, or of the folder that it would be made in.
    ///
    /// Errors: nothing of the path can be asked.
    pub fn of(path: &Path) -> io::Result<Self> {
        let real = fs::canonicalize(existing(path))?;
        let room = statvfs(&real)?;
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (mount, kind) = mount_of(&table, &real).unwrap_or_else(|| (PathBuf::from("/"), "unknown".to_owned()));
        let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
        Ok(Self {
            mount,
            kind,
            free_bytes: bytes(room.f_bavail),
            total_bytes: bytes(room.f_blocks),
            free_files: (room.f_files > 0).then_some(room.f_favail),
            read_only: room.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    /// Files on it take memory.
    pub fn in_memory(&self) -> bool {
        IN_MEMORY.contains(&self.kind.as_str())
    }

    /// Files on it are on another machine.
    pub fn over_network(&self) -> bool {
        OVER_NETWORK.contains(&self.kind.as_str())
    }
}

/// The path itself, or the closest folder above it that exists.
pub fn existing(path: &Path) -> &Path {
    path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"))
}

/// Mount point and type, from the table in `/proc/self/mountinfo`. The last of equals is on top.
///
/// Source: man 5 proc.
fn mount_of(table: &str, real: &Path) -> Option<(PathBuf, String)> {
    let rows = table.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mount = PathBuf::from(unescape(front.split(' ').nth(4)?));
        Some((mount, back.split(' ').next()?.to_owned()))
    });
    rows.filter(|(mount, _)| real.starts_with(mount)).max_by_key(|(mount, _)| mount.components().count())
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mount_of_a_path_is_found() {
        let table = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     23 22 0:5 / /home rw shared:1 - nfs4 host:/home rw\n\
                     24 22 0:6 / /home rw - tmpfs tmpfs rw\n\
                     25 22 0:7 / /my\\040disk rw - fuse.sshfs x rw\n";
        let kind = |path: &str| mount_of(table, Path::new(path)).map(|(_, kind)| kind);
        assert_eq!(kind("/usr/lib").as_deref(), Some("ext4"));
        assert_eq!(kind("/home/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/homeless").as_deref(), Some("ext4"));
        assert_eq!(kind("/my disk/a").as_deref(), Some("fuse.sshfs"));
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_has_the_disk_of_its_parent() {
        let disk = Disk::of(Path::new("/proc/nothing/here")).expect("proc is there");
        assert_eq!(disk.kind, "proc");
        assert!(!disk.in_memory() && !disk.over_network());
    }
}
