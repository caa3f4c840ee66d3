//! The typed answers. What is not here is answered as text: a page as it is served, or a list of names as JSON.

use serde::{Deserialize, Serialize};

/// A scheduler, as its supervisor needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerState {
    /// The address that it announces.
    pub address: String,
    /// Where it listens itself.
    pub listening: Vec<String>,
    /// Clients with a stream.
    pub clients: u32,
    /// Is there a task that is not at rest, or a graph being read?
    pub busy: bool,
    /// Moves between task states so far: it differs when anything happened in between.
    pub transitions: u64,
    /// How many workers the present work wants.
    pub adaptive_target: u32,
    /// Workers that registered.
    pub workers: Vec<SchedulerWorker>,
}

/// One stretch of a scheduler's work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ComputationState {
    /// Counts up.
    pub id: u64,
    /// Unit: seconds since the epoch.
    pub start_secs: f64,
    /// None while it runs.
    pub stop_secs: Option<f64>,
    /// Tasks that were submitted.
    pub tasks: u64,
    /// Tasks that came to memory meanwhile.
    pub done: u64,
    /// Tasks that failed meanwhile.
    pub erred: u64,
    /// Some of their groups.
    pub groups: Vec<String>,
}

/// A worker that registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerWorker {
    /// Its name, as text.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Its data is being moved; it will close.
    pub retiring: bool,
}

/// What a scheduler knows of a worker that went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastWords {
    /// It went, and nobody was told so before.
    pub gone: bool,
    /// It did not, and is there.
    pub present: bool,
    /// Some of the tasks that its threads were busy with.
    pub running: Vec<String>,
    /// Some of those that were sent to it and had not ended.
    pub given: Vec<String>,
    /// The task that it ended last.
    pub last: Option<String>,
    /// Most memory that was seen in use. Unit: bytes.
    pub peak_bytes: u64,
}

/// The worker processes of one cluster on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolReport {
    /// Those that run, or that are about to be started again.
    pub workers: Vec<WorkerProcess>,
    /// Ends without being asked, so far.
    pub deaths: u64,
    /// The last of them in words, newest last.
    pub recent_deaths: Vec<String>,
    /// Workers that failed too often to be started once more, so far.
    pub given_up: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerProcess {
    /// The name that it was started with.
    pub name: String,
    /// Its process (the nanny's, if it has one). `None` between two lives.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last life ended.
    pub last_cause: Option<String>,
    /// What it said last before that.
    pub last_lines: Vec<String>,
    /// It was told to stop.
    pub stopping: bool,
}
