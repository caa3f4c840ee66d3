//! The state folder and the disks that are written to.

use super::facts::{Files, FolderFacts};
use super::finding::{Finding, show};
use crate::config::show_size;
use crate::store::StoreError;

/// Below this, spilling ends at once. Unit: bytes.
const FREE_MIN: u64 = 100 << 20;
/// Below this, a larger computation that spills will end. Unit: bytes.
const FREE_GOOD: u64 = 2 << 30;
/// An environment of Python alone has ten thousand files.
const FREE_FILES_MIN: u64 = 20_000;

pub(super) fn check(files: &Files) -> Vec<Finding> {
    let mut found = vec![state(&files.state, files.uid)];
    found.extend(privacy(&files.state, files));
    found.push(database(&files.database));
    found.extend(disk(&files.state, "state and spilled data"));
    let other_disk = match (&files.state.disk, &files.temp.disk) {
        (Ok(state), Ok(temp)) => state.mount != temp.mount,
        (_, _) => true,
    };
    if other_disk {
        found.extend(disk(&files.temp, "temporary files"));
    }
    found
}

fn state(folder: &FolderFacts, uid: u32) -> Finding {
    let path = show(&folder.path);
    if folder.is_folder == Some(false) {
        return Finding::problem("state", format!("{path} is not a folder")).remedy("choose another with --state-dir");
    }
    if let Err(why) = &folder.writable {
        return Finding::problem("state", format!("{path} cannot be written: {why}"))
            .why("sockets, certificates, logs and the database go there")
            .remedy("choose another with --state-dir, or give this user the right to write there");
    }
    match folder.owner {
        None => Finding::ok("state", format!("{path} will be made")),
        Some(owner) if owner != uid && uid != 0 => {
            Finding::problem("state", format!("{path} belongs to user {owner}, you are {uid}"))
                .why("it holds keys, and each user has their own")
                .remedy("choose another with --state-dir")
        }
        Some(_) => Finding::ok("state", path),
    }
}

/// Others must not get at keys and sockets.
fn privacy(folder: &FolderFacts, files: &Files) -> Vec<Finding> {
    // Where nobody else can enter, nobody else can read.
    let Some(mode) = folder.mode.filter(|mode| mode & 0o077 != 0) else { return Vec::new() };
    let entered = Finding::warning("state", format!("other users can enter {} (mode {mode:03o})", show(&folder.path)))
        .why("control sockets and keys are in it")
        .remedy(format!("chmod 700 {}", show(&folder.path)));
    let read = files.private_open.iter().map(|path| {
        Finding::problem("state", format!("other users can read {}", show(path)))
            .why("who has a key can pose as its cluster")
            .remedy(format!("chmod 600 {}", show(path)))
    });
    std::iter::once(entered).chain(read).collect()
}

fn database(looked: &Result<Option<u32>, StoreError>) -> Finding {
    match looked {
        Ok(Some(schema)) => Finding::ok("database", format!("sound (schema {schema})")),
        Ok(None) => Finding::ok("database", "will be made"),
        Err(why) => Finding::problem("database", why.to_string())
            .why("clusters, tokens and history are in it")
            .remedy(why.remedy()),
    }
}

fn disk(folder: &FolderFacts, what_for: &str) -> Vec<Finding> {
    let disk = match &folder.disk {
        Ok(disk) => disk,
        Err(why) => return vec![Finding::warning("disk", format!("{} cannot be asked: {why}", show(&folder.path)))],
    };
    let mount = show(&disk.mount);
    let mut found = Vec::new();
    if disk.in_memory() {
        found.push(
            Finding::warning("disk", format!("{mount} ({}, for {what_for}) is in memory", disk.kind))
                .why(
                    "what workers spill to make room takes the very memory it should free, and is gone after a restart",
                )
                .remedy("choose a folder on a disk: --state-dir, and $TMPDIR for temporary files"),
        );
    }
    if disk.over_network() {
        found.push(
            Finding::warning("disk", format!("{mount} ({}, for {what_for}) is on the network", disk.kind))
                .why("spilling is slow there, and locks and the database may fail")
                .remedy("choose a folder on a local disk: --state-dir, and $TMPDIR for temporary files"),
        );
    }
    let room =
        format!("{} of {} free on {mount} ({what_for})", show_size(disk.free_bytes), show_size(disk.total_bytes));
    found.push(if disk.free_bytes < FREE_MIN {
        Finding::problem("disk", room).why("nothing can be written soon").remedy("make room, or choose another disk")
    } else if disk.free_bytes < FREE_GOOD {
        Finding::warning("disk", room)
            .why("workers that spill fill that soon, and then fail")
            .remedy("make room, or choose another disk")
    } else {
        Finding::ok("disk", room)
    });
    if let Some(files) = disk.free_files.filter(|files| *files < FREE_FILES_MIN) {
        found.push(
            Finding::warning("disk", format!("{files} more files fit on {mount} (inodes)"))
                .why("a Python environment alone has ten thousand")
                .remedy("remove files, or choose another disk"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::finding::Severity;
    use super::*;
    use crate::host::Disk;

    fn folder(mode: Option<u32>, kind: &str, free_bytes: u64) -> FolderFacts {
        FolderFacts {
            path: PathBuf::from("/state"),
            is_folder: mode.map(|_| true),
            writable: Ok(()),
            owner: mode.map(|_| 1000),
            mode,
            disk: Ok(Disk {
                mount: PathBuf::from("/"),
                kind: kind.to_owned(),
                free_bytes,
                total_bytes: 1 << 40,
                free_files: None,
                read_only: false,
            }),
        }
    }

    fn worst(findings: &[Finding]) -> Option<Severity> {
        findings.iter().map(|finding| finding.severity).max()
    }

    #[test]
    fn disks_in_memory_on_the_network_and_full_ones_are_told() {
        let rate = |kind, free| worst(&disk(&folder(None, kind, free), "state"));
        assert_eq!(rate("ext4", 1 << 39), Some(Severity::Ok));
        assert_eq!(rate("tmpfs", 1 << 39), Some(Severity::Warning));
        assert_eq!(rate("nfs4", 1 << 39), Some(Severity::Warning));
        assert_eq!(rate("ext4", 1 << 30), Some(Severity::Warning));
        assert_eq!(rate("ext4", 1 << 20), Some(Severity::Problem));
    }

    #[test]
    fn a_folder_of_somebody_else_is_a_problem() {
        assert_eq!(state(&folder(Some(0o700), "ext4", 1 << 39), 1000).severity, Severity::Ok);
        assert_eq!(state(&folder(Some(0o700), "ext4", 1 << 39), 1001).severity, Severity::Problem);
    }

    #[test]
    fn keys_are_told_only_where_others_can_get_at_them() {
        let files = |mode| Files {
            uid: 1000,
            state: folder(Some(mode), "ext4", 1 << 39),
            temp: folder(Some(0o777), "ext4", 1 << 39),
            private_open: vec![PathBuf::from("/state/ca/ca.key")],
            database: Ok(None),
        };
        let found = |mode| privacy(&files(mode).state, &files(mode));
        assert_eq!(found(0o700), []);
        assert_eq!(worst(&found(0o755)), Some(Severity::Problem));
    }
}
