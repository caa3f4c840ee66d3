//! The owner of the joined machines at the head: one task, one state machine per machine, everything that is told to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::command::{HeadCommand, HeadContext, OpenLink};
use super::error::{HeadError, PEERS_MAX};
use super::lifecycle::{Lifecycle, LifecycleEffect, LifecycleEvent, LinkId};
use super::rate_limit::WrongTries;
use super::view::{PeerEvent, PeerView, Placed};
use crate::base::Now;
use crate::clock::{Clock, unix_ms};
use crate::peer::env_lock::EnvLock;
use crate::peer::wire::{MachineFacts, PoolState, PoolWant, ToHead, ToPeer};
use crate::store::PeerRecord;

/// Pause between two checks of deadlines.
const TICK: Duration = Duration::from_millis(250);

struct JoinedPeer {
    record: PeerRecord,
    lifecycle: Lifecycle,
    facts: MachineFacts,
    pools: Vec<PoolState>,
    skew_ms: i64,
    address: Option<IpAddr>,
    head_address: Option<IpAddr>,
    to: Option<mpsc::Sender<ToPeer>>,
    wants: BTreeMap<String, PoolWant>,
    /// Hashes of the locks that went over the present link.
    told: Vec<String>,
}

impl JoinedPeer {
    fn new(record: PeerRecord, lifecycle: Lifecycle) -> Self {
        Self {
            record,
            lifecycle,
            facts: MachineFacts::default(),
            pools: Vec::new(),
            skew_ms: 0,
            address: None,
            head_address: None,
            to: None,
            wants: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// A peer that does not keep up is cut off: it comes back and hears all anew.
    fn send(&mut self, message: ToPeer) {
        if self.to.as_ref().is_some_and(|to| to.try_send(message).is_err()) {
            self.to = None;
        }
    }

    fn view(&self, now: Now) -> PeerView {
        PeerView {
            name: self.record.name.clone(),
            id: self.record.id.clone(),
            state: self.lifecycle.word(),
            passing: self.record.passing,
            reserved: self.record.reserved.clone(),
            job: self.record.job.clone(),
            usable: self.lifecycle.is_usable(),
            keeps_workers: self.lifecycle.keeps_workers(),
            silent: self.lifecycle.is_silent(),
            address: self.address,
            head_address: self.head_address,
            silent_ms: self.lifecycle.last_heartbeat().map(|heartbeat| now.0.saturating_sub(heartbeat.0) / 1000),
            clock_skew_ms: self.skew_ms,
            joined_ms: self.record.joined_ms,
            facts: self.facts.clone(),
            pools: self.pools.clone(),
            placed: self.wants.values().map(placed).collect(),
        }
    }
}

fn placed(want: &PoolWant) -> Placed {
    let PoolWant { cluster, count, nthreads, memory_bytes, .. } = want;
    Placed { cluster: cluster.clone(), workers: *count, nthreads: *nthreads, memory_bytes: *memory_bytes }
}

pub(super) struct PeersOwner {
    clock: Clock,
    peers: BTreeMap<String, JoinedPeer>,
    wrong_tries: WrongTries,
    locks: BTreeMap<String, EnvLock>,
    calls: BTreeMap<u64, oneshot::Sender<Vec<String>>>,
    next_call: u64,
    released: bool,
    /// What happened and was not told yet: those who hear of it look at once, so it is shown first.
    news: Vec<PeerEvent>,
    shown: watch::Sender<Arc<Vec<PeerView>>>,
    events: broadcast::Sender<PeerEvent>,
    context: Arc<HeadContext>,
}

impl PeersOwner {
    pub(super) fn new(
        known: Vec<PeerRecord>,
        shown: watch::Sender<Arc<Vec<PeerView>>>,
        events: broadcast::Sender<PeerEvent>,
        context: Arc<HeadContext>,
    ) -> Self {
        let mut owner = Self {
            clock: Clock::start(),
            peers: BTreeMap::new(),
            wrong_tries: WrongTries::default(),
            locks: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            released: false,
            news: Vec::new(),
            shown,
            events,
            context,
        };
        for record in known {
            let lifecycle = Lifecycle::remembered(owner.clock.now(), record.drained, record.passing);
            owner.peers.insert(record.id.clone(), JoinedPeer::new(record, lifecycle));
        }
        owner.show();
        owner
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<HeadCommand>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut show = true;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => {
                        // Heartbeats come all the time, and most say nothing new: the next tick shows them.
                        show = !matches!(command, HeadCommand::Said { message: ToHead::Heartbeat { .. }, .. });
                        self.on_command(command);
                    }
                    None => return,
                },
                _ = tick.tick() => {
                    self.calls.retain(|_, reply| !reply.is_closed());
                    let ids: Vec<String> = self.peers.keys().cloned().collect();
                    ids.iter().for_each(|id| self.step(id, LifecycleEvent::Tick));
                }
            }
            if show || !self.news.is_empty() {
                self.show();
            }
            for event in self.news.drain(..) {
                // Nobody may listen.
                let _listeners = self.events.send(event);
            }
        }
    }

    /// Those who look see one state, as of the last thing that happened; load and free memory a moment later.
    fn show(&self) {
        let now = self.clock.now();
        let mut all: Vec<PeerView> = self.peers.values().map(|peer| peer.view(now)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        self.shown.send_replace(Arc::new(all));
    }

    fn on_command(&mut self, command: HeadCommand) {
        // An asker that went away is told nothing.
        match command {
            HeadCommand::Admit { from, reply } => drop(reply.send(self.wrong_tries.admit(from, self.clock.now()))),
            HeadCommand::Failed { from } => self.wrong_tries.failed(from, self.clock.now()),
            HeadCommand::Join { record, reply } => drop(reply.send(self.on_join(record))),
            HeadCommand::SecretHash { id, reply } => {
                let known = self.peers.get(&id);
                drop(reply.send(known.map(|peer| (peer.record.name.clone(), peer.record.secret_hash.clone()))));
            }
            HeadCommand::Linked { id, link, reply } => drop(reply.send(self.on_linked(&id, link))),
            HeadCommand::Said { id, link, message } => self.on_said(&id, link, message),
            HeadCommand::Unlinked { id, link } => self.step(&id, LifecycleEvent::Unlinked(link)),
            HeadCommand::Change { name, event, reply } => drop(reply.send(self.on_change(&name, event))),
            HeadCommand::Remove { name, reply } => drop(reply.send(self.on_remove(&name))),
            HeadCommand::Want { peer, cluster, want } => self.on_want(&peer, cluster, want),
            HeadCommand::Lock(lock) => drop(self.locks.insert(lock.hash(), lock)),
            HeadCommand::Release => {
                self.released = true;
                let ids: Vec<String> = self.peers.keys().cloned().collect();
                ids.iter().for_each(|id| self.tell(id));
            }
            HeadCommand::Logs { peer, cluster, tail, reply } => self.on_logs(&peer, cluster, tail, reply),
        }
    }

    fn id_of(&self, name: &str) -> Result<String, HeadError> {
        let found = self.peers.values().find(|peer| peer.record.name == name || peer.record.id == name);
        found.map(|peer| peer.record.id.clone()).ok_or_else(|| HeadError::Unknown(name.to_owned()))
    }

    fn on_join(&mut self, mut record: PeerRecord) -> Result<PeerRecord, HeadError> {
        if self.peers.len() >= PEERS_MAX {
            return Err(HeadError::Full);
        }
        let taken = |name: &str| self.peers.values().any(|peer| peer.record.name == name);
        let wanted = record.name.clone();
        let mut number = 2u32;
        while taken(&record.name) {
            record.name = format!("{wanted}-{number}");
            number = number.saturating_add(1);
        }
        let lifecycle = Lifecycle::joining(self.clock.now(), record.passing);
        self.peers.insert(record.id.clone(), JoinedPeer::new(record.clone(), lifecycle));
        Ok(record)
    }

    fn on_linked(&mut self, id: &str, open: OpenLink) -> Option<String> {
        let peer = self.peers.get_mut(id)?;
        let name = peer.record.name.clone();
        tracing::info!(peer = name, address = %open.address, "linked");
        // Before the step: it may say what is wanted over the new link.
        (peer.address, peer.head_address) = (Some(open.address), Some(open.head_address));
        peer.to = Some(open.to);
        peer.told.clear();
        peer.send(ToPeer::Welcome { name: name.clone(), now_ms: unix_ms() });
        self.step(id, LifecycleEvent::Linked(open.link));
        self.tell(id);
        Some(name)
    }

    fn on_said(&mut self, id: &str, link: LinkId, message: ToHead) {
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.lifecycle.link() == Some(link)) else { return };
        match message {
            ToHead::Heartbeat { facts, pools } => {
                peer.skew_ms = facts.now_ms.saturating_sub(unix_ms());
                // What it can take is known with its first heartbeat: whoever waits for room should not wait longer.
                let room = |facts: &MachineFacts| (facts.cores, facts.memory_bytes);
                let news = peer.pools != pools || room(&peer.facts) != room(&facts);
                (peer.facts, peer.pools) = (facts, pools);
                let empty = peer.pools.iter().all(|pool| pool.workers.is_empty());
                self.step(id, LifecycleEvent::Heartbeat(link));
                if empty {
                    self.step(id, LifecycleEvent::Empty);
                }
                if news {
                    self.happened(PeerEvent::Changed);
                }
            }
            ToHead::Sign { csr } => {
                let signed = self.context.authority.issue_peer(&csr, id, self.context.settings.certificate_secs);
                match signed {
                    Ok(cert) => peer.send(ToPeer::Certificate { cert }),
                    Err(error) => {
                        tracing::warn!(peer = peer.record.name, %error, "its request for a certificate is refused")
                    }
                }
            }
            ToHead::Lines { call, lines } => {
                if let Some(reply) = self.calls.remove(&call) {
                    drop(reply.send(lines));
                }
            }
            ToHead::Leave => self.step(id, LifecycleEvent::Leave),
        }
    }

    fn on_change(&mut self, name: &str, event: LifecycleEvent) -> Result<(), HeadError> {
        let id = self.id_of(name)?;
        self.step(&id, event);
        let kept = match event {
            LifecycleEvent::Drain => Some(true),
            LifecycleEvent::Resume => Some(false),
            LifecycleEvent::Linked(_)
            | LifecycleEvent::Heartbeat(_)
            | LifecycleEvent::Unlinked(_)
            | LifecycleEvent::Leave
            | LifecycleEvent::Empty
            | LifecycleEvent::Tick => None,
        };
        if let (Some(drained), Some(peer)) = (kept, self.peers.get_mut(&id)) {
            peer.record.drained = drained;
            self.context.keep(peer.record.clone());
        }
        Ok(())
    }

    fn on_remove(&mut self, name: &str) -> Result<(), HeadError> {
        let id = self.id_of(name)?;
        self.forget(&id, "it was removed by the head");
        Ok(())
    }

    fn on_want(&mut self, name: &str, cluster: String, want: Option<PoolWant>) {
        let Ok(id) = self.id_of(name) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let changed = match want {
            Some(want) => peer.wants.insert(cluster, want.clone()).as_ref() != Some(&want),
            None => peer.wants.remove(&cluster).is_some(),
        };
        if changed {
            self.tell(&id);
        }
    }

    fn on_logs(&mut self, name: &str, cluster: String, tail: usize, reply: oneshot::Sender<Vec<String>>) {
        let call = self.next_call;
        self.next_call = self.next_call.wrapping_add(1);
        // Dropping `reply` answers too: with nothing.
        let Ok(id) = self.id_of(name) else { return };
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.to.is_some()) else { return };
        peer.send(ToPeer::Logs { call, cluster, tail });
        self.calls.insert(call, reply);
    }

    /// All that is wanted of a machine, with the locks that it has not heard.
    fn tell(&mut self, id: &str) {
        let Some(peer) = self.peers.get_mut(id).filter(|_| self.released) else { return };
        let named: Vec<String> = peer.wants.values().filter_map(|want| want.lock.clone()).collect();
        for hash in named.into_iter().filter(|hash| !peer.told.contains(hash)).collect::<Vec<_>>() {
            let text = self.locks.get(&hash).and_then(|lock| serde_json::to_string(lock).ok());
            if let Some(text) = text {
                peer.send(ToPeer::Lock { text });
                peer.told.push(hash);
            }
        }
        let pools = peer.wants.values().cloned().collect();
        peer.send(ToPeer::Want { pools });
    }

    fn step(&mut self, id: &str, event: LifecycleEvent) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let before = peer.lifecycle.word();
        let effects = peer.lifecycle.step(event, self.clock.now());
        let (after, name) = (peer.lifecycle.word(), peer.record.name.clone());
        if before != after {
            tracing::info!(peer = name, "{before} -> {after}");
        }
        for effect in effects {
            match effect {
                // The newer one has taken its place already, unless the machine is gone.
                LifecycleEffect::CloseLink(_) => {
                    if let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.lifecycle.link().is_none()) {
                        peer.to = None;
                    }
                }
                LifecycleEffect::Place => self.happened(PeerEvent::Changed),
                LifecycleEffect::GiveUpWorkers => {
                    if let Some(peer) = self.peers.get_mut(id) {
                        peer.pools.clear();
                    }
                    self.happened(PeerEvent::Lost { peer: name.clone() });
                }
                LifecycleEffect::Retire => self.happened(PeerEvent::Retire { peer: name.clone() }),
                LifecycleEffect::Forget => self.forget(id, "it left"),
            }
        }
    }

    fn forget(&mut self, id: &str, why: &str) {
        let Some(mut peer) = self.peers.remove(id) else { return };
        tracing::info!(peer = peer.record.name, "{why}");
        peer.send(ToPeer::Goodbye { why: why.to_owned() });
        self.happened(PeerEvent::Lost { peer: peer.record.name });
        self.happened(PeerEvent::Changed);
        self.context.drop_record(id.to_owned());
    }

    fn happened(&mut self, event: PeerEvent) {
        self.news.push(event);
    }
}

impl HeadContext {
    /// Membership is in memory; what the store cannot keep now is lost at the next start only, and said.
    fn keep(self: &Arc<Self>, record: PeerRecord) {
        let context = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = context.store.upsert_peer(record).await {
                tracing::error!(%error, "a change of a joined machine could not be kept");
            }
        });
    }

    fn drop_record(self: &Arc<Self>, id: String) {
        let context = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = context.store.remove_peer(&id).await {
                tracing::error!(%error, id, "a removed machine could not be taken off the list of joined machines");
            }
        });
    }
}
