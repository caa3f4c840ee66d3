//! What rask processes say to each other over a link, beside connections: questions and typed answers.
//!
//! Every process may be older or newer than the other: fields are added with a default and never change their meaning,
//! questions are added, and who does not know one says so. What cannot be kept that way raises [`PROTOCOL`].

use serde::{Deserialize, Serialize};

/// What this rask speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest that it still understands.
pub const PROTOCOL_OLDEST: u32 = 1;

/// What one process may ask of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Is it there? Answered by the link itself, with its process id.
    Health,
    /// Who is it? Answered by the link itself, with a [`Hello`].
    Hello,
    /// The page `/json/identity.json`.
    Identity,
    /// The page `/json/counts.json`.
    Counts,
    /// The page `/metrics`.
    Metrics,
    /// Names and addresses of workers, as JSON.
    Workers,
    /// End.
    Stop,
    /// Of a scheduler: its [`SchedulerState`].
    State,
    /// Of a scheduler: retire workers (data moved first) until so many stay. Answered with the chosen names, while
    /// their data still moves.
    Retire {
        /// Workers that stay.
        keep: u32,
    },
    /// Of a scheduler: retire these workers (data moved first). Answered with the names that it knows, while their data
    /// still moves.
    RetireThese {
        /// Their names.
        names: Vec<String>,
    },
    /// Of a scheduler: do not wait for these workers any more, their machine is gone. Answered with the names that it
    /// knew.
    Lose {
        /// Their names.
        names: Vec<String>,
    },
    /// Of a scheduler: what a worker was doing when it went without being told to, its [`LastWords`]. Told once.
    LastWords {
        /// Its name.
        worker: String,
    },
    /// Of a scheduler: the machine of these workers is silent, or was heard again. Answered with the names that it knew.
    Silent {
        /// Their names.
        names: Vec<String>,
        /// Silent, or heard again?
        silent: bool,
    },
    /// Of a scheduler: tell its clients, on the topic `warn`.
    Warn {
        /// What.
        text: String,
    },
    /// Of a scheduler: what its clients asked for, a list of [`ComputationState`], the oldest first.
    Computations,
    /// Of a group of workers: its [`GroupState`].
    Group,
    /// Of a group of workers: have at least so many. Answered with its [`GroupState`].
    Grow {
        /// Workers that are wanted.
        workers: u32,
    },
    /// Of a group of workers: stop these, at once. Answered with its [`GroupState`].
    StopWorkers {
        /// Their names.
        names: Vec<String>,
    },
}

/// Who listens at a link. A process id alone proves nothing: the system gives it away again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// What it speaks.
    pub protocol: u32,
    /// The oldest that it understands.
    pub protocol_oldest: u32,
    /// Its version of rask.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When that process was started. Unit: clock ticks since the machine was.
    pub started_ticks: u64,
}

impl Hello {
    /// This process, with the given id and start.
    pub fn new(pid: u32, started_ticks: u64) -> Self {
        Self {
            protocol: PROTOCOL,
            protocol_oldest: PROTOCOL_OLDEST,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid,
            started_ticks,
        }
    }

    /// Why we and this process cannot talk, in words. `None`: we can.
    pub fn stranger(&self) -> Option<String> {
        if self.protocol < PROTOCOL_OLDEST {
            return Some(format!(
                "it was started by rask {} and speaks link protocol {}, this rask understands {PROTOCOL_OLDEST} and newer",
                self.version, self.protocol
            ));
        }
        if self.protocol_oldest > PROTOCOL {
            return Some(format!(
                "it was started by rask {} and understands link protocol {} and newer, this rask speaks {PROTOCOL}",
                self.version, self.protocol_oldest
            ));
        }
        None
    }
}

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
    /// Its workers.
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
    /// Its address.
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

/// A group of workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupState {
    /// Those that run, or that are about to be started again.
    pub workers: Vec<GroupWorker>,
    /// Ends without being asked, so far.
    pub deaths: u64,
    /// The last of them in words, newest last.
    pub recent_deaths: Vec<String>,
    /// Workers that failed too often to be started once more, so far.
    pub given_up: u64,
}

/// One of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupWorker {
    /// Its name.
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
