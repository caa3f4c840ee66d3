//! Rules of the machine as tables, push-ahead, and random lives. What Dask does, too, is compared with Dask itself in
//! `tests/python/test_worker_state.py`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::base::{Rng, RunId};

const PEER: &str = "tcp://10.0.0.2:1";

/// A machine with an executor and peers that do what the test says.
struct World {
    machine: WorkerMachine,
    now: u64,
    /// Runs in each slot: the first has begun, unless the slot is occupied by a task that rejoined.
    slots: Vec<VecDeque<(Key, RunId)>>,
    seceded: Vec<(Key, RunId)>,
    rejoined: BTreeMap<u32, (Key, RunId)>,
    recalls: VecDeque<u32>,
    fetches: BTreeMap<Text, Vec<Key>>,
    said: Vec<WorkerMessage>,
    ended: BTreeSet<(Key, RunId)>,
    closed: bool,
}

fn key(name: &str) -> Key {
    Key::text(name)
}

fn task(name: &str, run: RunId) -> ComputeTask {
    ComputeTask {
        key: key(name),
        run,
        rank: TaskPriority::new(&[0.0]).expect("one number is a priority"),
        inputs: Vec::new(),
        resources: Vec::new(),
        may_wait_in_slot: true,
    }
}

fn compute(name: &str, run: RunId) -> WorkerEvent {
    WorkerEvent::Compute(Box::new(task(name, run)))
}

fn free(name: &str) -> WorkerEvent {
    WorkerEvent::FreeKeys { keys: vec![key(name)] }
}

fn acquire(name: &str) -> WorkerEvent {
    WorkerEvent::AcquireReplicas { inputs: vec![Input { key: key(name), size_bytes: 10, holders: vec![PEER.into()] }] }
}

fn fetched(names: &[&str]) -> WorkerEvent {
    WorkerEvent::Fetched { peer: PEER.into(), values: names.iter().map(|name| (key(name), 10)).collect() }
}

fn ended(name: &str, run: RunId, outcome: Outcome) -> WorkerEvent {
    WorkerEvent::Ended { key: key(name), run, outcome }
}

const fn success(duration_us: u64) -> Outcome {
    Outcome::Success { size_bytes: 5, duration_us }
}

impl World {
    fn new(slots: u32) -> Self {
        let resources = vec![(Text::from("R"), 2.0)];
        let config = MachineConfig { slots, address: "tcp://10.0.0.1:1".into(), resources, ..MachineConfig::default() };
        Self::with(config)
    }

    fn with(config: MachineConfig) -> Self {
        Self {
            slots: (0..config.slots).map(|_| VecDeque::new()).collect(),
            machine: WorkerMachine::new(config),
            now: 0,
            seceded: Vec::new(),
            rejoined: BTreeMap::new(),
            recalls: VecDeque::new(),
            fetches: BTreeMap::new(),
            said: Vec::new(),
            ended: BTreeSet::new(),
            closed: false,
        }
    }

    fn step(&mut self, event: WorkerEvent) {
        self.now += 1;
        let mut out = Vec::new();
        self.machine.step(Now(self.now), event, &mut out);
        self.machine.check();
        for effect in out {
            match effect {
                WorkerEffect::ToScheduler(message) => self.said.push(message),
                WorkerEffect::Push { slot, key, run, .. } => self.slots[slot as usize].push_back((key, run)),
                WorkerEffect::Recall { slot } => self.recalls.push_back(slot),
                WorkerEffect::Fetch { peer, keys, .. } => {
                    assert!(self.fetches.insert(peer, keys).is_none(), "a peer is asked once at a time");
                }
                WorkerEffect::Drop { .. } | WorkerEffect::Forgotten { .. } | WorkerEffect::Transition { .. } => {}
                WorkerEffect::Close { .. } => self.closed = true,
            }
        }
    }

    fn steps(mut self, events: Vec<WorkerEvent>) -> Self {
        for event in events {
            self.step(event);
        }
        self
    }

    /// The first run of a slot ends.
    fn end(&mut self, slot: u32, outcome: Outcome) {
        let Some((key, run)) = self.slots[slot as usize].pop_front() else { return };
        self.tell_end(key, run, outcome);
    }

    fn tell_end(&mut self, key: Key, run: RunId, outcome: Outcome) {
        assert!(self.ended.insert((key.clone(), run)), "{key} ran twice under the number {run}");
        self.step(WorkerEvent::Ended { key, run, outcome });
    }

