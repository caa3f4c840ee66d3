//! The other workers: what they hold that matters here, and what is asked of them.

use std::collections::{BTreeMap, BTreeSet};

use super::rank::TaskPriority;
use super::task::{PeerRef, TaskRef};
use crate::base::{Now, SeededMap, Text};

#[derive(Debug)]
pub(super) struct PeerWorker {
    pub(super) address: Text,
    /// It is on this machine.
    pub(super) local: bool,
    /// Tasks that could be fetched from it, in the order in which to ask.
    pub(super) needed: BTreeMap<(TaskPriority, u64), TaskRef>,
    /// Tasks whose value it holds, as far as is known.
    pub(super) has: BTreeSet<TaskRef>,
    pub(super) transfer: Option<Transfer>,
    /// It had too many transfers of its own; not asked before then.
    pub(super) busy_until: Option<Now>,
    /// The scheduler removed it: forgotten as soon as nothing refers to it.
    pub(super) removed: bool,
}

/// What was asked of a peer in one message.
#[derive(Debug)]
pub(super) struct Transfer {
    /// In order of creation.
    pub(super) tasks: Vec<TaskRef>,
    pub(super) size_bytes: u64,
}

/// Peers by reference and by address.
#[derive(Debug)]
pub(super) struct PeerTable {
    places: Vec<Option<Box<PeerWorker>>>,
    free: Vec<u32>,
    by_address: SeededMap<Text, PeerRef>,
    own_host: Text,
    /// Those that hold something to be fetched.
    pub(super) wanted: BTreeSet<PeerRef>,
    /// Those that were busy, by when they are asked again.
    pub(super) busy: BTreeSet<(Now, PeerRef)>,
    turns: u64,
}

/// The host in `scheme://host:port`. Source: `distributed/comm/addressing.py`, `get_address_host`.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.rsplit_once(':').map_or(rest, |(host, _)| host)
}

impl PeerTable {
    pub(super) fn new(own_address: &str) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_address: SeededMap::default(),
            own_host: host_of(own_address).into(),
            wanted: BTreeSet::new(),
            busy: BTreeSet::new(),
            turns: 0,
        }
    }

    pub(super) fn find(&self, address: &Text) -> Option<PeerRef> {
        self.by_address.get(address).copied()
    }

    pub(super) fn ensure(&mut self, address: &Text) -> PeerRef {
        if let Some(id) = self.find(address) {
            return id;
        }
        let peer = Some(Box::new(PeerWorker {
            address: address.clone(),
            local: host_of(address) == &*self.own_host,
            needed: BTreeMap::new(),
            has: BTreeSet::new(),
            transfer: None,
            busy_until: None,
            removed: false,
        }));
        let id = match self.free.pop() {
            Some(place) => PeerRef(place),
            None => {
                self.places.push(None);
                PeerRef(u32::try_from(self.places.len() - 1).expect("fewer than 2^32 peers fit in memory"))
            }
        };
        self.places[id.0 as usize] = peer;
        self.by_address.insert(address.clone(), id);
        id
    }

    pub(super) fn get(&self, id: PeerRef) -> &PeerWorker {
        self.places[id.0 as usize].as_deref().expect("a peer stays while something refers to it")
    }

    pub(super) fn get_mut(&mut self, id: PeerRef) -> &mut PeerWorker {
        self.places[id.0 as usize].as_deref_mut().expect("a peer stays while something refers to it")
    }

    /// A number larger than all before.
    pub(super) const fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    pub(super) fn add_needed(&mut self, id: PeerRef, place: (TaskPriority, u64), task: TaskRef) {
        self.get_mut(id).needed.insert(place, task);
        self.wanted.insert(id);
    }

    pub(super) fn remove_needed(&mut self, id: PeerRef, place: (TaskPriority, u64)) {
        let peer = self.get_mut(id);
        peer.needed.remove(&place);
        if peer.needed.is_empty() {
            self.wanted.remove(&id);
        }
    }

    /// Forgets a removed peer to which nothing refers any more, unless that has happened.
    pub(super) fn settle(&mut self, id: PeerRef) {
        let Some(peer) = self.places[id.0 as usize].as_deref() else { return };
        if !peer.removed || !peer.has.is_empty() || peer.transfer.is_some() || peer.busy_until.is_some() {
            return;
        }
        let address = peer.address.clone();
        self.by_address.remove(&address);
        self.places[id.0 as usize] = None;
        self.free.push(id.0);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerRef, &PeerWorker)> {
        (0u32..).zip(&self.places).filter_map(|(place, peer)| Some((PeerRef(place), peer.as_deref()?)))
    }
}
