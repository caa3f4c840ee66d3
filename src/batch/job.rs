//! Jobs, and orders for jobs, whichever batch system has them. Pure: data.

use std::path::PathBuf;

/// Jobs to submit, all alike: one worker each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub cluster: String,
    /// How many.
    pub count: u32,
    /// Of each.
    pub cores: u32,
    /// Of each; 0: not limited. Unit: MiB.
    pub memory_mib: u64,
    /// Until the batch system ends them. Unit: seconds.
    pub walltime_secs: u64,
    /// Empty: the site's default. So are the next two.
    pub partition: String,
    pub account: String,
    pub qos: String,
    /// What each of them runs: a script for `sh`.
    pub script: String,
    /// Where each writes what it says, without a name's ending.
    pub output: PathBuf,
}

/// A job, as the batch system sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchJob {
    pub id: String,
    pub cluster: String,
    pub state: JobState,
    /// Why it waits or ended, in the batch system's own words.
    pub reason: String,
    /// Where it runs.
    pub node: String,
    /// Unit: seconds since the epoch.
    pub submitted_secs: Option<i64>,
    /// Of one that waits: expected. Unit: seconds since the epoch.
    pub starts_secs: Option<i64>,
    /// Unit: seconds since the epoch.
    pub ends_secs: Option<i64>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Waiting,
    Running,
    /// It ends.
    Ending,
    Ended(JobEnd),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// By itself, with exit code 0.
    Done,
    /// By itself, in another way.
    Failed,
    /// Taken away: it gave way to another, its time was over, its node failed, or somebody cancelled it.
    Taken,
}

impl JobState {
    /// Does it wait or run?
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

/// Why a batch system did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// It will not, until somebody changes something. Its own words.
    #[error("{0}")]
    Refused(String),
    /// It could not now.
    #[error("{0}")]
    NotNow(String),
}
