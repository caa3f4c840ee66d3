//! What workers were doing when they went without being told to. Whoever starts them asks, to say it with the cause.
//!
//! Data only, bounded.

use std::collections::VecDeque;

use crate::base::Key;

/// Exits that are kept until somebody asks: all workers of a large machine at once.
const KEPT_MAX: usize = 256;
/// Tasks that are named of each.
const TASKS_MAX: usize = 3;
/// Longest part of a key that is shown: keys may be of any length. Unit: characters.
const KEY_MAX: usize = 200;

/// What one worker was doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerExit {
    /// Keys that were running at the last heartbeat and had not ended since.
    pub running: Vec<String>,
    /// Keys that the worker had been sent.
    pub given: Vec<String>,
    /// The task whose run it reported last.
    pub last: Option<String>,
    /// Most memory that a heartbeat told. Unit: bytes.
    pub peak_bytes: u64,
}

impl WorkerExit {
    /// Names a few of these keys, each as short as people read it.
    pub fn named<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<String> {
        keys.take(TASKS_MAX).map(|key| key.to_string().chars().take(KEY_MAX).collect()).collect()
    }
}

/// The exits that nobody asked about yet, by name of the worker, newest first.
#[derive(Debug, Default)]
pub struct WorkerExits(VecDeque<(String, WorkerExit)>);

impl WorkerExits {
    /// Keeps what the worker of this name was doing.
    pub fn keep(&mut self, name: String, exit: WorkerExit) {
        self.0.retain(|(known, _)| *known != name);
        self.0.truncate(KEPT_MAX - 1);
        self.0.push_front((name, exit));
    }

    /// What the worker of this name was doing; forgotten when told.
    pub fn take(&mut self, name: &str) -> Option<WorkerExit> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        self.0.remove(at).map(|(_, exit)| exit)
    }
}
