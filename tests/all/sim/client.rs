//! A client in miniature: the futures it holds, and what it believes of them.

use std::collections::{BTreeMap, VecDeque};

use rask::base::{ClientId, Key, Now, Text, TicketId, Value};
use rask::sched::ToClient;
use rask::sched::coord::CoordRequest;

use super::graphs::Graph;

/// What a client believes of a future it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    Pending,
    Finished,
    Erred,
}

/// What a client sends on its stream.
#[derive(Debug)]
pub enum Send {
    Graph(Box<Graph>),
    Desire { keys: Vec<Key>, fire_and_forget: bool },
    Release(Vec<Key>),
    Cancel { keys: Vec<Key>, force: bool },
    Report(Key),
    Coord(CoordRequest),
    Close,
}

/// A client process.
#[derive(Debug)]
pub struct Client {
    pub name: Text,
    pub id: Option<ClientId>,
    /// Acts, holds futures and reads its stream.
    pub alive: bool,
    pub futures: BTreeMap<Key, Belief>,
    /// What the driver holds back while a graph of this stream is being read.
    pub held_back: VecDeque<Send>,
    pub open_graph: Option<TicketId>,
    pub up_last: Now,
    pub down_last: Now,
    pub acts_left: usize,
}

/// A client was told to give up a future, and why that may not be.
#[derive(Debug)]
pub struct Cancelled {
    pub keys: Vec<Key>,
    pub reason: Value,
}

impl Client {
    pub fn new(name: Text, acts: usize) -> Self {
        Self {
            name,
            id: None,
            alive: true,
            futures: BTreeMap::new(),
            held_back: VecDeque::new(),
            open_graph: None,
            up_last: Now(0),
            down_last: Now(0),
            acts_left: acts,
        }
    }

    /// Futures lost by this message are returned; a real client would give them up too.
    pub fn hear(&mut self, message: &ToClient) -> Option<Cancelled> {
        let (key, belief) = match message {
            ToClient::KeyInMemory { key, .. } => (key, Belief::Finished),
            ToClient::TaskErred { key, .. } => (key, Belief::Erred),
            ToClient::LostData { key } | ToClient::TaskRetried { key } => (key, Belief::Pending),
            ToClient::CancelledKeys { keys, reason, .. } => {
                let lost: Vec<Key> = keys.iter().filter(|key| self.futures.remove(*key).is_some()).cloned().collect();
                return (!lost.is_empty()).then(|| Cancelled { keys: lost, reason: reason.clone() });
            }
            ToClient::Restart => {
                self.futures.clear();
                return None;
            }
        };
        if let Some(entry) = self.futures.get_mut(key) {
            *entry = belief;
        }
        None
    }

    pub fn settled(&self) -> bool {
        self.open_graph.is_none()
            && self.held_back.is_empty()
            && self.futures.values().all(|belief| *belief != Belief::Pending)
    }
}
