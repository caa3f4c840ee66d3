//! Files that other processes read while we write them: whole replacement, locks, rotation of logs. Each exists once, here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::HEXLOWER;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Permissions of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;

/// Permissions of a file that anybody may read, as far as the user's mask allows.
pub const SHARED: u32 = 0o666;

/// Puts `bytes` at `path`: readers see the old file or the new one, and after a power failure one of them is there.
///
/// `mode`: permissions of the new file, such as [`PRIVATE`]. Errors: the system's; then the old file is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Threads and processes that write the same file at the same time each have a draft of their own.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = with_suffix(path, &format!("{}-{number}.partial", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    if let Err(error) = write() {
        let _may_not_exist = fs::remove_file(&draft);
        return Err(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The file is there. Only its survival of a power failure is in question, and some file systems cannot tell.
    let _best_effort = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Writes a script that the binary carries into `folder`, which is made if need be, and returns its path. The name holds
/// its SHA-256, so that two versions of rask never run each other's file, and a file that is there already with the right
/// content is left alone.
///
/// Errors: the folder or the file cannot be written.
pub fn write_script(folder: &Path, stem: &str, source: &str) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let digest = Sha256::digest(source.as_bytes());
    let name = HEXLOWER.encode(digest.get(..16).unwrap_or(&digest));
    let path = folder.join(format!("{stem}-{name}.py"));
    write_unless_there(&path, source)?;
    Ok(path)
}

/// As [`write_script`], for several files: each has a path below a folder of their own, which is returned.
///
/// Errors: a folder or a file cannot be written.
pub fn write_scripts(folder: &Path, stem: &str, sources: &[(&str, &str)]) -> io::Result<PathBuf> {
    let mut digest = Sha256::new();
    for (name, source) in sources {
        for text in [name, source] {
            digest.update(text.len().to_le_bytes());
            digest.update(text.as_bytes());
        }
    }
    let digest = digest.finalize();
    let home = folder.join(format!("{stem}-{}", HEXLOWER.encode(digest.get(..16).unwrap_or(&digest))));
    for (name, source) in sources {
        let path = home.join(name);
        let within = path.parent().unwrap_or(&home);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(within)?;
        write_unless_there(&path, source)?;
    }
    Ok(home)
}

fn write_unless_there(path: &Path, source: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == source.as_bytes()) {
        return Ok(());
    }
    // Another process may do the same at the same time: the file must be complete when it gets its name.
    write_atomic(path, source.as_bytes(), PRIVATE)
}

/// A lock that one process at a time holds, and that the kernel gives back however that process ends.
///
/// Dropping it removes its file.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Takes the lock of a file, which is made if there is none. `None`: another process holds it.
    ///
    /// Errors: the file cannot be made or locked.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE).open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
            // The last holder removed its file as it ended: what we locked may no longer be at the path.
            let inode = file.metadata()?.ino();
            if fs::metadata(path).is_ok_and(|at_path| at_path.ino() == inode) {
                return Ok(Some(Self { path: path.to_path_buf(), _file: file }));
            }
        }
    }

    /// Whether some process holds the lock of a file.
    pub fn is_held(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed while it is still locked: whoever waits for it notices that the path leads to another file.
        let _may_not_exist = fs::remove_file(&self.path);
    }
}

/// Where an older copy of a log is: `x.log.2`. The log itself has the age 0.
pub fn aged(path: &Path, age: u32) -> PathBuf {
    if age == 0 { path.to_path_buf() } else { with_suffix(path, &age.to_string()) }
}

