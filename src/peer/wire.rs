//! What head and peer say to each other: JSON in the text messages of one WebSocket over mutual TLS.
//!
//! The head says what it wants, whole, each time something changes; the peer makes it so and reports what is. A lost
//! message costs nothing: the next one says all of it again. Fields may be added; unknown ones are passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Engine;
use crate::control::WorkerProcess;

/// Longest message. A lock of a large environment is some 50 KiB, a tail of a log less. Unit: bytes.
pub const MESSAGE_MAX: usize = 4 << 20;

/// Between two heartbeats of a healthy machine. Unit: microseconds.
pub const HEARTBEAT_US: u64 = 2_000_000;

/// Most lines of a log in one answer.
pub const LOG_LINES_MAX: usize = 10_000;

/// The body of `POST /api/rask/v1/peers/join`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinAsk {
    /// The join token's text.
    pub token: String,
    /// The name that the machine would like.
    pub name: String,
    /// What its certificate should certify (PEM).
    pub csr: String,
    /// Its version of rask.
    pub version: String,
    /// It is here for a while only: it should be forgotten when it goes.
    #[serde(default)]
    pub passing: bool,
    /// The batch system's name of the job that it is.
    #[serde(default)]
    pub job: Option<String>,
}

/// The body of `POST /api/rask/v1/peers/renew`: for a machine that was away for longer than its certificate lived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewAsk {
    /// As given at the join.
    pub id: String,
    /// As given at the join.
    pub secret: String,
    /// What its certificate should certify (PEM).
    pub csr: String,
}

/// The answer to both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The machine's id, which its certificates bear.
    pub id: String,
    /// The name it got; another than asked for if that was taken.
    pub name: String,
    /// Its certificate (PEM).
    pub cert: String,
    /// The authority's (PEM).
    pub ca: String,
    /// Opens nothing but the renewal of a certificate. Not repeated at a renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The head's wall clock. Unit: milliseconds since the epoch.
    pub now_ms: i64,
}

/// From the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToPeer {
    /// First of all.
    Welcome {
        /// What the head calls it.
        name: String,
        /// The head's wall clock. Unit: milliseconds since the epoch.
        now_ms: i64,
    },
    /// All pools that should be there. Others should not.
    Want {
        /// One per cluster.
        #[serde(rename = "groups")]
        pools: Vec<PoolWant>,
    },
    /// An environment that pools name by its hash.
    Lock {
        /// [`super::env_lock::EnvLock`] as JSON.
        text: String,
    },
    /// The answer to a request to sign.
    Certificate {
        /// PEM.
        cert: String,
    },
    /// The last lines of a pool's log are wanted.
    Logs {
        /// Repeated in the answer.
        call: u64,
        cluster: String,
        tail: usize,
    },
    /// The machine is no member any more: forget the head, or try no longer.
    Goodbye {
        /// For people.
        why: String,
    },
}

/// From the peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToHead {
    /// Every two seconds, and when something changed.
    #[serde(rename = "beat")]
    Heartbeat {
        facts: MachineFacts,
        #[serde(rename = "groups")]
        pools: Vec<PoolState>,
    },
    /// A new certificate is due.
    Sign {
        /// PEM.
        csr: String,
    },
    /// The answer to `Logs`.
    Lines {
        call: u64,
        /// The last ones.
        lines: Vec<String>,
    },
    /// It wants to go; its data should be moved first.
    Leave,
}

/// What a machine is and how it feels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineFacts {
    /// Its version of rask.
    pub version: String,
    /// Its host name.
    pub hostname: String,
    /// Cores that may be used.
    pub cores: u32,
    /// Memory that may be used. Unit: bytes.
    pub memory_bytes: u64,
    /// Memory that is free now. Unit: bytes.
    pub memory_free_bytes: u64,
    /// The load of the last minute.
    pub load: f64,
    /// Its graphics processors, by name.
    pub gpus: Vec<String>,
    /// Version of its own Python, if that can run workers.
    pub python: Option<String>,
    /// Version of `distributed` there.
    pub distributed: Option<String>,
    /// Its wall clock. Unit: milliseconds since the epoch.
    pub now_ms: i64,
    /// Free space where its environments and spilled data go. Unit: bytes.
    pub disk_free_bytes: u64,
}

/// A worker pool that the head wants on a machine.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolWant {
    pub cluster: String,
    /// `tls://address:port` of its scheduler, as this machine reaches it.
    pub scheduler: String,
    /// The cluster's certificate, which is its authority as well (PEM).
    pub cert: String,
    /// Its key (PEM).
    pub key: String,
    /// Workers, at least. Compared with what runs when the revision is new: those that end cleanly are not replaced.
    pub count: u32,
    /// Higher when workers should be started.
    #[serde(default)]
    pub revision: u64,
    /// Threads of each.
    pub nthreads: u32,
    /// Memory of each, 0 for no limit. Unit: bytes.
    pub memory_bytes: u64,
    /// With a nanny each?
    pub nanny: bool,
    /// Whose workers they are.
    #[serde(default)]
    pub engine: Engine,
    /// Names of workers begin so.
    pub name: String,
    /// Variables to set.
    pub env: BTreeMap<String, String>,
    /// Hash of the environment that they need.
    pub lock: Option<String>,
    /// The machine's address, as the head sees it: where its workers listen.
    pub host: String,
    /// Workers that should end at once; named again until they are gone.
    #[serde(default)]
    pub stop: Vec<String>,
}

/// The key stays out of logs.
impl std::fmt::Debug for PoolWant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PoolWant({} x {} for {})", self.cluster, self.count, self.scheduler)
    }
}

/// The present state of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolState {
    pub cluster: String,
    /// Worker processes that run.
    pub running: u32,
    /// What it is about.
    pub phase: Phase,
    /// In words: progress, or what went wrong.
    #[serde(default)]
    pub note: String,
    /// The last revision of what is wanted that was carried out.
    #[serde(default)]
    pub revision: Option<u64>,
    #[serde(default)]
    pub workers: Vec<WorkerProcess>,
    /// Ends of workers without being asked, so far.
    #[serde(default)]
    pub deaths: u64,
    /// The last of them in words, newest last.
    #[serde(default)]
    pub recent_deaths: Vec<String>,
}

/// What a pool is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its Python environment is being made.
    Preparing,
    /// Its workers are started and kept.
    Running,
    /// It ends.
    Stopping,
    /// It cannot be; the note says why.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: machines with an older rask stay joined: what travels has the names that they know.
    #[test]
    fn messages_travel_under_the_names_of_earlier_versions() {
        let heartbeat = ToHead::Heartbeat { facts: MachineFacts::default(), pools: Vec::new() };
        let text = serde_json::to_string(&heartbeat).expect("JSON");
        assert!(text.starts_with(r#"{"say":"beat","facts":{"#) && text.ends_with(r#""groups":[]}"#), "{text}");
        assert_eq!(serde_json::from_str::<ToHead>(&text).expect("read back"), heartbeat);
        let want = serde_json::to_string(&ToPeer::Want { pools: Vec::new() }).expect("JSON");
        assert_eq!(want, r#"{"say":"want","groups":[]}"#);
        let phase = serde_json::to_string(&Phase::Preparing).expect("JSON");
        assert_eq!(phase, r#""preparing""#);
    }
}
