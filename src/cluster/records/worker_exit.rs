//! What workers were doing when they went without being told to. Whoever starts them asks, to say it with the cause.

use std::collections::VecDeque;

use serde_json::json;

use crate::base::{Key, WorkerId};
use crate::cluster::ops::workers::shown;
use crate::cluster::state::Driver;

/// Departures that are kept until somebody asks: all workers of a large machine at once.
const KEPT_MAX: usize = 256;
/// Tasks that are named of each.
const TASKS_MAX: usize = 3;
/// Longest part of a key that is shown: keys may be of any length. Unit: characters.
const KEY_MAX: usize = 200;

/// The departures that nobody asked about yet, newest first.
#[derive(Debug, Default)]
pub struct Departed(VecDeque<(String, Went)>);

#[derive(Debug)]
struct Went {
    running: Vec<String>,
    given: Vec<String>,
    last: Option<String>,
    peak_bytes: u64,
}

/// Notes it. To be called while the scheduler still knows the worker.
pub fn note(driver: &mut Driver, worker: WorkerId) {
    let Some(view) = driver.sched.worker(worker) else { return };
    let name = shown(view.name);
    let given = driver.sched.processing(worker);
    let facts = driver.workers.get(&worker).map(|link| &link.facts);
    let executing = facts.map(|facts| facts.executing.as_slice()).unwrap_or_default();
    // A heartbeat is half a second old or more: what it told may have ended since.
    let running = executing.iter().map(|(key, _)| key).filter(|key| given.contains(key));
    let went = Went {
        running: texts(running),
        given: texts(given.iter()),
        last: facts.and_then(|facts| facts.last_key.as_ref()).map(text),
        peak_bytes: facts.map_or(0, |facts| facts.peak_bytes),
    };
    let kept = &mut driver.departed.0;
    kept.retain(|(known, _)| *known != name);
    kept.truncate(KEPT_MAX - 1);
    kept.push_front((name, went));
}

/// The fields are those of the link's `LastWords`. Forgotten when told.
pub fn last_words(driver: &mut Driver, name: &str) -> serde_json::Value {
    let kept = &mut driver.departed.0;
    let at = kept.iter().position(|(known, _)| known == name);
    if let Some((_, went)) = at.and_then(|at| kept.remove(at)) {
        let Went { running, given, last, peak_bytes } = went;
        return json!({"gone": true, "running": running, "given": given, "last": last, "peak_bytes": peak_bytes});
    }
    json!({"present": driver.sched.workers().iter().any(|view| shown(view.name) == name)})
}

fn texts<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<String> {
    keys.take(TASKS_MAX).map(text).collect()
}

fn text(key: &Key) -> String {
    key.to_string().chars().take(KEY_MAX).collect()
}
