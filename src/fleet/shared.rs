//! What the fleet's handle and the tasks of its clusters share: configuration, the directory of clusters, commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::config::{FleetConfig, Pythons};
use super::types::{Adapt, ClusterView, FleetError, FleetEvent};
use crate::base::Now;
use crate::clock::Clock;
use crate::link::Link;
use crate::store::StoreHandle;

/// What one cluster is told.
#[derive(Debug)]
pub(super) enum ClusterOrder {
    Scale { workers: u32, heard: oneshot::Sender<Result<(), FleetError>> },
    Adapt { wish: Adapt, heard: oneshot::Sender<Result<(), FleetError>> },
    Stop { why: String, heard: oneshot::Sender<Result<(), FleetError>> },
}

/// What is known of one cluster.
#[derive(Clone, Debug)]
pub(super) struct ClusterEntry {
    pub view: Arc<ClusterView>,
    /// `None`: it ended under an appliance before this one.
    pub inbox: Option<mpsc::Sender<ClusterOrder>>,
    pub link: Link,
    /// Its workers on this machine.
    pub here: u32,
}

/// What all owners share.
pub(super) struct FleetShared {
    pub config: FleetConfig,
    pub store: StoreHandle,
    pub pythons: Pythons,
    pub clock: Clock,
    pub directory: watch::Sender<BTreeMap<String, ClusterEntry>>,
    pub events: broadcast::Sender<FleetEvent>,
    /// Nothing is started any more.
    pub closing: AtomicBool,
}

impl FleetShared {
    /// Unit: milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> i64 {
        (self.clock.wall() * 1e3) as i64
    }

    /// Since the start of this process. Never goes back.
    pub(super) fn now_secs(&self) -> f64 {
        self.clock.now().secs_since(Now(0))
    }

    pub(super) fn tell(&self, event: FleetEvent) {
        // Nobody may listen.
        drop(self.events.send(event));
    }
}
