//! Takes a snapshot of the running scheduler, between two steps.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::Text;
use crate::cluster::codec::args::shown;
use crate::cluster::options::DEFAULT_TARGET_SECS;
use crate::cluster::state::State;
use crate::cluster::views::snapshot::{
    ClientSnapshot, GroupSnapshot, NodeSnapshot, PrefixSnapshot, ShuffleSnapshot, Snapshot, SnapshotParts,
    TimelineWindow, Totals, WorkerSnapshot,
};
use crate::sched::{STATE_NAMES, WorkerStatus};

/// Most coordination primitives that a page lists.
const COORDINATION_MAX: usize = 2_000;
/// Most clients that a page lists.
const CLIENTS_MAX: usize = 1_000;
/// Topic of the stealing events.
const STEALING: &str = "stealing";

/// Position of a state in the counts of [`STATE_NAMES`].
fn state_at(name: &str) -> usize {
    STATE_NAMES.iter().position(|state| *state == name).unwrap_or_default()
}

/// The parts that are asked for, as they are now.
pub fn take(state: &State, parts: &SnapshotParts) -> Snapshot {
    let mut snapshot = Snapshot { totals: totals(state), ..Snapshot::default() };
    if parts.workers {
        snapshot.workers = workers(state);
    }
    if parts.prefixes {
        snapshot.prefixes = prefixes(state);
    }
    if let Some(max) = parts.groups {
        snapshot.groups = groups(state, max);
    }
    if let Some(max) = parts.graph {
        snapshot.graph = graph(state, max);
    }
    if let Some((after, lanes)) = parts.rects {
        snapshot.stream = Some(TimelineWindow { chunks: state.records.timeline.since(after), ..stream(state, lanes) });
    }
    if let Some((topic, after)) = &parts.events {
        snapshot.events = state.records.topics.since(topic, *after);
    }
    if let Some(after) = parts.stealing {
        snapshot.stealing = state.records.topics.since(STEALING, after);
        snapshot.steal_totals = state.sched.steal_totals().collect();
    }
    if let Some(after) = parts.logs {
        snapshot.logs = state.records.log.since(after);
    }
    put_records(state, parts, &mut snapshot);
    snapshot
}

fn put_records(state: &State, parts: &SnapshotParts, snapshot: &mut Snapshot) {
    let metrics = &state.records.worker_metrics;
    if parts.bandwidth {
        snapshot.bandwidth_types = metrics.types.iter().map(|(name, speed)| (name.clone(), *speed)).collect();
        snapshot.bandwidth_pairs = metrics.pairs.iter().map(|(pair, speed)| (pair.clone(), *speed)).collect();
    }
    if parts.fine {
        snapshot.fine = metrics.fine.iter().map(|(name, sum)| (name.clone(), *sum)).collect();
    }
    if parts.exceptions {
        snapshot.exceptions = state.records.failures.causes();
    }
    if parts.shuffle {
        let shuffle =
            |(id, run_id, workers): (Text, i64, Vec<Text>)| ShuffleSnapshot { id, run_id, workers: workers.len() };
        snapshot.shuffles = state.sched.shuffles().into_iter().map(shuffle).collect();
        snapshot.shuffle_workers = metrics.shuffles.iter().map(|(of, told)| (of.clone(), told.clone())).collect();
    }
    if parts.coordination {
        snapshot.coordination = state.sched.coordination(COORDINATION_MAX);
    }
    if parts.computations {
        snapshot.computations = state.records.computations.list(state.sched.ended_totals());
    }
    if parts.clients {
        snapshot.clients = clients(state);
    }
}

