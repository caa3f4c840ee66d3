//! What is fetched from whom: who holds what, limits of incoming transfers, busy and lost peers, missing values.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::effect::{WorkerEffect, WorkerMessage};
use super::event::Input;
use super::machine::WorkerMachine;
use super::peer::Transfer;
use super::phase::TaskPhase;
use super::rank::TaskPriority;
use super::task::{Goal, HeldBy, PeerRef, TaskRef, ValueSource, Was, WorkerTaskState};
use crate::base::{Key, SeededMap, Text};

/// A peer that could be asked now. Smaller is better: the best task it has, then this machine, then the number of tasks
/// it has, then chance, then its address.
type Candidate = (TaskPriority, bool, Reverse<usize>, u64, Text, PeerRef);

impl WorkerMachine {
    /// Where a value is, as the scheduler says. As `_update_who_has`.
    pub(super) fn update_holders(&mut self, id: TaskRef, addresses: &[Text]) {
        let others = addresses.iter().filter(|address| **address != self.config.address);
        let mut told: Vec<PeerRef> = others.map(|address| self.peers.ensure(address)).collect();
        told.sort_unstable();
        told.dedup();
        let known: Vec<PeerRef> = self.tasks[id].holders.iter().map(|holder| holder.peer).collect();
        for peer in known.iter().filter(|peer| told.binary_search(peer).is_err()) {
            self.remove_holder(id, *peer);
        }
        for peer in told.into_iter().filter(|peer| !known.contains(peer)) {
            self.add_holder(id, peer);
        }
        if self.phase(id) == TaskPhase::Fetch && self.tasks[id].holders.is_empty() {
            self.want(id, Goal::Missing);
        }
    }

    fn add_holder(&mut self, id: TaskRef, peer: PeerRef) {
        let turn = self.peers.next_turn();
        self.tasks[id].holders.push(HeldBy { peer, turn });
        self.peers.get_mut(peer).has.insert(id);
        if let WorkerTaskState::Fetch { rank } = self.tasks[id].state {
            self.peers.add_needed(peer, (rank, turn), id);
        }
    }

    pub(super) fn remove_holder(&mut self, id: TaskRef, peer: PeerRef) {
        let task = &mut self.tasks[id];
        let Some(at) = task.holders.iter().position(|holder| holder.peer == peer) else { return };
        let holder = task.holders.remove(at);
        if let WorkerTaskState::Fetch { rank } = task.state {
            self.peers.remove_needed(peer, (rank, holder.turn));
        }
        self.peers.get_mut(peer).has.remove(&id);
        self.peers.settle(peer);
    }

    /// As `_transition_generic_fetch`.
    pub(super) fn enter_fetch(&mut self, id: TaskRef) {
        if self.tasks[id].holders.is_empty() {
            return self.want(id, Goal::Missing);
        }
        let rank = self.rank_of(id);
        self.tasks[id].done = false;
        self.set_state(id, WorkerTaskState::Fetch { rank });
        for at in 0..self.tasks[id].holders.len() {
            let turn = self.peers.next_turn();
            let holder = &mut self.tasks[id].holders[at];
            holder.turn = turn;
            let peer = holder.peer;
            self.peers.add_needed(peer, (rank, turn), id);
        }
    }

    // ---- asking ------------------------------------------------------------------------------------------------

    /// As `_should_throttle_incoming_transfers`.
    const fn throttled(&self) -> bool {
        let full = self.incoming_count >= self.config.incoming_count_max;
        full && self.incoming_bytes >= self.config.throttle_from_bytes
            || self.incoming_bytes >= self.config.incoming_bytes_max
    }

    /// Asks idle peers for what they hold, as far as the limits allow. As `_ensure_communicating`.
    pub(super) fn ensure_communicating(&mut self, out: &mut Vec<WorkerEffect>) {
        if !self.running || self.peers.wanted.is_empty() || self.throttled() {
            return;
        }
        let mut candidates = self.candidates();
        while let Some((_, remote, Reverse(count), chance, address, peer)) = candidates.pop_first() {
            let Some((&(rank, _), _)) = self.peers.get(peer).needed.first_key_value() else { continue };
            // What it shared with peers that came before it was asked of them.
            let left = self.peers.get(peer).needed.len();
            if left != count {
                candidates.insert((rank, remote, Reverse(left), chance, address, peer));
                continue;
            }
            let (tasks, size_bytes) = self.select_keys(peer);
            if tasks.is_empty() {
                return;
            }
            self.start_transfer(peer, tasks, size_bytes, out);
            if self.throttled() {
                return;
            }
        }
    }

