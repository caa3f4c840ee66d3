//! Whole clusters in virtual time, under faults, by seed.
//!
//! `RASK_SIM_SEEDS=N` runs N seeds, `RASK_SIM_FIRST=K` begins with seed K (to repeat one: `K` and `1`),
//! `RASK_SIM_GREP=text` shows the last events that contain the text, `RASK_SIM_ALL=1` goes on after a failure.

mod client;
mod graphs;
mod worker;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use world::{Report, World};

/// Events shown with a failure.
const TRACE_LENGTH: usize = 100;

/// Seeds that once failed outside the range that every run takes.
const FOUND_SEEDS: [u64; 8] = [4539, 4660, 5648, 6424, 22_569, 24_193, 25_880, 50_976];

/// Why a seed failed, from a broken rule or a panic of the scheduler.
fn run(seed: u64, trace: Option<&mut VecDeque<String>>) -> Result<Report, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| World::new(seed, trace).run()));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_else(|| "without words".to_owned())))
    })
}

/// Runs a seed again, for its last events.
fn explain(seed: u64, broken: &str) -> String {
    let mut trace = VecDeque::new();
    let again = run(seed, Some(&mut trace));
    let lines: Vec<String> = trace.into_iter().collect();
    // The second run checks after each step: it may find what is broken earlier, and in other words.
    let note = match &again {
        Ok(_) => " (the second run went another way: the same seed must give the same run)".to_owned(),
        Err(text) if text == broken => String::new(),
        Err(text) => format!("; checked after each step: {text}"),
    };
    format!("seed {seed}: {broken}{note}\nlast events:\n{}", lines.join("\n"))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Goal: no seed breaks a rule, leaves wanted work undone or leaks a key; the same seed gives the same effects.
/// Method: see [`World::run`]. Every eighth seed runs twice. Unoptimised builds take a tenth of the seeds.
#[test]
fn every_cluster_survives_its_faults_and_finishes_what_is_wanted() {
    let count = number("RASK_SIM_SEEDS", if cfg!(debug_assertions) { 200 } else { 2000 });
    let first = number("RASK_SIM_FIRST", 0);
    let asked_for = std::env::var_os("RASK_SIM_FIRST").is_some();
    let found: &[u64] = if asked_for { &[] } else { &FOUND_SEEDS };
    let seeds: Vec<u64> = found.iter().copied().chain(first..first + count).collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let broken: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let total = Mutex::new(Report::default());
    let keep_going = std::env::var_os("RASK_SIM_ALL").is_some();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while keep_going || !failed.load(Ordering::Relaxed) {
                    let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    let mut outcome = run(seed, None);
                    if let Ok(report) = &outcome
                        && seed.is_multiple_of(8)
                    {
                        let again = run(seed, None);
                        if again.as_ref().map(|again| again.digest) != Ok(report.digest) {
                            outcome = Err("two runs of the same seed gave different effects".to_owned());
                        }
                    }
                    match outcome {
                        Ok(report) => total.lock().expect("no panics here").add(&report),
                        Err(text) => {
                            failed.store(true, Ordering::Relaxed);
                            broken.lock().expect("no panics here").push((seed, text));
                        }
                    }
                }
            });
        }
    });
    println!("{:?}", total.into_inner().expect("no panics here"));
    let mut broken = broken.into_inner().expect("no panics here");
    broken.sort();
    for (seed, text) in broken.iter().skip(1) {
        println!("seed {seed}: {}", text.lines().next().unwrap_or_default());
    }
    if let Some((seed, text)) = broken.first() {
        panic!("{} seeds failed. {}", broken.len(), explain(*seed, text));
    }
}
