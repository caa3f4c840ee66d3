//! What a plan and a placement decide on, and the steps that they decide. Pure: data.

/// A worker as its scheduler sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    pub name: String,
    /// It leaves as soon as its data is elsewhere.
    pub retiring: bool,
}

/// A worker as its pool sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolWorker {
    pub name: String,
    /// It was told to stop.
    pub stopping: bool,
    /// It was started again before: it may never come.
    pub again: bool,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanStep {
    /// The pool must have this many that are not stopping.
    Grow(u32),
    /// The pool stops these: the scheduler does not know them yet.
    Stop(Vec<String>),
    /// The scheduler retires workers until this number stays.
    Retire {
        /// The number that stays.
        keep: u32,
    },
    /// A pool on another machine must have this many that are not stopping.
    GrowAt { host: String, workers: u32 },
    /// A pool on another machine stops these: they hold nothing, or nobody waits for it.
    StopAt {
        /// Which machine; empty: this one.
        host: String,
        names: Vec<String>,
    },
    /// The scheduler retires these.
    RetireThese(Vec<String>),
    /// A line for the log.
    Note(String),
    /// A line for the log and for clients.
    Warn(String),
    /// The cluster ends, for this reason.
    End(String),
}