    /// As `_select_workers_for_gather`.
    fn candidates(&mut self) -> BTreeSet<Candidate> {
        let mut candidates = BTreeSet::new();
        for id in &self.peers.wanted {
            let peer = self.peers.get(*id);
            if peer.transfer.is_some() || peer.busy_until.is_some() {
                continue;
            }
            let Some((&(rank, _), _)) = peer.needed.first_key_value() else { continue };
            let chance = self.rng.as_mut().map_or(0, crate::base::Rng::next_u64);
            candidates.insert((rank, !peer.local, Reverse(peer.needed.len()), chance, peer.address.clone(), *id));
        }
        candidates
    }

    /// As `_select_keys_for_gather`.
    fn select_keys(&mut self, peer: PeerRef) -> (Vec<TaskRef>, u64) {
        let mut tasks = Vec::new();
        let mut message_bytes = 0;
        while let Some((_, &id)) = self.peers.get(peer).needed.first_key_value() {
            let size_bytes = self.size_of(id);
            if self.exceeds_limits(size_bytes, message_bytes) {
                break;
            }
            let WorkerTaskState::Fetch { rank } = self.tasks[id].state else { break };
            for holder in &self.tasks[id].holders {
                self.peers.remove_needed(holder.peer, (rank, holder.turn));
            }
            tasks.push(id);
            message_bytes += size_bytes;
        }
        (tasks, message_bytes)
    }

    /// Whether a value is too much beside what is under way and what the message asks for already. One value may always
    /// be under way, and the first of a message may be larger than a message should be. As
    /// `_task_exceeds_transfer_limits`.
    fn exceeds_limits(&self, size_bytes: u64, message_bytes: u64) -> bool {
        if self.incoming_bytes == 0 && message_bytes == 0 {
            return false;
        }
        let mut room = self.config.incoming_bytes_max.saturating_sub(self.incoming_bytes);
        if message_bytes != 0 {
            room = room.min(self.config.message_bytes_max);
        }
        room.checked_sub(message_bytes).is_none_or(|room| size_bytes > room)
    }

    fn start_transfer(&mut self, peer: PeerRef, mut tasks: Vec<TaskRef>, size_bytes: u64, out: &mut Vec<WorkerEffect>) {
        let keys = tasks.iter().map(|id| self.tasks[*id].key.clone()).collect();
        out.push(WorkerEffect::Fetch { peer: self.peers.get(peer).address.clone(), keys, size_bytes });
        for id in &tasks {
            self.want(*id, Goal::Flight { from: peer });
        }
        tasks.sort_unstable();
        self.peers.get_mut(peer).transfer = Some(Transfer { tasks, size_bytes });
        self.incoming_bytes += size_bytes;
        self.incoming_count += 1;
    }

    // ---- ends of transfers ---------------------------------------------------------------------------------------

    /// The tasks that a transfer was for and that still wait for it. As `_gather_dep_done_common`.
    fn end_transfer(&mut self, address: &Text) -> Option<(PeerRef, Vec<TaskRef>)> {
        let peer = self.peers.find(address)?;
        let mut transfer = self.peers.get_mut(peer).transfer.take()?;
        self.incoming_bytes -= transfer.size_bytes;
        self.incoming_count -= 1;
        let waits = |id: &TaskRef| {
            let under_way = self.tasks.get(*id).and_then(|task| task.state.under_way());
            under_way == Some(Was::Flight { from: peer })
        };
        transfer.tasks.retain(waits);
        for id in &transfer.tasks {
            self.tasks[*id].done = true;
        }
        Some((peer, transfer.tasks))
    }

    /// As `_handle_gather_dep_success`.
    pub(super) fn on_fetched(&mut self, address: &Text, values: &[(Key, u64)]) {
        let Some((peer, tasks)) = self.end_transfer(address) else { return };
        let sizes = values.iter().filter_map(|(key, size_bytes)| Some((self.tasks.find(key)?, *size_bytes)));
        let sizes: SeededMap<TaskRef, u64> = sizes.collect();
        for id in tasks {
            match sizes.get(&id) {
                Some(&size_bytes) => {
                    let source = ValueSource::Work { run: self.tasks[id].run };
                    self.want(id, Goal::Memory { source, size_bytes });
                }
                None => {
                    self.remove_holder(id, peer);
                    self.want(id, Goal::Fetch);
                }
            }
        }
        self.peers.settle(peer);
    }