    /// The executor answers a recall. `begun`: the first run of the queue has begun.
    fn answer_recall(&mut self, begun: bool) {
        let Some(slot) = self.recalls.pop_front() else { return };
        let kept = usize::from(begun && !self.rejoined.contains_key(&slot));
        let queue = &mut self.slots[slot as usize];
        let taken = queue.split_off(kept.min(queue.len()));
        let keys = taken.into_iter().map(|(key, _)| key).collect();
        self.step(WorkerEvent::Recalled { slot, keys });
    }

    /// One short task of the prefix `inc` ran, so that others may be pushed ahead.
    fn warm(slots: u32) -> Self {
        let mut world = Self::new(slots);
        world.step(compute("inc-0", 0));
        world.end(0, success(100));
        world.said.clear();
        world
    }

    /// The executor has nothing to do, and nothing travels or waits to travel.
    fn rests(&self) -> bool {
        let idle = self.slots.iter().all(VecDeque::is_empty) && self.rejoined.is_empty() && self.seceded.is_empty();
        let fetch = |(_, phase): (&Key, TaskPhase)| phase == TaskPhase::Fetch;
        idle && self.recalls.is_empty() && self.fetches.is_empty() && !self.machine.phases().any(fetch)
    }

    fn phase(&self, name: &str) -> Option<TaskPhase> {
        self.machine.phase_of(&key(name))
    }

    fn pushed(&self, slot: usize) -> Vec<String> {
        self.slots[slot].iter().map(|(key, _)| key.to_string()).collect()
    }
}

// ---- cancelled and resumed -------------------------------------------------------------------------------------------

/// Goal: each way out of an errand that was cancelled and wanted again leads where Dask's table says.
#[test]
fn errands_that_go_on_after_a_cancellation_end_as_was_asked_last() {
    use WorkerMessage as M;
    let x = || key("x");
    let run = || vec![compute("x", 1), free("x")];
    let seceded = || {
        let secede = WorkerEvent::Seceded { key: x(), run: 1, compute_secs: 1.0 };
        vec![compute("x", 1), secede, free("x")]
    };
    let transfer = || vec![acquire("x"), free("x")];
    type Case = (Vec<WorkerEvent>, Vec<WorkerEvent>, Option<TaskPhase>, Vec<WorkerMessage>);
    let finished = |run| M::Finished { key: x(), run, size_bytes: 5 };
    let cases: Vec<Case> = vec![
        (run(), vec![], Some(TaskPhase::Cancelled), vec![]),
        (run(), vec![ended("x", 1, success(1))], None, vec![]),
        (run(), vec![ended("x", 1, Outcome::Failure)], None, vec![]),
        // The executor's number counts, not the scheduler's latest.
        (run(), vec![compute("x", 2), ended("x", 1, success(1))], Some(TaskPhase::Memory), vec![finished(1)]),
        (run(), vec![acquire("x")], Some(TaskPhase::Resumed), vec![]),
        (
            run(),
            vec![acquire("x"), ended("x", 1, success(1))],
            Some(TaskPhase::Memory),
            vec![M::AddKeys { keys: vec![x()] }],
        ),
        (run(), vec![acquire("x"), ended("x", 1, Outcome::Failure)], Some(TaskPhase::Flight), vec![]),
        (run(), vec![acquire("x"), free("x")], Some(TaskPhase::Cancelled), vec![]),
        (
            seceded(),
            vec![compute("x", 2)],
            Some(TaskPhase::LongRunning),
            vec![
                M::LongRunning { key: x(), run: 1, compute_secs: Some(1.0) },
                M::LongRunning { key: x(), run: 2, compute_secs: None },
            ],
        ),
        (transfer(), vec![], Some(TaskPhase::Cancelled), vec![]),
        (transfer(), vec![fetched(&["x"])], None, vec![]),
        (transfer(), vec![acquire("x")], Some(TaskPhase::Flight), vec![]),
        (transfer(), vec![compute("x", 2)], Some(TaskPhase::Resumed), vec![]),
        (
            transfer(),
            vec![compute("x", 2), fetched(&["x"])],
            Some(TaskPhase::Memory),
            vec![M::Finished { key: x(), run: 2, size_bytes: 10 }],
        ),
        (transfer(), vec![compute("x", 2), fetched(&[])], Some(TaskPhase::Executing), vec![]),
        (transfer(), vec![compute("x", 2), acquire("x")], Some(TaskPhase::Flight), vec![]),
    ];
    for (before, news, phase, said) in cases {
        let words = format!("{before:?} then {news:?}");
        let world = World::new(1).steps(before).steps(news);
        assert_eq!(world.phase("x"), phase, "{words}");
        assert_eq!(world.said, said, "{words}");
    }
}

