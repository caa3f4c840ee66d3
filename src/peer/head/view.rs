//! What others see of the joined machines, and what they are told at once.

use std::net::IpAddr;

use serde::Serialize;

use crate::peer::wire::{MachineFacts, PoolState};

/// What listeners (the fleet, the dashboard) should know at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// What may be placed where has changed: look at [`super::HeadHandle::peers`].
    Changed,
    /// Its workers are lost: the schedulers should not wait for them.
    Lost { peer: String },
    /// Its workers should be retired with their data. It is empty when it says so.
    Retire { peer: String },
}

/// A joined machine, for lists and for placement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerView {
    /// What people call it.
    pub name: String,
    /// What its certificate calls it.
    pub id: String,
    /// `joining up late gone draining drained`
    pub state: &'static str,
    /// It is here for a while only, and forgotten when it goes.
    pub passing: bool,
    /// It is for this cluster only.
    pub reserved: Option<String>,
    /// The batch system's name of the job that it is.
    pub job: Option<String>,
    /// May workers be placed on it?
    pub usable: bool,
    /// Are its workers counted on?
    pub keeps_workers: bool,
    /// For so long that others do its work, and not yet so long that its data is given up.
    pub silent: bool,
    /// From where it is connected.
    pub address: Option<IpAddr>,
    /// Our address as it reaches us.
    pub head_address: Option<IpAddr>,
    /// Since the last heartbeat. `None`: none ever came. Unit: milliseconds.
    pub silent_ms: Option<u64>,
    /// Its clock minus ours, at the last heartbeat. Unit: milliseconds.
    pub clock_skew_ms: i64,
    /// Unit: milliseconds since the epoch.
    pub joined_ms: i64,
    /// What it said of itself.
    pub facts: MachineFacts,
    /// Its worker pools.
    #[serde(rename = "groups")]
    pub pools: Vec<PoolState>,
    /// What clusters want there.
    pub placed: Vec<Placed>,
}

/// A cluster's share of a machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placed {
    pub cluster: String,
    /// Workers, at least.
    pub workers: u32,
    /// Threads of each.
    pub nthreads: u32,
    /// Memory of each, 0 for no limit. Unit: bytes.
    pub memory_bytes: u64,
}