    /// As `_handle_gather_dep_busy`.
    pub(super) fn on_fetch_busy(&mut self, address: &Text, out: &mut Vec<WorkerEffect>) {
        let Some((peer, tasks)) = self.end_transfer(address) else { return };
        let until = self.now.plus_us(self.config.busy_retry_us);
        self.peers.get_mut(peer).busy_until = Some(until);
        self.peers.busy.insert((until, peer));
        let mut keys = Vec::new();
        for id in tasks {
            self.want(id, Goal::Fetch);
            let mut holders = self.tasks[id].holders.iter();
            if holders.all(|holder| self.peers.get(holder.peer).busy_until.is_some()) {
                keys.push(self.tasks[id].key.clone());
            }
        }
        if !keys.is_empty() {
            Self::send(WorkerMessage::RefreshWhoHas { keys }, out);
        }
    }

    /// A connection that breaks is taken for a lost peer: that is the faster way to another copy.
    /// As `_handle_gather_dep_network_failure`.
    pub(super) fn on_fetch_broken(&mut self, address: &Text) {
        let Some((peer, tasks)) = self.end_transfer(address) else { return };
        for id in tasks {
            self.want(id, Goal::Fetch);
        }
        self.lose_peer(peer);
        self.peers.settle(peer);
    }

    /// As `_handle_gather_dep_failure`.
    pub(super) fn on_fetch_failed(&mut self, address: &Text) {
        let Some((peer, tasks)) = self.end_transfer(address) else { return };
        for id in tasks {
            let run = self.tasks[id].run;
            self.want(id, Goal::Error { run });
        }
        self.peers.settle(peer);
    }

    /// As `_handle_remove_worker`.
    pub(super) fn on_remove_worker(&mut self, address: &Text) {
        let Some(peer) = self.peers.find(address) else { return };
        self.peers.get_mut(peer).removed = true;
        self.lose_peer(peer);
        self.peers.settle(peer);
    }

    /// Forgets what a peer held.
    fn lose_peer(&mut self, peer: PeerRef) {
        let entry = self.peers.get(peer);
        let mut needed: Vec<TaskRef> = entry.needed.values().copied().collect();
        let has: Vec<TaskRef> = entry.has.iter().copied().collect();
        needed.sort_unstable();
        needed.retain(|id| self.tasks[*id].holders.len() == 1);
        for id in needed {
            self.want(id, Goal::Missing);
        }
        for id in has {
            self.remove_holder(id, peer);
        }
    }

    // ---- time ----------------------------------------------------------------------------------------------------

    /// Busy peers may be asked again; the scheduler is asked for what is missing.
    /// As `_handle_retry_busy_worker`, `_handle_find_missing`.
    pub(super) fn on_time(&mut self, out: &mut Vec<WorkerEffect>) {
        while let Some(&(until, peer)) = self.peers.busy.first().filter(|(until, _)| *until <= self.now) {
            self.peers.busy.remove(&(until, peer));
            self.peers.get_mut(peer).busy_until = None;
            self.peers.settle(peer);
        }
        if self.ask_missing_at.is_some_and(|at| at <= self.now) && !self.missing.is_empty() {
            self.ask_missing_at = Some(self.now.plus_us(self.config.missing_every_us));
            let keys = self.missing.iter().map(|id| self.tasks[*id].key.clone()).collect();
            Self::send(WorkerMessage::RefreshWhoHas { keys }, out);
        }
    }

    /// Keeps the time of the next question in step with whether anything is missing.
    pub(super) fn watch_missing(&mut self) {
        if self.missing.is_empty() {
            self.ask_missing_at = None;
        } else if self.ask_missing_at.is_none() {
            self.ask_missing_at = Some(self.now.plus_us(self.config.missing_every_us));
        }
    }

    // ---- messages of the scheduler -------------------------------------------------------------------------------

    /// As `_handle_acquire_replicas`.
    pub(super) fn on_acquire_replicas(&mut self, inputs: &[Input]) {
        for input in inputs {
            let id = self.tasks.ensure(&input.key);
            let task = &mut self.tasks[id];
            task.rank.get_or_insert(TaskPriority::REPLICA);
            if task.state.phase() != TaskPhase::Memory {
                task.size_bytes = Some(input.size_bytes);
                self.want(id, Goal::Fetch);
            }
        }
        for input in inputs {
            if let Some(id) = self.tasks.find(&input.key) {
                self.update_holders(id, &input.holders);
            }
        }
    }

    /// As `_handle_refresh_who_has`.
    pub(super) fn on_refresh_who_has(&mut self, holders: &[(Key, Vec<Text>)]) {
        for (key, addresses) in holders {
            let Some(id) = self.tasks.find(key) else { continue };
            self.update_holders(id, addresses);
            if self.phase(id) == TaskPhase::Missing && !self.tasks[id].holders.is_empty() {
                self.want(id, Goal::Fetch);
            }
        }
    }
}
