//! `rask env` and `rask configure`: how Dask's clients find the running appliance.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::app::command_error::CommandError;
use crate::app::local::settings::home;
use crate::app::local::state_dir::Running;
use crate::app::text::outln;

/// How the file of `rask configure` begins.
pub(crate) const DASK_FILE_MARK: &str = "# Written by `rask configure`";

/// Prints shell exports.
pub fn env(state: Option<&Path>) -> Result<(), CommandError> {
    let running = Running::required(state)?;
    if let Some(address) = &running.scheduler {
        outln!("export DASK_SCHEDULER_ADDRESS={address}");
    }
    outln!("export DASK_GATEWAY__ADDRESS={}", running.http);
    // A company's proxy is not the way to this machine, and the client would take it.
    outln!("export DASK_GATEWAY__HTTP_CLIENT__PROXY=False");
    Ok(())
}

/// Writes Dask's YAML, so that `Client()` and `Gateway()` find the appliance; or takes it away again.
pub fn configure(state: Option<&Path>, remove: bool) -> Result<(), CommandError> {
    let path = dask_file()?;
    if remove {
        return match fs::remove_file(&path) {
            Ok(()) => {
                outln!("Removed {}", path.display());
                Ok(())
            }
            Err(why) if why.kind() == ErrorKind::NotFound => {
                outln!("There is no {}", path.display());
                Ok(())
            }
            Err(why) => Err(CommandError::world(format!("cannot remove {}: {why}", path.display()))),
        };
    }
    let running = Running::required(state)?;
    let mut text = format!("{DASK_FILE_MARK}; `rask configure --remove` takes it away.\n");
    let mut finds = Vec::new();
    if let Some(address) = &running.scheduler {
        text.push_str(&format!("scheduler-address: {address}\n"));
        finds.push(format!("Client() now connects to {address}"));
    }
    // A company's proxy is not the way to this machine, and the client would take it.
    text.push_str(&format!("gateway:\n  address: {}\n  http-client:\n    proxy: false\n", running.http));
    finds.push(format!("Gateway() to {}", running.http));
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
    written.map_err(|why| CommandError::world(format!("cannot write {}: {why}", path.display())))?;
    outln!("Wrote {}: {}", path.display(), finds.join(", "));
    Ok(())
}

/// The file of `rask configure`.
pub(crate) fn dask_file() -> Result<PathBuf, CommandError> {
    let folder = std::env::var_os("DASK_CONFIG").map(PathBuf::from).filter(|path| path.is_dir());
    // Dask does not look at $XDG_CONFIG_HOME.
    let folder = folder.or_else(|| home("", ".config").map(|base| base.join("dask")));
    let folder = folder.ok_or_else(|| CommandError::usage("no folder for Dask's configuration: $HOME is not set"))?;
    Ok(folder.join("rask.yaml"))
}
