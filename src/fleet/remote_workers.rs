//! A cluster's workers on other machines: what is wanted where, told to the head's list of machines, which tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::placement::{Host, Room};
use super::step::{Connected, PoolWorker};
use super::types::ClusterSettings;
use crate::peer::{EnvLock, HeadHandle, PeerEvent, PeerView, Phase, Placed, PoolWant};
use crate::pki::Pair;

/// What lets clusters span machines.
#[derive(Clone)]
pub struct SpanConfig {
    pub head: HeadHandle,
    /// Our address, as they reach it: schedulers and workers of spanning clusters listen there, with TLS.
    pub host: IpAddr,
    /// The cluster of `rask up` spans too, and grows with every machine that joins.
    pub local: bool,
}

impl fmt::Debug for SpanConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanConfig({})", self.host)
    }
}

/// A want as it is kept in the cluster's record: all but the cluster's certificate and key, which have files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptWant(PoolWant);

/// What a pool on another machine needs to know of its cluster.
pub(super) struct PoolTerms<'a> {
    pub cluster: &'a str,
    pub scheduler: &'a str,
    pub pair: &'a Pair,
    pub settings: &'a ClusterSettings,
    pub lock: Option<&'a EnvLock>,
}

/// A cluster's share of the other machines.
pub(super) struct RemoteWorkers {
    head: HeadHandle,
    cluster: String,
    wants: BTreeMap<String, PoolWant>,
    /// Whether the scheduler was told that the machine is silent.
    told_silent: BTreeMap<String, bool>,
    events: broadcast::Receiver<PeerEvent>,
}

impl RemoteWorkers {
    pub(super) fn new(head: HeadHandle, cluster: &str) -> Self {
        Self {
            events: head.events(),
            head,
            cluster: cluster.to_owned(),
            wants: BTreeMap::new(),
            told_silent: BTreeMap::new(),
        }
    }

    /// What an appliance before this one wanted, so that machines that are at work find it unchanged.
    pub(super) async fn restore(&mut self, kept: &BTreeMap<String, KeptWant>, pair: &Pair, lock: Option<&EnvLock>) {
        if let Some(lock) = lock {
            self.head.offer_lock(lock.clone()).await;
        }
        for (peer, KeptWant(want)) in kept {
            let want = PoolWant { cert: pair.cert_pem.clone(), key: pair.key_pem.clone(), ..want.clone() };
            self.head.want(peer, &self.cluster, Some(want.clone())).await;
            self.wants.insert(peer.clone(), want);
        }
    }

    /// For the record.
    pub(super) fn kept(&self) -> BTreeMap<String, KeptWant> {
        let bare = |want: &PoolWant| KeptWant(PoolWant { cert: String::new(), key: String::new(), ..want.clone() });
        self.wants.iter().map(|(peer, want)| (peer.clone(), bare(want))).collect()
    }