/// Goal: an executor's number that is not the current one changes nothing.
#[test]
fn old_news_of_runs_is_ignored() {
    let world = World::new(1).steps(vec![compute("x", 5), ended("x", 4, success(1)), ended("y", 5, success(1))]);
    assert_eq!(world.phase("x"), Some(TaskPhase::Executing));
    assert_eq!(world.said, vec![]);
}

/// Goal: a scheduler that breaks a rule ends this worker, and nothing is done afterwards.
#[test]
fn taking_away_what_a_running_task_reads_closes_the_worker() {
    let mut reader = task("x", 1);
    reader.inputs = vec![Input { key: key("a"), size_bytes: 10, holders: vec![PEER.into()] }];
    let scattered = WorkerEvent::Scattered { values: vec![(key("a"), 10)] };
    let remove = WorkerEvent::RemoveReplicas { keys: vec![key("a")] };
    let world = World::new(1).steps(vec![scattered, WorkerEvent::Compute(Box::new(reader)), remove, compute("y", 2)]);
    assert!(world.closed);
    assert_eq!(world.phase("y"), None);
}

#[test]
fn priorities_compare_as_pythons_tuples_do() {
    let rank = |sent: &[f64]| TaskPriority::new(sent).expect("one to three numbers");
    assert!(rank(&[1.0]) < rank(&[1.0, -5.0]));
    assert!(rank(&[0.0, 9.0]) < TaskPriority::REPLICA && TaskPriority::REPLICA < rank(&[1.0, 0.0, 0.0]));
    assert!(rank(&[1.0, 2.0]).with_generation(-1) < rank(&[1.0, 2.0]).with_generation(0));
    assert_eq!(TaskPriority::new(&[]), Err(PriorityError { parts: 0 }));
    assert_eq!(TaskPriority::new(&[0.0; 4]), Err(PriorityError { parts: 4 }));
}

// ---- push-ahead --------------------------------------------------------------------------------------------------------

/// Goal: short tasks wait in slots, as many as 2 ms hold, evenly; the scheduler and people see them as ready.
#[test]
fn short_tasks_are_pushed_ahead_evenly_up_to_two_milliseconds() {
    let mut world = World::warm(2);
    for at in 1..=60 {
        world.step(compute(&format!("inc-{at}"), at));
    }
    // Two run, and behind each are 20 of 100 us.
    assert_eq!([world.slots[0].len(), world.slots[1].len()], [21, 21]);
    assert_eq!(world.phase("inc-3"), Some(TaskPhase::Pushed));
    let counts: BTreeMap<_, _> = world.machine.task_counts().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, BTreeMap::from([(TaskPhase::Memory, 1), (TaskPhase::Executing, 2), (TaskPhase::Ready, 58)]));
    world.end(0, success(100));
    assert_eq!(world.slots[0].len(), 21, "what ended makes room for the next");
}

/// Goal: nothing waits in a slot that is not known to be short and to have small results, or may not wait there.
#[test]
fn what_is_unknown_long_constrained_or_unfit_is_not_pushed_ahead() {
    let waits = |mut world: World, next: ComputeTask| {
        let name = next.key.clone();
        world.step(compute("inc-1", 1));
        world.step(WorkerEvent::Compute(Box::new(next)));
        world.machine.phase_of(&name)
    };
    assert_eq!(waits(World::warm(1), task("inc-2", 2)), Some(TaskPhase::Pushed));
    assert_eq!(waits(World::warm(1), task("other-2", 2)), Some(TaskPhase::Ready));
    assert_eq!(waits(World::new(1), task("inc-2", 2)), Some(TaskPhase::Ready));
    assert_eq!(
        waits(World::warm(1), ComputeTask { may_wait_in_slot: false, ..task("inc-2", 2) }),
        Some(TaskPhase::Ready)
    );
    let constrained = ComputeTask { resources: vec![("R".into(), 1.0)], ..task("inc-2", 2) };
    assert_eq!(waits(World::warm(1), constrained), Some(TaskPhase::Constrained));
    let mut slow = World::warm(1);
    slow.step(compute("inc-9", 9));
    slow.end(0, success(2_001));
    assert_eq!(waits(slow, task("inc-2", 2)), Some(TaskPhase::Ready));
    let mut large = World::warm(1);
    large.step(compute("inc-9", 9));
    large.end(0, Outcome::Success { size_bytes: 1 << 20, duration_us: 50 });
    assert_eq!(waits(large, task("inc-2", 2)), Some(TaskPhase::Ready));
}

