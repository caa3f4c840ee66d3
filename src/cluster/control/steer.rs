//! What a supervisor asks of a scheduler, and has done by it: its state in short, fewer workers, a word to clients.

use serde_json::json;
use tracing::info;

use crate::base::{Value, WorkerId};
use crate::cluster::ops::restart::{DEFAULT_TARGET_SECS, idle_since};
use crate::cluster::ops::retire;
use crate::cluster::ops::workers::shown;
use crate::cluster::options::{Answered, Steer};
use crate::cluster::records::worker_exit;
use crate::cluster::state::Driver;
use crate::sched::{CloseWish, Event, WorkerStatus};

/// Does it, and answers with JSON.
pub fn answer(driver: &mut Driver, what: &Steer) -> Answered {
    match what {
        Steer::State => state(driver).to_string(),
        Steer::Retire { keep } => json!(retire_down_to(driver, *keep as usize)).to_string(),
        Steer::RetireThese { names } => json!(retire_these(driver, names)).to_string(),
        Steer::Lose { names } => json!(lose(driver, names)).to_string(),
        Steer::LastWords { name } => worker_exit::last_words(driver, name).to_string(),
        Steer::Silent { names, silent } => json!(silent_or_heard(driver, names, *silent)).to_string(),
        Steer::Warn { text } => {
            info!("telling clients: {text}");
            driver.log_event(&["warn".into()], &Value::Str(text.as_str().into()));
            "null".to_owned()
        }
    }
}

/// The fields are those of the link's `SchedulerState`.
fn state(driver: &Driver) -> serde_json::Value {
    let counts = driver.sched.counts();
    let workers = driver.sched.workers();
    let workers: Vec<serde_json::Value> = workers
        .iter()
        .map(|view| {
            let retiring = is_leaving(driver, view.id, view.status);
            json!({ "name": shown(view.name), "address": &**view.address, "retiring": retiring })
        })
        .collect();
    json!({
        "address": &*driver.identity.address,
        "listening": driver.identity.listening.iter().map(|address| &**address).collect::<Vec<_>>(),
        "clients": driver.clients.len(),
        "busy": idle_since(driver).is_none(),
        "transitions": counts.transitions,
        "adaptive_target": driver.sched.adaptive_target(DEFAULT_TARGET_SECS),
        "workers": workers,
    })
}

fn is_leaving(driver: &Driver, worker: WorkerId, status: WorkerStatus) -> bool {
    driver.retiring.contains_key(&worker) || status == WorkerStatus::ClosingGracefully
}

fn known(driver: &Driver, names: &[String]) -> Vec<(WorkerId, String)> {
    let all = driver.sched.workers();
    let all = all.iter().map(|view| (view.id, shown(view.name), view.status));
    let fits = |(id, name, status): (WorkerId, String, WorkerStatus)| {
        (names.contains(&name) && !is_leaving(driver, id, status)).then_some((id, name))
    };
    all.filter_map(fits).collect()
}

fn retire_these(driver: &mut Driver, names: &[String]) -> Vec<String> {
    let (ids, names): (Vec<WorkerId>, Vec<String>) = known(driver, names).into_iter().unzip();
    if !ids.is_empty() {
        retire::and_close(driver, ids);
    }
    names
}

/// Their machine is gone without a word, so their connections may look open for minutes. It is not the fault of what
/// they were running.
fn lose(driver: &mut Driver, names: &[String]) -> Vec<String> {
    let (lost, names) = named(driver, names);
    for id in lost {
        driver.remove_worker(id, true, true, "its machine is gone");
    }
    names
}

fn silent_or_heard(driver: &mut Driver, names: &[String], silent: bool) -> Vec<String> {
    let (workers, names) = named(driver, names);
    for worker in workers {
        driver.apply(Event::WorkerSilent { worker, silent });
    }
    names
}

fn named(driver: &Driver, names: &[String]) -> (Vec<WorkerId>, Vec<String>) {
    let all = driver.sched.workers();
    all.iter().map(|view| (view.id, shown(view.name))).filter(|(_, name)| names.contains(name)).unzip()
}

/// Starts to retire what is more than `keep` workers. Names of those that were chosen now.
fn retire_down_to(driver: &mut Driver, keep: usize) -> Vec<String> {
    let (mut staying, mut leaving) = (0_usize, 0_usize);
    for view in driver.sched.workers() {
        if is_leaving(driver, view.id, view.status) { leaving += 1 } else { staying += 1 }
    }
    let surplus = staying.saturating_sub(keep);
    if surplus == 0 {
        return Vec::new();
    }
    // The rule knows nothing of those that leave already: it may name them again.
    let wish = CloseWish { n: Some(surplus + leaving), ..CloseWish::default() };
    let mut chosen = driver.sched.workers_to_close(&wish);
    chosen.retain(|id| driver.sched.worker(*id).is_some_and(|view| !is_leaving(driver, *id, view.status)));
    chosen.truncate(surplus);
    let names =
        chosen.iter().filter_map(|id| driver.sched.worker(*id)).map(|view| shown(view.name)).collect::<Vec<_>>();
    retire::and_close(driver, chosen);
    names
}
