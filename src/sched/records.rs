//! What policies remember between steps: graphs being read, steals under way, the memory manager, shuffles, the story.
//!
//! Data only. What is done with it is in the file that each is for.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::ShuffleRun;
use super::event::GraphOpen;
use super::task::StateName;
use super::worker::STEAL_LEVELS;
use crate::base::{ClientId, Key, Now, RunId, SeededMap, TaskId, Text, WorkerId};

/// A worker that has not asked for this long has found its input: some holders take half a minute to be given up.
///
/// Unit: microseconds.
const ASKING_ENDS_US: u64 = 60_000_000;

/// A graph that is being read.
#[derive(Debug)]
pub(super) struct OpenGraph {
    pub(super) open: GraphOpen,
    /// When it was submitted: decides its generation.
    pub(super) at: Now,
    pub(super) generation: Option<f64>,
    /// Wants what later parts need.
    pub(super) holder: Option<ClientId>,
    /// How many came so far.
    pub(super) tasks: usize,
    /// A key of it is taken by another computation, and that was said.
    pub(super) collided: bool,
}

/// What stealing remembers between steps.
#[derive(Debug, Default)]
pub(super) struct Stealing {
    pub(super) in_flight: SeededMap<TaskId, InFlight>,
    pub(super) requests: u64,
    /// By level: how many requests, and what their tasks cost where they are. Unit: seconds.
    pub(super) asked: [(u64, f64); STEAL_LEVELS],
    /// When to look again; none while there is nothing to look at.
    pub(super) next: Option<Now>,
}

/// A request that the victim has not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) victim: WorkerId,
    pub(super) thief: WorkerId,
    pub(super) victim_secs: f64,
    pub(super) thief_secs: f64,
    pub(super) stimulus: Text,
}

/// The active memory manager between its runs.
#[derive(Debug)]
pub(super) struct Amm {
    pub(super) running: bool,
    /// Workers that are being emptied.
    pub(super) retiring: BTreeSet<WorkerId>,
    pub(super) next: Option<Now>,
}

impl Amm {
    pub(super) const fn new(running: bool) -> Self {
        Self { running, retiring: BTreeSet::new(), next: None }
    }
}

/// Shuffles that run, and those that ended in the current step.
#[derive(Debug, Default)]
pub(super) struct Shuffles {
    pub(super) active: BTreeMap<Text, Active>,
    /// Ended by the step of that number: started over if that step lost a worker.
    pub(super) archived: Vec<(u64, Text)>,
    pub(super) run_id: RunId,
    /// Turns the list of workers, so that small shuffles spread.
    pub(super) shift: usize,
}

#[derive(Debug)]
pub(super) struct Active {
    pub(super) run: ShuffleRun,
    pub(super) participants: BTreeSet<Text>,
    pub(super) told_failed: bool,
}

impl Shuffles {
    pub(super) fn clear(&mut self) {
        self.active.clear();
        self.archived.clear();
    }
}

/// Inputs whose holders somebody asks for again and again.
#[derive(Debug)]
pub(super) struct AskedAgain {
    /// For each input, when somebody began to ask (or a copy was made last), and when the last question came.
    pub(super) inputs: SeededMap<TaskId, (Now, Now)>,
    pub(super) swept: Now,
}

impl AskedAgain {
    pub(super) fn new() -> Self {
        Self { inputs: SeededMap::default(), swept: Now(0) }
    }

    /// Somebody has asked for this input of late.
    pub(super) fn is_sought(&self, task: TaskId, now: Now) -> bool {
        self.inputs.get(&task).is_some_and(|(_, last)| last.plus_us(ASKING_ENDS_US) > now)
    }

    /// Forgets inputs that nobody has asked for in a while. Looks at all of them, so it runs once a minute at most.
    pub(super) fn sweep(&mut self, now: Now) {
        if self.swept.plus_us(ASKING_ENDS_US) < now {
            self.swept = now;
            self.inputs.retain(|_, (_, last)| last.plus_us(ASKING_ENDS_US) > now);
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoryLine {
    /// The task.
    pub key: Key,
    /// State before.
    pub start: &'static str,
    /// State after.
    pub finish: &'static str,
    /// Transitions that it recommended, and to which state; some of them, if they are many.
    pub recommended: Vec<(Key, &'static str)>,
    /// What set it off: kind and number of the step.
    pub stimulus: (&'static str, u64),
    /// When. Unit: microseconds since the scheduler was made.
    pub at_us: u64,
}

/// One transition.
#[derive(Debug)]
pub(super) struct StoryEntry {
    pub(super) key: Key,
    pub(super) start: StateName,
    pub(super) finish: StateName,
    pub(super) recommended: Box<[(Key, StateName)]>,
    pub(super) stimulus: &'static str,
    pub(super) step: u64,
    pub(super) at: Now,
}

impl StoryEntry {
    pub(super) fn line(&self) -> StoryLine {
        StoryLine {
            key: self.key.clone(),
            start: self.start.as_str(),
            finish: self.finish.as_str(),
            recommended: self.recommended.iter().map(|(key, state)| (key.clone(), state.as_str())).collect(),
            stimulus: (self.stimulus, self.step),
            at_us: self.at.0,
        }
    }
}