/// Goal: a steal request for what waits in a slot is answered when the executor has said whether it began.
#[test]
fn a_steal_request_for_a_pushed_task_is_answered_after_its_recall() {
    let answer = |state| WorkerMessage::StealResponse { key: key("inc-2"), state: Some(state), stimulus: "s".into() };
    let steal = || WorkerEvent::StealRequest { key: key("inc-2"), stimulus: "s".into() };
    let mut world = World::warm(1).steps(vec![compute("inc-1", 1), compute("inc-2", 2), steal()]);
    assert_eq!((world.said.len(), world.recalls.len()), (0, 1));
    world.answer_recall(true);
    assert_eq!((&world.said, world.phase("inc-2")), (&vec![answer(TaskPhase::Ready)], None));

    let mut late = World::warm(1).steps(vec![compute("inc-1", 1), compute("inc-2", 2), steal()]);
    late.end(0, success(100));
    late.answer_recall(true);
    assert_eq!(
        (late.said.last(), late.phase("inc-2")),
        (Some(&answer(TaskPhase::Executing)), Some(TaskPhase::Executing))
    );
}

/// Goal: what is freed in a slot's queue comes back; if it had begun, its result is dropped.
#[test]
fn a_pushed_task_that_is_freed_is_recalled() {
    let before = || World::warm(1).steps(vec![compute("inc-1", 1), compute("inc-2", 2), free("inc-2")]);
    let mut back = before();
    assert_eq!(back.phase("inc-2"), Some(TaskPhase::Cancelled));
    back.answer_recall(true);
    assert_eq!((back.phase("inc-2"), back.pushed(0)), (None, vec!["inc-1".to_owned()]));
    let mut begun = before();
    begun.end(0, success(100));
    begun.answer_recall(true);
    assert_eq!(begun.phase("inc-2"), Some(TaskPhase::Cancelled));
    begun.end(0, success(100));
    assert_eq!(begun.phase("inc-2"), None);
    let mut again = before();
    again.step(compute("inc-2", 3));
    again.answer_recall(true);
    assert_eq!(again.slots[0].back(), Some(&(key("inc-2"), 3)), "asked for again, it runs under its new number");
}

/// Goal: a paused worker starts nothing: all slots give back what has not begun, and get it again afterwards.
#[test]
fn pausing_recalls_what_has_not_begun() {
    let mut world = World::warm(1).steps(vec![compute("inc-1", 1), compute("inc-2", 2)]);
    world.step(WorkerEvent::SetRunning { running: false });
    world.answer_recall(true);
    assert_eq!(world.phase("inc-2"), Some(TaskPhase::Ready));
    world.end(0, success(100));
    assert_eq!(world.phase("inc-2"), Some(TaskPhase::Ready));
    world.step(WorkerEvent::SetRunning { running: true });
    assert_eq!(world.phase("inc-2"), Some(TaskPhase::Executing));
}

/// Goal: a run that takes much longer than expected does not keep others waiting.
#[test]
fn what_waits_behind_an_overdue_run_is_recalled() {
    let mut world = World::warm(1).steps(vec![compute("inc-1", 1), compute("inc-2", 2)]);
    let deadline = world.machine.next_deadline().expect("the run is watched");
    world.now = deadline.0 - 2;
    world.step(WorkerEvent::Tick);
    assert_eq!(world.recalls.len(), 0);
    world.step(WorkerEvent::Tick);
    assert_eq!(world.recalls.len(), 1);
}

