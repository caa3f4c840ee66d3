//! Which process listens at a control socket, and whether it and we understand each other.

use serde::{Deserialize, Serialize};

/// The protocol that this rask speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest protocol that this rask still understands.
pub const PROTOCOL_OLDEST: u32 = 1;

/// The process that listens at a control socket. A process id alone proves nothing: the system gives it away again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessInfo {
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

impl ProcessInfo {
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
