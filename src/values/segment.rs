//! A file that holds one value.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// A file that holds one value: without a name, in memory, or with one, on a disk. Clones share it; it is gone with the last
/// of them, or the last process that has it open or mapped.
#[derive(Clone, Debug)]
pub struct Segment(Place);

#[derive(Clone, Debug)]
enum Place {
    Open(Arc<File>),
    Named(Arc<Named>),
}

/// Removed when nobody wants it any more.
#[derive(Debug)]
struct Named(PathBuf);

impl Drop for Named {
    fn drop(&mut self) {
        // Whoever cleared the folder away was quicker.
        let _gone = fs::remove_file(&self.0);
    }
}

impl Segment {
    /// A new file of this length. `folder`: where it lies if the system has no memfd.
    ///
    /// Errors: no descriptor left, no memory, a full disk.
    pub fn create(len: u64, folder: &Path) -> io::Result<Self> {
        let file = match memfd_create("rask-value", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING) {
            Ok(descriptor) => {
                let file = File::from(descriptor);
                file.set_len(len)?;
                file
            }
            Err(why @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(why.into()),
            // Too old a kernel, or somebody forbids it.
            Err(_) => {
                let file = unlinked(folder)?;
                // A full disk is noticed here, while the bytes are still elsewhere.
                fallocate(&file, FallocateFlags::empty(), 0, len)?;
                file
            }
        };
        Ok(Self(Place::Open(Arc::new(file))))
    }

    /// A file that another process wrote. Errors: it is no file, or shorter than it should be.
    pub fn adopt(descriptor: OwnedFd, len: u64) -> io::Result<Self> {
        let file = File::from(descriptor);
        let is = file.metadata()?;
        if !is.is_file() || is.len() < len {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a value's file is shorter than its frames"));
        }
        Ok(Self(Place::Open(Arc::new(file))))
    }

    /// A file on a disk, which is opened when it is read.
    pub fn named(path: PathBuf) -> Self {
        Self(Place::Named(Arc::new(Named(path))))
    }

    /// It occupies a disk and no memory.
    pub const fn is_on_disk(&self) -> bool {
        matches!(self.0, Place::Named(_))
    }

    /// The file itself, to be read, sent or passed on. Errors: it is not there any more, or no descriptor is left.
    pub fn open(&self) -> io::Result<Arc<File>> {
        match &self.0 {
            Place::Open(file) => Ok(file.clone()),
            Place::Named(named) => File::open(&named.0).map(Arc::new),
        }
    }

    /// Writes at this place.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.open()?.write_all_at(bytes, offset)
    }

    /// Nobody can change it any more. Files of a disk stay as they are.
    pub fn seal(&self) {
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        if let Place::Open(file) = &self.0 {
            let _not_a_memfd = fcntl_add_seals(file, seals);
        }
    }

    /// Descriptors run short: the lowest free number is given out first, so this one says how many are in use. What is
    /// left is for connections.
    pub fn is_scarce(&self) -> bool {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        match &self.0 {
            Place::Open(file) => u64::try_from(file.as_raw_fd()).is_ok_and(|number| number > most / 2),
            Place::Named(_) => false,
        }
    }
}

/// A file that its name was taken from.
fn unlinked(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("value-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