/// Goal: a task that rejoins occupies its slot to its end, and what was handed to that slot comes back.
#[test]
fn a_rejoined_task_occupies_its_slot() {
    let mut world = World::new(1).steps(vec![
        compute("x", 1),
        WorkerEvent::Seceded { key: key("x"), run: 1, compute_secs: 0.1 },
        compute("y", 2),
        WorkerEvent::Rejoined { key: key("x"), slot: 0 },
    ]);
    assert_eq!(world.phase("y"), Some(TaskPhase::Executing), "as far as was known");
    world.recalls.clear();
    world.step(WorkerEvent::Recalled { slot: 0, keys: vec![key("y")] });
    assert_eq!(world.phase("y"), Some(TaskPhase::Ready));
    world.step(ended("x", 1, success(1)));
    assert_eq!(world.phase("y"), Some(TaskPhase::Executing));
}

// ---- random lives ----------------------------------------------------------------------------------------------------

const NAMES: [&str; 10] = ["inc-0", "inc-1", "inc-2", "inc-3", "inc-4", "sum-0", "sum-1", "sum-2", "x", "y"];
const PEERS: [&str; 3] = ["tcp://10.0.0.1:2", PEER, "tcp://10.0.0.3:1"];

/// Somebody who does anything, by seed.
struct Life {
    world: World,
    rng: Rng,
    runs: RunId,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = MachineConfig {
            slots: 1 + rng.below(3) as u32,
            address: "tcp://10.0.0.1:1".into(),
            resources: vec![(Text::from("R"), 2.0)],
            message_bytes_max: [15, u64::MAX][rng.below(2)],
            incoming_bytes_max: [30, u64::MAX][rng.below(2)],
            push_ahead: rng.below(4) > 0,
            ..MachineConfig::default()
        };
        let mut world = World::with(config);
        for name in ["inc-0", "sum-0"] {
            world.step(compute(name, -1));
            world.end(0, success(50));
            world.step(free(name));
        }
        Self { world, rng, runs: 0 }
    }

    fn name(&mut self) -> Key {
        key(NAMES[self.rng.below(NAMES.len())])
    }

    fn holders(&mut self) -> Vec<Text> {
        let from = self.rng.below(PEERS.len());
        let count = self.rng.below(3);
        PEERS.iter().cycle().skip(from).take(count).map(|peer| Text::from(*peer)).collect()
    }

    fn inputs(&mut self, most: usize, before: usize) -> Vec<Input> {
        let count = self.rng.below(most + 1);
        let mut names = BTreeSet::new();
        for _ in 0..count.min(before) {
            names.insert(self.rng.below(before));
        }
        let input = |at: usize| Input { key: key(NAMES[at]), size_bytes: 5 + at as u64, holders: self.holders() };
        names.into_iter().map(input).collect()
    }

    fn order(&mut self) -> WorkerEvent {
        let key = self.name();
        match self.rng.below(16) {
            0..=6 => {
                self.runs += 1;
                let at = self.rng.below(NAMES.len());
                let inputs = self.inputs(2, at);
                let resources = if self.rng.below(8) == 0 { vec![("R".into(), 1.0)] } else { Vec::new() };
                let rank = TaskPriority::new(&[self.rng.below(3) as f64]).expect("one number is a priority");
                let may_wait_in_slot = self.rng.below(8) > 0;
                let task = task(NAMES[at], self.runs);
                WorkerEvent::Compute(Box::new(ComputeTask { inputs, resources, rank, may_wait_in_slot, ..task }))
            }
            7 | 8 => WorkerEvent::FreeKeys { keys: vec![key, self.name()] },
            9 => WorkerEvent::AcquireReplicas { inputs: self.inputs(3, NAMES.len()) },
            10 => WorkerEvent::StealRequest { key, stimulus: "s".into() },
            11 => WorkerEvent::RefreshWhoHas { holders: vec![(key, self.holders())] },
            12 => WorkerEvent::RemoveWorker { address: PEERS[self.rng.below(PEERS.len())].into() },
            13 => WorkerEvent::SetRunning { running: self.rng.below(3) > 0 },
            14 => WorkerEvent::Scattered { values: vec![(key, 8)] },
            _ => WorkerEvent::CancelCompute { key },
        }
    }

    fn outcome(&mut self) -> Outcome {
        match self.rng.below(6) {
            0 => Outcome::Failure,
            1 => Outcome::Reschedule,
            _ => success([50, 50, 50, 3_000][self.rng.below(4)]),
        }
    }

    fn executor(&mut self) {
        let slot = self.rng.below(self.world.slots.len()) as u32;
        let outcome = self.outcome();
        let free = !self.world.rejoined.contains_key(&slot);
        match self.rng.below(8) {
            0..=2 if free => self.world.end(slot, outcome),
            3 if free => {
                if let Some((key, run)) = self.world.slots[slot as usize].pop_front() {
                    self.world.seceded.push((key.clone(), run));
                    self.world.step(WorkerEvent::Seceded { key, run, compute_secs: 0.1 });
                }
            }
            4 if free && !self.world.seceded.is_empty() => {
                let at = self.rng.below(self.world.seceded.len());
                let (key, run) = self.world.seceded.remove(at);
                self.world.rejoined.insert(slot, (key.clone(), run));
                self.world.step(WorkerEvent::Rejoined { key, slot });
            }
            5 => {
                let rejoined = self.world.rejoined.remove(&slot);
                if let Some((key, run)) = rejoined.or_else(|| self.world.seceded.pop()) {
                    self.world.tell_end(key, run, outcome);
                }
            }
            _ => {
                let begun = self.rng.below(4) > 0;
                self.world.answer_recall(begun);
            }
        }
    }

    fn transfer(&mut self) {
        let Some((peer, keys)) = self.world.fetches.pop_first() else { return };
        let event = match self.rng.below(6) {
            0 => WorkerEvent::FetchBusy { peer },
            1 => WorkerEvent::FetchBroken { peer },
            2 => WorkerEvent::FetchFailed { peer },
            _ => {
                let values = keys.into_iter().filter(|_| self.rng.below(5) > 0).map(|key| (key, 8)).collect();
                WorkerEvent::Fetched { peer, values }
            }
        };
        self.world.step(event);
    }

    fn live(&mut self, steps: u32) {
        for _ in 0..steps {
            match self.rng.below(8) {
                0..=3 => {
                    let order = self.order();
                    self.world.step(order);
                }
                4 | 5 => self.executor(),
                6 => self.transfer(),
                _ => {
                    self.world.now += 50_000;
                    self.world.step(WorkerEvent::Tick);
                }
            }
        }
    }

    /// All that is under way ends well.
    fn settle(&mut self) {
        self.world.step(WorkerEvent::SetRunning { running: true });
        for _ in 0..1_000 {
            self.world.answer_recall(true);
            for slot in 0..self.world.slots.len() as u32 {
                match self.world.rejoined.remove(&slot) {
                    Some((key, run)) => self.world.tell_end(key, run, success(50)),
                    None => self.world.end(slot, success(50)),
                }
            }
            if let Some((key, run)) = self.world.seceded.pop() {
                self.world.tell_end(key, run, success(50));
            }
            if let Some((peer, keys)) = self.world.fetches.pop_first() {
                let values = keys.into_iter().map(|key| (key, 8)).collect();
                self.world.step(WorkerEvent::Fetched { peer, values });
            }
            self.world.now += 200_000;
            self.world.step(WorkerEvent::Tick);
            if self.world.rests() {
                return;
            }
        }
    }
}

/// Goal: whatever happens, in whatever order, no invariant breaks, no run is told twice, and at rest nothing is left
/// that runs, waits in a slot or travels; freed keys leave nothing behind.
/// Method: `check()` after each step, by seed; an executor whose recalls lose races, secedes, rejoins.
#[test]
fn random_lives_break_no_rule_and_come_to_rest() {
    for seed in 0..300 {
        let mut life = Life::new(seed);
        life.live(150);
        life.settle();
        let world = &mut life.world;
        assert!(!world.closed, "seed {seed}: no rule of the protocol was broken");
        for (key, phase) in world.machine.phases() {
            let rests =
                [TaskPhase::Memory, TaskPhase::Error, TaskPhase::Waiting, TaskPhase::Missing, TaskPhase::Released]
                    .contains(&phase);
            assert!(rests, "seed {seed}: {key} is {phase:?} at rest");
        }
        let keys = world.machine.phases().map(|(key, _)| key.clone()).collect();
        world.step(WorkerEvent::FreeKeys { keys });
        assert_eq!(world.machine.phases().count(), 0, "seed {seed}: freed keys are forgotten");
        assert_eq!((world.machine.held_bytes(), world.machine.incoming()), (0, (0, 0)));
    }
}
