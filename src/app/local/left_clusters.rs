//! Clusters without an appliance: they outlived it, or it was killed. Their control sockets tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use crate::control::Question;
use crate::link::Link;

/// Longest wait for one that may be stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// What has the control socket of a scheduler in its folder.
pub(crate) struct LeftCluster {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) scheduler: Link,
    /// The scheduler's process. None: nobody answers at the socket.
    pub(crate) pid: Option<String>,
}

/// All of a state folder, by name.
pub(crate) async fn left_clusters(state: &Path) -> Vec<LeftCluster> {
    let mut found = Vec::new();
    for folder in fs::read_dir(state.join("clusters")).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let socket = folder.join("control.sock");
        if !socket.exists() {
            continue;
        }
        let scheduler = Link::new(socket);
        let answer = timeout(PATIENCE, scheduler.ask(Question::Health)).await;
        let pid = answer.ok().and_then(Result::ok);
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push(LeftCluster { name, folder, scheduler, pid });
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}