/// Puts a log aside as its first copy, and keeps `keep` copies in all; 0 removes it. A log that is not there is fine.
///
/// Errors: the file cannot be moved or removed.
pub fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    make_room(path, keep);
    let moved = if keep > 0 { fs::rename(path, aged(path, 1)) } else { fs::remove_file(path) };
    match moved {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// As [`rotate`], for a log that another process holds open for appending and goes on writing: copied and emptied.
///
/// Errors: no room for the copy; then the log is left to grow.
pub fn rotate_open(path: &Path, keep: u32) -> io::Result<()> {
    if keep > 0 {
        make_room(path, keep);
        fs::copy(path, aged(path, 1))?;
    }
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// Whether a file is longer than this. One that is not there is not. Unit of `limit`: bytes.
pub fn is_longer(path: &Path, limit_bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() > limit_bytes)
}

/// Makes every copy one older; the oldest is overwritten.
fn make_room(path: &Path, keep: u32) {
    for age in (1..keep).rev() {
        let _may_not_exist = fs::rename(aged(path, age), aged(path, age.saturating_add(1)));
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rask-files-{}-{name}", std::process::id()));
        let _left_by_an_earlier_run = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a folder");
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = folder("replaced");
        let path = folder.join("a.json");
        write_atomic(&path, b"a long first text", SHARED).expect("written");
        write_atomic(&path, b"short", PRIVATE).expect("written again");
        assert_eq!(fs::read(&path).expect("read"), b"short");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, PRIVATE);
        assert_eq!(names(&folder), ["a.json"]);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_left_as_it_was_without_a_draft() {
        let folder = folder("kept");
        let path = folder.join("a");
        fs::create_dir(&path).expect("a folder in the way");
        assert!(write_atomic(&path, b"x", PRIVATE).is_err());
        assert_eq!(names(&folder), ["a"]);
        fs::remove_dir_all(folder).expect("removed");
    }

    /// Goal: readers never see half a file. Method: a thread replaces it with texts of one letter, another reads.
    #[test]
    fn readers_see_the_old_file_or_the_new_one() {
        let folder = folder("readers");
        let path = folder.join("a");
        let texts = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
        write_atomic(&path, &texts[0], PRIVATE).expect("written");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..20).for_each(|n| write_atomic(&path, &texts[n % 2], PRIVATE).expect("written"));
            });
            while !writer.is_finished() {
                assert!(texts.contains(&fs::read(&path).expect("there at any time")));
            }
        });
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_lock_is_held_once_and_its_file_goes_with_it() {
        let folder = folder("lock");
        let path = folder.join("lock");
        assert!(!FileLock::is_held(&path));
        let lock = FileLock::take(&path).expect("a file").expect("free");
        assert!(FileLock::is_held(&path));
        assert!(FileLock::take(&path).expect("a file").is_none());
        drop(lock);
        assert!(!FileLock::is_held(&path) && names(&folder).is_empty());
        assert!(FileLock::take(&path).expect("a file").is_some());
        assert!(FileLock::take(&folder.join("none/lock")).is_err());
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn rotation_keeps_as_many_copies_as_it_is_told() {
        let folder = folder("rotate");
        let path = folder.join("x.log");
        for text in ["1", "2", "3", "4"] {
            rotate(&path, 2).expect("moved");
            fs::write(&path, text).expect("written");
        }
        let texts = |ages: std::ops::Range<u32>| -> Vec<String> {
            ages.map(|age| fs::read_to_string(aged(&path, age)).expect("kept")).collect()
        };
        assert_eq!(texts(0..3), ["4", "3", "2"]);
        rotate(&path, 0).expect("removed");
        assert_eq!(names(&folder), ["x.log.1", "x.log.2"]);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn an_open_log_is_copied_and_its_writer_goes_on_at_the_beginning() {
        let folder = folder("open");
        let path = folder.join("x.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).expect("opens");
        writer.write_all(b"before\n").expect("written");
        assert!(is_longer(&path, 6) && !is_longer(&path, 7));
        rotate_open(&path, 1).expect("copied");
        writer.write_all(b"after\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "after\n");
        assert_eq!(fs::read_to_string(aged(&path, 1)).expect("read"), "before\n");
        fs::remove_dir_all(folder).expect("removed");
    }
}