fn totals(state: &State) -> Totals {
    let sched = &state.sched;
    let counts = sched.counts();
    let views = sched.workers();
    let hosts: BTreeSet<&str> = views.iter().map(|view| &**view.host).collect();
    let with = |status| views.iter().filter(|view| view.status == status).count();
    let (running, paused, fresh) = (with(WorkerStatus::Running), with(WorkerStatus::Paused), with(WorkerStatus::Init));
    let (done, erred) = sched.ended_totals();
    Totals {
        at_secs: state.clock.wall(),
        started_secs: state.clock.started_wall(),
        address: state.setup.identity.address.clone(),
        id: state.setup.identity.id.clone(),
        paused,
        retiring: views.len().saturating_sub(running).saturating_sub(paused).saturating_sub(fresh),
        hosts: hosts.len(),
        clients: state.peers.clients.len(),
        desired_workers: sched.adaptive_target(DEFAULT_TARGET_SECS),
        done,
        erred,
        long_running: sched.long_running_total(),
        occupancy_secs: sched.occupancy_total_secs(),
        bandwidth: sched.bandwidth(),
        open_graphs: state.graphs.open_count(),
        inbox: state.handle.waiting(),
        no_worker: counts.by_state.get(state_at("no-worker")).copied().unwrap_or(0),
        counts,
    }
}

fn workers(state: &State) -> Vec<WorkerSnapshot> {
    let one = |view: crate::sched::WorkerView<'_>| {
        let facts = state.peers.workers.get(&view.id).map(|link| &link.facts);
        WorkerSnapshot {
            address: view.address.clone(),
            name: shown(view.name).into(),
            host: view.host.clone(),
            nanny: view.nanny.cloned(),
            engine: view.engine.name(),
            nthreads: view.nthreads,
            memory_limit: view.memory_limit,
            status: view.status.name(),
            resources: view.resources.to_vec(),
            nbytes: view.nbytes,
            nkeys: view.nkeys,
            processing: view.processing,
            long_running: view.long_running,
            occupancy_secs: view.occupancy,
            memory: view.memory,
            metrics: facts.map_or_else(Arc::default, |facts| facts.metrics.clone()),
            services: facts.map_or_else(Default::default, |facts| facts.services.clone()),
            local_directory: facts.map_or_else(Default::default, |facts| facts.local_directory.clone()),
            last_seen_secs: facts.map_or(0.0, |facts| facts.last_seen),
        }
    };
    state.sched.workers().into_iter().map(one).collect()
}

fn prefixes(state: &State) -> Vec<PrefixSnapshot> {
    let one = |view: crate::sched::PrefixView<'_>| PrefixSnapshot {
        name: view.name.clone(),
        states: view.states,
        totals: view.state_totals,
        duration_secs: view.duration_secs,
        nbytes: view.nbytes_memory,
        spent_secs: view.spent_secs,
        suspicious: view.suspicious,
    };
    state.sched.prefixes().into_iter().map(one).collect()
}

fn groups(state: &State, max: usize) -> Vec<GroupSnapshot> {
    let one = |view: crate::sched::GroupView<'_>| GroupSnapshot {
        name: view.name.clone(),
        prefix: (view.prefix.0, view.prefix.1.clone()),
        states: view.states,
        forgotten: view.forgotten,
        total: view.total,
        dependencies: view.dependencies.into_iter().cloned().collect(),
    };
    state.sched.groups(max).into_iter().map(one).collect()
}

fn graph(state: &State, max: usize) -> Option<Vec<NodeSnapshot>> {
    let one = |view: crate::sched::NodeView<'_>| NodeSnapshot {
        slot: view.slot,
        key: view.key.to_string(),
        prefix: view.prefix,
        state: view.state,
        dependencies: view.dependencies,
    };
    Some(state.sched.graph_nodes(max)?.into_iter().map(one).collect())
}

/// Threads from an index on, names and bounds; no rectangles.
pub fn stream(state: &State, lanes: usize) -> TimelineWindow {
    TimelineWindow {
        chunks: Vec::new(),
        first: state.records.timeline.first(),
        next: state.records.timeline.next(),
        lanes: state.records.timeline.lanes().get(lanes..).unwrap_or_default().to_vec(),
        prefixes: state.sched.prefixes().into_iter().map(|view| view.name.clone()).collect(),
    }
}

fn clients(state: &State) -> Vec<ClientSnapshot> {
    let one = |(id, name): (crate::base::ClientId, Text)| {
        let link = state.peers.clients.get(&id);
        ClientSnapshot {
            wants: state.sched.wanted_count(id),
            last_seen_secs: link.map(|link| link.last_seen),
            versions: link.map(|link| link.versions.clone()).unwrap_or_default(),
            name,
        }
    };
    state.sched.clients().into_iter().take(CLIENTS_MAX).map(one).collect()
}
