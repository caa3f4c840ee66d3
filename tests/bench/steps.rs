//! How many events per second the scheduler core takes, without bytes, sockets or Python.
//!
//! `cargo bench --bench steps [-- TASKS]`. Prints microseconds per task and bytes per task held in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rask::base::{GraphPart, GraphTask, Key, Now, Opaque, WorkerId};
use rask::sched::{
    Action, Actors, Answer, Effect, Event, Finished, GraphOpen, SchedConfig, Scheduler, StartStop, ToWorker,
    WorkerHello, WorkerStatus,
};

struct World {
    scheduler: Scheduler,
    now: u64,
    out: Vec<Effect>,
    todo: VecDeque<(WorkerId, Key, i64)>,
    steps: u64,
}

impl World {
    fn step(&mut self, event: Event) {
        self.now += 1;
        self.steps += 1;
        self.scheduler.step(Now(self.now), event, &mut self.out);
        for effect in self.out.drain(..) {
            if let Effect::ToWorker { worker, message: ToWorker::Compute(compute) } = effect {
                self.todo.push_back((worker, compute.key, compute.run_id));
            }
        }
    }

    fn new(workers: u32, saturation: f64) -> Self {
        let config = SchedConfig { worker_saturation: saturation, ..SchedConfig::default() };
        let mut world =
            Self { scheduler: Scheduler::new(config), now: 0, out: Vec::new(), todo: VecDeque::new(), steps: 0 };
        for at in 0..workers {
            let hello = WorkerHello {
                address: format!("tcp://10.0.0.{at}:1").into(),
                name: i64::from(at).into(),
                nthreads: 1,
                status: WorkerStatus::Running,
                ..WorkerHello::default()
            };
            let mut out = Vec::new();
            let event = Event::AddWorker { call: 0, worker: Box::new(hello) };
            world.scheduler.step(Now(0), event, &mut out);
            assert!(out.iter().any(|effect| matches!(effect, Effect::Answer { answer: Answer::Worker(_), .. })));
        }
        world.step(Event::ClientAdded { name: "bench".into() });
        world
    }

    fn submit(&mut self, tasks: Vec<GraphTask>, keys: Vec<Key>) {
        let client = self.scheduler.client_id("bench").expect("the client was added");
        let wanted = keys.clone();
        let graph = GraphOpen { client, keys, submitting_task: None, fifo_timeout_secs: 0.0, actors: Actors::None };
        self.step(Event::GraphOpened { ticket: 1, graph: Box::new(graph) });
        self.step(Event::GraphPart {
            ticket: 1,
            part: GraphPart { tasks, wanted, ..GraphPart::default() },
            last: true,
        });
    }

    fn run(&mut self) {
        let typename: Arc<str> = "int".into();
        while let Some((worker, key, run_id)) = self.todo.pop_front() {
            let done = Finished {
                key,
                run_id,
                nbytes: Some(28),
                type_pickle: bytes::Bytes::from_static(b"int"),
                typename: typename.clone(),
                metadata: rask::base::Value::Nil,
                startstops: vec![StartStop { action: Action::Compute, start: 1.0, stop: 1.001 }],
            };
            self.step(Event::TaskFinished { worker, done });
        }
    }
}

fn task(name: &str, at: usize, dependencies: Vec<Key>) -> GraphTask {
    let spec = Opaque { head: bytes::Bytes::from_static(b"spec"), frames: Vec::new() };
    GraphTask {
        key: Key::tuple(&[Key::text(name), Key::int(at as i64)]),
        dependencies,
        run_spec: Some(Arc::new(spec)),
        order: Some(at as f64),
        ..GraphTask::default()
    }
}

fn layered(n: usize) -> (Vec<GraphTask>, Vec<Key>) {
    let width = 1000;
    let mut tasks: Vec<GraphTask> = Vec::new();
    for at in 0..n {
        let (layer, place) = (at / width, at % width);
        let dependencies = if layer == 0 {
            Vec::new()
        } else {
            (0..3).map(|step| tasks[(layer - 1) * width + (place + step) % width].key.clone()).collect()
        };
        tasks.push(task(&format!("layer{layer}-0123456789abcdef0123456789abcdef"), at, dependencies));
    }
    let keys = tasks[n - width..].iter().map(|task| task.key.clone()).collect();
    (tasks, keys)
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn main() {
    let most = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000usize);
    for workers in [2, 10, 100] {
        for saturation in [1.1, f64::INFINITY] {
            for n in [most / 10, most] {
                let before = resident();
                let mut world = World::new(workers, saturation);
                let tasks: Vec<GraphTask> =
                    (0..n).map(|at| task("inc-0123456789abcdef0123456789abcdef", at, Vec::new())).collect();
                let keys = tasks.iter().map(|task| task.key.clone()).collect();
                let start = Instant::now();
                world.submit(tasks, keys);
                let submitted = start.elapsed();
                world.run();
                let took = start.elapsed();
                assert_eq!(world.scheduler.counts().by_state[5], n, "every task must be in memory");
                let held = resident().saturating_sub(before);
                let (tasks, keys) = layered(n.max(2000));
                let mut other = World::new(workers, saturation);
                let start = Instant::now();
                let (tasks_n, keys_n) = (tasks.len(), keys.len());
                other.submit(tasks, keys);
                other.run();
                let layered_took = start.elapsed();
                assert_eq!(other.scheduler.counts().by_state[5], keys_n, "every wanted task must be in memory");
                println!(
                    "{workers:>4} workers, saturation {saturation:>4}, {n:>7} tasks: independent {:.2} us/task \
                     (submit {:.2}), {:>5} B/task; three dependencies {:.2} us/task",
                    took.as_secs_f64() * 1e6 / n as f64,
                    submitted.as_secs_f64() * 1e6 / n as f64,
                    held / n,
                    layered_took.as_secs_f64() * 1e6 / tasks_n as f64,
                );
            }
        }
    }
}
