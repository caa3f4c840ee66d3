//! `rask replay-worker`: lists of events through a worker's state machine, for tests that compare it with Dask's and for recorded journals.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::app::command_error::CommandError;
use crate::base::Now;
use crate::worker_state::{MachineConfig, TaskPhase, WorkerEffect, WorkerEvent, WorkerMachine};

/// A line of input: a worker, and what happens to it.
#[derive(Deserialize)]
struct Journal {
    config: MachineConfig,
    /// Times in microseconds, and events.
    events: Vec<(u64, WorkerEvent)>,
}

/// What came of one event.
#[derive(Serialize)]
struct StepOutcome {
    effects: Vec<WorkerEffect>,
    phases: BTreeMap<String, TaskPhase>,
    held_bytes: u64,
    incoming_bytes: u64,
    incoming_count: u32,
    available: BTreeMap<String, f64>,
    deadline: Option<Now>,
}

/// Reads journals as lines of JSON from standard input and writes for each a line: the list of its outcomes, or the
/// rule that was broken as `{"panicked": text}`. The machine's invariants are checked after each event.
///
/// Errors: a line that is not a journal; standard output is closed.
pub fn replay_worker() -> Result<(), CommandError> {
    let failed = |why: std::io::Error| CommandError::world(format!("cannot replay: {why}"));
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(failed)?;
        let journal: Journal = serde_json::from_str(&line)
            .map_err(|why| CommandError::usage(format!("not a journal of a worker: {why}")))?;
        let answer = match catch_unwind(AssertUnwindSafe(|| run(journal))) {
            Ok(outcomes) => serde_json::to_value(outcomes),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Ok(serde_json::json!({ "panicked": text }))
            }
        };
        let answer = answer.map_err(|why| failed(why.into()))?;
        writeln!(output, "{answer}").and_then(|()| output.flush()).map_err(failed)?;
    }
    Ok(())
}

fn run(journal: Journal) -> Vec<StepOutcome> {
    let mut machine = WorkerMachine::new(journal.config);
    let steps = journal.events.into_iter().map(|(now, event)| {
        let mut effects = Vec::new();
        machine.step(Now(now), event, &mut effects);
        machine.check();
        let (incoming_bytes, incoming_count) = machine.incoming();
        StepOutcome {
            effects,
            phases: machine.phases().map(|(key, phase)| (key.to_string(), phase)).collect(),
            held_bytes: machine.held_bytes(),
            incoming_bytes,
            incoming_count,
            available: machine.available_resources().map(|(name, left)| (name.to_string(), left)).collect(),
            deadline: machine.next_deadline(),
        }
    });
    steps.collect()
}
