//! Takes a picture of the running scheduler, between two steps.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::Text;
use crate::cluster::ops::restart::DEFAULT_TARGET_SECS;
use crate::cluster::ops::workers::shown;
use crate::cluster::state::Driver;
use crate::cluster::views::snapshot::{
    ClientPicture, GroupPicture, Look, NodePicture, Picture, PrefixPicture, ShufflePicture, Stream, Totals,
    WorkerPicture,
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

/// What `look` asks for, now.
pub fn picture(driver: &Driver, look: &Look) -> Picture {
    let mut picture = Picture { totals: totals(driver), ..Picture::default() };
    if look.workers {
        picture.workers = workers(driver);
    }
    if look.prefixes {
        picture.prefixes = prefixes(driver);
    }
    if let Some(max) = look.groups {
        picture.groups = groups(driver, max);
    }
    if let Some(max) = look.graph {
        picture.graph = graph(driver, max);
    }
    if let Some((after, lanes)) = look.rects {
        picture.stream = Some(Stream { chunks: driver.rects.since(after), ..stream(driver, lanes) });
    }
    if let Some((topic, after)) = &look.events {
        picture.events = driver.topics.since(topic, *after);
    }
    if let Some(after) = look.stealing {
        picture.stealing = driver.topics.since(STEALING, after);
        picture.steal_totals = driver.sched.steal_totals().collect();
    }
    if let Some(after) = look.logs {
        picture.logs = driver.log_lines_since(after);
    }
    put_notes(driver, look, &mut picture);
    picture
}

fn put_notes(driver: &Driver, look: &Look, picture: &mut Picture) {
    let notes = &driver.notes;
    if look.bandwidth {
        picture.bandwidth_types = notes.types.iter().map(|(name, speed)| (name.clone(), *speed)).collect();
        picture.bandwidth_pairs = notes.pairs.iter().map(|(pair, speed)| (pair.clone(), *speed)).collect();
    }
    if look.fine {
        picture.fine = notes.fine.iter().map(|(name, sum)| (name.clone(), *sum)).collect();
    }
    if look.exceptions {
        picture.exceptions = notes.causes();
    }
    if look.shuffle {
        let shuffle =
            |(id, run_id, workers): (Text, i64, Vec<Text>)| ShufflePicture { id, run_id, workers: workers.len() };
        picture.shuffles = driver.sched.shuffles().into_iter().map(shuffle).collect();
        picture.shuffle_workers = notes.shuffles.iter().map(|(of, told)| (of.clone(), told.clone())).collect();
    }
    if look.coordination {
        picture.coordination = driver.sched.coordination(COORDINATION_MAX);
    }
    if look.computations {
        picture.computations = driver.computations.list(driver.sched.ended_totals());
    }
    if look.clients {
        picture.clients = clients(driver);
    }
}

fn totals(driver: &Driver) -> Totals {
    let sched = &driver.sched;
    let counts = sched.counts();
    let views = sched.workers();
    let hosts: BTreeSet<&str> = views.iter().map(|view| &**view.host).collect();
    let with = |status| views.iter().filter(|view| view.status == status).count();
    let (running, paused, fresh) = (with(WorkerStatus::Running), with(WorkerStatus::Paused), with(WorkerStatus::Init));
    let (done, erred) = sched.ended_totals();
    Totals {
        at_secs: driver.clock.wall(),
        started_secs: driver.clock.started_wall(),
        address: driver.identity.address.clone(),
        id: driver.identity.id.clone(),
        paused,
        retiring: views.len().saturating_sub(running).saturating_sub(paused).saturating_sub(fresh),
        hosts: hosts.len(),
        clients: driver.clients.len(),
        desired_workers: sched.adaptive_target(DEFAULT_TARGET_SECS),
        done,
        erred,
        long_running: sched.long_running_total(),
        occupancy_secs: sched.occupancy_total_secs(),
        bandwidth: sched.bandwidth(),
        open_graphs: driver.graphs.open_count(),
        inbox: driver.desk.waiting(),
        no_worker: counts.by_state.get(state_at("no-worker")).copied().unwrap_or(0),
        counts,
    }
}

fn workers(driver: &Driver) -> Vec<WorkerPicture> {
    let one = |view: crate::sched::WorkerView<'_>| {
        let facts = driver.workers.get(&view.id).map(|link| &link.facts);
        WorkerPicture {
            address: view.address.clone(),
            name: shown(view.name).into(),
            host: view.host.clone(),
            nanny: view.nanny.cloned(),
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
    driver.sched.workers().into_iter().map(one).collect()
}

fn prefixes(driver: &Driver) -> Vec<PrefixPicture> {
    let one = |view: crate::sched::PrefixView<'_>| PrefixPicture {
        name: view.name.clone(),
        states: view.states,
        totals: view.state_totals,
        duration_secs: view.duration_secs,
        nbytes: view.nbytes_memory,
        spent_secs: view.spent_secs,
        suspicious: view.suspicious,
    };
    driver.sched.prefixes().into_iter().map(one).collect()
}

fn groups(driver: &Driver, max: usize) -> Vec<GroupPicture> {
    let one = |view: crate::sched::GroupView<'_>| GroupPicture {
        name: view.name.clone(),
        prefix: (view.prefix.0, view.prefix.1.clone()),
        states: view.states,
        forgotten: view.forgotten,
        total: view.total,
        dependencies: view.dependencies.into_iter().cloned().collect(),
    };
    driver.sched.groups(max).into_iter().map(one).collect()
}

fn graph(driver: &Driver, max: usize) -> Option<Vec<NodePicture>> {
    let one = |view: crate::sched::NodeView<'_>| NodePicture {
        slot: view.slot,
        key: view.key.to_string(),
        prefix: view.prefix,
        state: view.state,
        dependencies: view.dependencies,
    };
    Some(driver.sched.graph_nodes(max)?.into_iter().map(one).collect())
}

/// Threads from an index on, names and bounds; no rectangles.
pub fn stream(driver: &Driver, lanes: usize) -> Stream {
    Stream {
        chunks: Vec::new(),
        first: driver.rects.first(),
        next: driver.rects.next(),
        lanes: driver.rects.lanes().get(lanes..).unwrap_or_default().to_vec(),
        prefixes: driver.sched.prefixes().into_iter().map(|view| view.name.clone()).collect(),
    }
}

fn clients(driver: &Driver) -> Vec<ClientPicture> {
    let one = |(id, name): (crate::base::ClientId, Text)| {
        let link = driver.clients.get(&id);
        ClientPicture {
            wants: driver.sched.wanted_count(id),
            last_seen_secs: link.map(|link| link.last_seen),
            versions: link.map(|link| link.versions.clone()).unwrap_or_default(),
            name,
        }
    };
    driver.sched.clients().into_iter().take(CLIENTS_MAX).map(one).collect()
}
