//! Graphs of many shapes, and what is true of each key: how long it runs, whether it fails, what it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use rask::base::{Annotations, GraphTask, Key, Opaque, Rng, Text};
use rask::sched::Actors;

/// Does a task fail?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    Never,
    /// One run in three.
    Sometimes,
    Always,
}

/// What is true of a key.
#[derive(Clone, Debug)]
pub struct Truth {
    pub dependencies: Vec<Key>,
    pub fails: Fails,
    pub run_us: u64,
    pub nbytes: i64,
    pub actor: bool,
    /// Put into the cluster as data: once lost, nothing brings it back.
    pub scattered: bool,
    /// Some client asked to cancel it.
    pub cancelled: bool,
    /// Leaves its worker's threads half-way.
    pub secedes: bool,
    /// One run in four asks to be placed anew.
    pub reschedules: bool,
}

pub type Truths = BTreeMap<Key, Truth>;

/// A graph as a client submits it.
#[derive(Clone, Debug)]
pub struct Graph {
    pub tasks: Vec<GraphTask>,
    pub wanted: Vec<Key>,
    pub actors: Actors,
    /// It can't be read.
    pub unreadable: bool,
}

/// Where restricted tasks may run, and with what.
pub struct Places {
    /// Addresses that always come back.
    pub addresses: Vec<Text>,
}

fn edges(shape: usize, at: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    match shape {
        // A chain.
        0 => at.checked_sub(1).into_iter().collect(),
        // A tree that narrows by two: leaves first.
        1 => {
            let leaves = count.div_ceil(2);
            if at < leaves { Vec::new() } else { vec![2 * (at - leaves), 2 * (at - leaves) + 1] }
        }
        // Layers of about a square root, each task with a few inputs from the layer before.
        2 => {
            let width = (count as f64).sqrt().ceil() as usize;
            let layer = at / width;
            if layer == 0 {
                Vec::new()
            } else {
                (0..1 + rng.below(3)).map(|_| (layer - 1) * width + rng.below(width)).collect()
            }
        }
        // Everything into one.
        3 => {
            if at + 1 == count {
                (0..at).collect()
            } else {
                Vec::new()
            }
        }
        // One into everything, and that into one.
        4 => match at {
            0 => Vec::new(),
            _ if at + 1 == count && count > 2 => (1..at).collect(),
            _ => vec![0],
        },
        // Many with nothing between them.
        5 => Vec::new(),
        // Anything before.
        _ => (0..rng.below(4)).filter(|_| at > 0).map(|_| rng.below(at)).collect(),
    }
    .into_iter()
    .filter(|input| *input < at)
    .collect()
}

