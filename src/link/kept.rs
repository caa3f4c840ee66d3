//! A listening Unix socket that is made anew when somebody removes its file: who listens lives on, and must be found.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::socket::short_path;

/// Between two looks at whether the file is there.
const LOOK: Duration = Duration::from_secs(5);

/// A Unix socket at `path`, however long that is, for this user alone.
///
/// Errors: there is a file already; the folder is missing or not ours.
pub fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let (short, _open) = short_path(path)?;
    let listener = std::os::unix::net::UnixListener::bind(&short)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct KeptListener {
    path: PathBuf,
    listener: UnixListener,
}

impl KeptListener {
    /// Of a socket that [`bind`] made at `path`. Must be called on a runtime.
    pub fn new(path: &Path, bound: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), listener: UnixListener::from_std(bound)? })
    }

    /// The next connection. May be dropped at any moment.
    pub async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
                () = sleep(LOOK) => self.put_back(),
            }
        }
    }

    fn put_back(&mut self) {
        if self.path.exists() {
            return;
        }
        let anew = || -> io::Result<UnixListener> {
            if let Some(folder) = self.path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            UnixListener::from_std(bind(&self.path)?)
        };
        match anew() {
            Ok(listener) => {
                tracing::warn!(path = %self.path.display(), "this socket was removed while we listen; it is put back");
                self.listener = listener;
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "this socket was removed, and cannot be put back");
            }
        }
    }
}