    /// The next thing that happens to a machine.
    pub(super) async fn next(&mut self) -> PeerEvent {
        match self.events.recv().await {
            Ok(event) => event,
            // Some were missed: everything may have changed.
            Err(broadcast::error::RecvError::Lagged(_)) => PeerEvent::Changed,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// The machines, as the spread sees them.
    pub(super) fn hosts(&self, connected: &[Connected], settings: &ClusterSettings) -> Vec<Host> {
        let may = |peer: &&PeerView| match &peer.reserved {
            Some(cluster) => *cluster == self.cluster,
            None => settings.jobs.is_none(),
        };
        self.head.peers().iter().filter(may).map(|peer| self.host(peer, connected, settings)).collect()
    }

    /// Machines of which workers are wanted.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        self.wants.iter().filter(|(_, want)| want.count > 0).map(|(peer, _)| peer.clone()).collect()
    }

    fn host(&self, peer: &PeerView, connected: &[Connected], settings: &ClusterSettings) -> Host {
        let gone = matches!(peer.state, "gone" | "joining");
        let workers = if gone { Vec::new() } else { self.workers(peer, connected) };
        // Beside others: what this cluster wants there and is on its way must not look like somebody else's.
        let fits = self.room(peer).more(f64::from(settings.nthreads.max(1)), settings.worker_memory_bytes);
        Host {
            name: peer.name.clone(),
            usable: peer.usable && settings.may_be_on(&peer.name) && !self.fails(peer),
            counts: peer.keeps_workers,
            more: fits.saturating_sub(u32::try_from(workers.len()).unwrap_or(u32::MAX)),
            workers,
        }
    }

    /// It cannot run this cluster's workers; its note says why. It tries again by itself.
    fn fails(&self, peer: &PeerView) -> bool {
        peer.pools.iter().any(|pool| pool.cluster == self.cluster && pool.phase == Phase::Failed)
    }

    fn room(&self, peer: &PeerView) -> Room {
        let others = peer.placed.iter().filter(|placed| placed.cluster != self.cluster);
        let taken = |part: &dyn Fn(&Placed) -> u64| {
            others.clone().map(|placed| u64::from(placed.workers).saturating_mul(part(placed))).sum::<u64>()
        };
        Room {
            cores: f64::from(peer.facts.cores),
            cores_taken: taken(&|placed| u64::from(placed.nthreads)) as f64,
            memory_bytes: peer.facts.memory_bytes,
            memory_taken_bytes: taken(&|placed| placed.memory_bytes),
            memory_free_bytes: peer.facts.memory_free_bytes,
        }
    }

    /// As the machine reports, and as the scheduler knows: a machine that has not reported yet may be at work.
    fn workers(&self, peer: &PeerView, connected: &[Connected]) -> Vec<PoolWorker> {
        let pools = peer.pools.iter().filter(|pool| pool.cluster == self.cluster);
        let mut workers: Vec<PoolWorker> = pools
            .flat_map(|pool| &pool.workers)
            .map(|worker| PoolWorker {
                name: worker.name.clone(),
                stopping: worker.stopping,
                again: worker.restarts > 0,
            })
            .collect();
        for name in self.of_peer(&peer.name, connected) {
            if !workers.iter().any(|pooled| pooled.name == name) {
                workers.push(PoolWorker { name, ..PoolWorker::default() });
            }
        }
        workers
    }

    /// Ends of this cluster's workers on each machine: how many so far, and the last of them in words.
    pub(super) fn deaths(&self) -> Vec<(String, u64, Vec<String>)> {
        let peers = self.head.peers();
        let pools = peers.iter().flat_map(|peer| peer.pools.iter().map(move |pool| (peer, pool)));
        let ours = pools.filter(|(_, pool)| pool.cluster == self.cluster);
        ours.map(|(peer, pool)| (peer.name.clone(), pool.deaths, pool.recent_deaths.clone())).collect()
    }

    /// Machines with workers of this cluster, and the last lines of their logs.
    pub(super) async fn logs(head: &HeadHandle, cluster: &str, tail: usize) -> Vec<(String, Vec<String>)> {
        let peers = head.peers();
        let with = peers.iter().filter(|peer| peer.pools.iter().any(|pool| pool.cluster == cluster));
        let asked = with.map(|peer| async { (peer.name.clone(), head.logs(&peer.name, cluster, tail).await) });
        futures_util::future::join_all(asked).await
    }

    /// Names of workers on a machine.
    pub(super) fn of_peer(&self, peer: &str, connected: &[Connected]) -> Vec<String> {
        let prefix = format!("{}-", prefix(&self.cluster, peer));
        let number = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
        let ours = |worker: &&Connected| worker.name.strip_prefix(&prefix).is_some_and(number);
        connected.iter().filter(ours).map(|worker| worker.name.clone()).collect()
    }

    /// Machines that fell silent or were heard again since the scheduler was told last; of each, its workers.
    pub(super) fn silence(&self, connected: &[Connected]) -> Vec<(String, bool, Vec<String>)> {
        let peers = self.head.peers();
        let news =
            peers.iter().filter(|peer| peer.keeps_workers && self.told_silent.get(&peer.name) != Some(&peer.silent));
        let news = news.map(|peer| (peer.name.clone(), peer.silent, self.of_peer(&peer.name, connected)));
        news.filter(|(_, _, names)| !names.is_empty()).collect()
    }

    /// The scheduler knows.
    pub(super) fn silence_told(&mut self, peer: String, silent: bool) {
        self.told_silent.insert(peer, silent);
    }

    /// Wants at least this number of workers on a machine.
    pub(super) async fn grow(&mut self, peer: &str, workers: u32, terms: PoolTerms<'_>) {
        let Some(view) = self.head.peer(peer) else { return };
        if let Some(lock) = terms.lock {
            self.head.offer_lock(lock.clone()).await;
        }
        let revision = self.wants.get(peer).map_or(1, |want| want.revision.saturating_add(1));
        let told = self.wants.get(peer).filter(|want| want.count == workers);
        // What is missing is on its way, or the machine says why not.
        if told.is_some_and(|want| !self.carried_out(&view, want)) {
            return;
        }
        let want = PoolWant {
            cluster: self.cluster.clone(),
            scheduler: terms.scheduler.to_owned(),
            cert: terms.pair.cert_pem.clone(),
            key: terms.pair.key_pem.clone(),
            count: workers,
            revision,
            nthreads: terms.settings.nthreads.max(1),
            memory_bytes: terms.settings.worker_memory_bytes,
            nanny: terms.settings.nanny,
            engine: terms.settings.engine,
            name: prefix(terms.cluster, peer),
            env: terms.settings.env.clone(),
            lock: terms.lock.map(EnvLock::hash),
            host: view.address.map(|address| address.to_string()).unwrap_or_default(),
            stop: Vec::new(),
        };
        self.set(peer, Some(want)).await;
    }

    /// These end at once.
    pub(super) async fn stop(&mut self, peer: &str, names: Vec<String>) {
        if let Some(want) = self.wants.get(peer) {
            let mut want = want.clone();
            want.stop = names;
            self.set(peer, Some(want)).await;
        }
    }

    /// Wants follow what is: workers that left must not come back with the pool's next start, and machines that are
    /// gone are asked for nothing, so that they come back empty.
    pub(super) async fn follow(&mut self, hosts: &[Host]) {
        let peers = self.head.peers();
        for (peer, want) in self.wants.clone() {
            let view = peers.iter().find(|view| view.name == peer);
            match (view, hosts.iter().find(|host| host.name == peer)) {
                (Some(view), Some(host)) if view.state != "gone" => {
                    let staying = host.workers.iter().filter(|pooled| !pooled.stopping).count();
                    let staying = u32::try_from(staying).unwrap_or(u32::MAX);
                    if want.count > staying && (self.carried_out(view, &want) || !host.counts) {
                        self.set(&peer, Some(PoolWant { count: staying, ..want })).await;
                    }
                }
                (Some(_) | None, Some(_) | None) => self.set(&peer, None).await,
            }
        }
    }

    fn carried_out(&self, view: &PeerView, want: &PoolWant) -> bool {
        view.pools.iter().any(|pool| pool.cluster == self.cluster && pool.revision == Some(want.revision))
    }

    async fn set(&mut self, peer: &str, want: Option<PoolWant>) {
        match &want {
            Some(want) => drop(self.wants.insert(peer.to_owned(), want.clone())),
            None => drop(self.wants.remove(peer)),
        }
        self.head.want(peer, &self.cluster, want).await;
    }

    /// Nothing more is wanted anywhere.
    pub(super) async fn end(&mut self) {
        for peer in std::mem::take(&mut self.wants).into_keys() {
            self.head.want(&peer, &self.cluster, None).await;
        }
    }
}

fn prefix(cluster: &str, peer: &str) -> String {
    format!("{cluster}-{peer}")
}