/// Makes a graph and notes the truth about its keys. `outside`: keys that exist already and that it may use.
pub fn make(rng: &mut Rng, name: usize, outside: &[Key], places: &Places, truths: &mut Truths) -> Graph {
    let shape = rng.below(7);
    // Short enough that workers hand them to threads ahead; their prefixes say so.
    let quick = rng.below(3) == 0;
    let part = if quick { "quick" } else { "part" };
    let count = match rng.below(8) {
        0 => 1,
        4..8 if quick => 10 + rng.below(80),
        1 | 2 => 2 + rng.below(40),
        _ => 2 + rng.below(12),
    };
    let layers = 1 + rng.below(3);
    let keys: Vec<Key> = (0..count)
        .map(|at| {
            let layer = if shape == 3 || shape == 4 { usize::from(at + 1 == count) } else { at * layers / count };
            match rng.below(20) {
                0 => Key::text(&format!("odd{layer}-{name}-{at}")),
                _ => Key::tuple(&[Key::text(&format!("{part}{layer}-{name:08x}")), Key::int(at as i64)]),
            }
        })
        .collect();
    let risky = rng.below(4) == 0;
    let pinned = rng.below(4) == 0;
    let actors = rng.below(16) == 0;
    let mut tasks = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let mut dependencies: Vec<Key> =
            edges(shape, at, count, rng).into_iter().filter_map(|input| keys.get(input).cloned()).collect();
        if !outside.is_empty() && rng.below(6) == 0 {
            dependencies.push(outside[rng.below(outside.len())].clone());
        }
        dependencies.sort();
        dependencies.dedup();
        let fails = match (risky, rng.below(12)) {
            (true, 0) => Fails::Always,
            (true, 1) => Fails::Sometimes,
            _ => Fails::Never,
        };
        truths.insert(
            key.clone(),
            Truth {
                dependencies: dependencies.clone(),
                fails,
                // Now and then one is long although all others of its prefix were short.
                run_us: match quick && rng.below(400) > 0 {
                    true => [20, 200, 900][rng.below(3)] + rng.below(100) as u64,
                    false => [1_000, 30_000, 200_000, 1_500_000][rng.below(4)] + rng.below(50_000) as u64,
                },
                nbytes: [0, 1_000, 1_000_000, 200_000_000][rng.below(if quick { 2 } else { 4 })],
                actor: false,
                scattered: false,
                cancelled: false,
                secedes: rng.below(25) == 0,
                reschedules: rng.below(25) == 0,
            },
        );
        tasks.push(GraphTask {
            key: key.clone(),
            dependencies,
            run_spec: Some(Arc::new(Opaque::default())),
            order: Some(at as f64),
            data_producer: shape == 5 && rng.below(2) == 0,
            annotations: annotations(rng, pinned, risky, places),
            shuffle: None,
        });
    }
    let mut wanted: Vec<Key> = keys.last().cloned().into_iter().collect();
    wanted.extend(keys.iter().filter(|_| shape == 5 || rng.below(6) == 0).cloned());
    if !outside.is_empty() && rng.below(6) == 0 {
        wanted.push(outside[rng.below(outside.len())].clone());
    }
    wanted.sort();
    wanted.dedup();
    let tasks = needed(tasks, &wanted);
    let actors = if actors {
        let own: Vec<Key> = wanted.iter().filter(|key| keys.contains(key)).cloned().collect();
        for key in &own {
            if let Some(truth) = truths.get_mut(key) {
                truth.actor = true;
            }
        }
        Actors::Keys(own)
    } else {
        Actors::None
    };
    Graph { tasks, wanted, actors, unreadable: rng.below(30) == 0 }
}

/// What is left when tasks that nothing wanted needs are culled, as clients and readers do.
fn needed(tasks: Vec<GraphTask>, wanted: &[Key]) -> Vec<GraphTask> {
    let mut kept: std::collections::BTreeSet<Key> = wanted.iter().cloned().collect();
    for task in tasks.iter().rev() {
        if kept.contains(&task.key) {
            kept.extend(task.dependencies.iter().cloned());
        }
    }
    tasks.into_iter().filter(|task| kept.contains(&task.key)).collect()
}

fn annotations(rng: &mut Rng, pinned: bool, risky: bool, places: &Places) -> Option<Arc<Annotations>> {
    let mut notes = Annotations::default();
    if rng.below(5) == 0 {
        notes.priority = [-1.0, 2.0, 10.0][rng.below(3)];
    }
    if risky && rng.below(3) == 0 {
        notes.retries = 1 + rng.below(3) as u32;
    }
    if pinned && rng.below(2) == 0 {
        match rng.below(4) {
            0 => notes.resources.push(("GPU".into(), 1.0)),
            1 => {
                notes.workers.push("nowhere".into());
                notes.allow_other_workers = true;
            }
            _ => {
                let address = places.addresses[rng.below(places.addresses.len())].clone();
                notes.allow_other_workers = rng.below(3) == 0;
                // By address or by host.
                let host = address.trim_start_matches("tcp://").split(':').next().unwrap_or_default().into();
                notes.workers.push(if rng.below(2) == 0 { address } else { host });
            }
        }
    }
    (notes != Annotations::default()).then(|| Arc::new(notes))
}
