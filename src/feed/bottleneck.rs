//! What is bottleneck the cluster: one line from measurements, and the first problem by name. Pure.

use serde_json::{Value as Json, json};

/// Threads count as busy from this share on.
const BUSY: f64 = 0.8;
/// A scheduler this busy keeps up no more. Unit: percent of one core.
const SCHEDULER_BUSY: f64 = 85.0;
/// Share of memory above which workers spill (`distributed.worker.memory.spill`) and soon pause.
const MEMORY_HIGH: f64 = 0.8;
/// Disk traffic worth naming while spilled data exists. Unit: bytes per second, all workers together.
const DISK_HIGH: f64 = 50e6;
/// Tasks this short are mostly overhead. Unit: seconds.
const SHORT_TASK: f64 = 1e-3;
/// A worker that did not report for so long is in trouble. Unit: seconds.
const SILENT: f64 = 30.0;

/// What was measured, the cluster as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// Workers, threads, and workers that pause.
    pub workers: usize,
    /// Threads of all workers.
    pub threads: u64,
    /// Workers that pause.
    pub paused: usize,
    /// Clients with a stream.
    pub clients: usize,
    /// Graphs that are being read.
    pub open_graphs: usize,
    /// Tasks by what they wait for.
    pub processing: usize,
    /// Held back by the scheduler.
    pub queued: usize,
    /// Waiting for inputs.
    pub waiting: usize,
    /// That no worker may run.
    pub no_worker: usize,
    /// That failed.
    pub erred: usize,
    /// Running on a thread now, as workers tell.
    pub executing: u64,
    /// On workers, waiting for inputs to arrive from other workers.
    pub fetching: u64,
    /// Transfers under way.
    pub transfers: u64,
    /// Expected work. Unit: thread seconds.
    pub occupancy_secs: f64,
    /// Process memory over limit, all workers; 0 without limits.
    pub memory_share: f64,
    /// Spilled data. Unit: bytes.
    pub spilled: f64,
    /// Unit: bytes per second.
    pub disk: f64,
    /// Unit: percent of one core.
    pub scheduler_cpu: f64,
    /// Finished tasks per second.
    pub tasks_per_s: f64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bottleneck {
    /// One word for it.
    pub what: &'static str,
    /// One sentence.
    pub text: String,
    /// Page that shows more.
    pub link: Option<&'static str>,
}

impl Bottleneck {
    fn new(what: &'static str, text: impl Into<String>, link: Option<&'static str>) -> Self {
        Self { what, text: text.into(), link }
    }

    /// As the page gets it.
    pub fn to_json(&self) -> Json {
        json!({"what": self.what, "text": self.text, "link": self.link})
    }
}

/// What limits the cluster now.
pub fn bottleneck(m: &Measures) -> Bottleneck {
    without_work(m).or_else(|| without_workers(m)).or_else(|| overloaded(m)).unwrap_or_else(|| working(m))
}

fn without_work(m: &Measures) -> Option<Bottleneck> {
    if m.processing + m.queued + m.waiting + m.no_worker > 0 {
        return None;
    }
    Some(if m.open_graphs > 0 {
        Bottleneck::new("scheduler", "A submitted graph is being read; its tasks start when it is in.", None)
    } else if m.clients == 0 {
        Bottleneck::new("nothing", "No work, and no client is connected.", Some("clients"))
    } else if m.workers == 0 {
        Bottleneck::new("no-workers", "No work yet, and no worker is connected.", Some("workers"))
    } else {
        Bottleneck::new("client", "No work: the cluster waits for its clients.", None)
    })
}

fn without_workers(m: &Measures) -> Option<Bottleneck> {
    let wanting = m.processing + m.queued + m.waiting + m.no_worker;
    if m.workers == 0 {
        let wait = if wanting == 1 { "waits" } else { "wait" };
        let text = format!("{} {wait}, and no worker is connected: start workers.", tasks(wanting));
        return Some(Bottleneck::new("no-workers", text, Some("workers")));
    }
    if m.paused == m.workers {
        let text = "All workers are paused because their memory is full.";
        return Some(Bottleneck::new("paused", text, Some("memory")));
    }
    (m.no_worker > 0 && m.processing == 0).then(|| {
        let have = if m.no_worker == 1 { "has" } else { "have" };
        let text = format!("{} {have} restrictions that no connected worker meets.", tasks(m.no_worker));
        Bottleneck::new("restrictions", text, Some("tasks?state=no-worker"))
    })
}

fn overloaded(m: &Measures) -> Option<Bottleneck> {
    let busy = m.executing as f64 >= BUSY * m.threads as f64;
    if m.scheduler_cpu >= SCHEDULER_BUSY && !busy {
        let text = format!(
            "The scheduler is busy ({:.0} % of a core, {:.0} tasks/s) while threads are free: make tasks larger.",
            m.scheduler_cpu, m.tasks_per_s
        );
        return Some(Bottleneck::new("scheduler", text, Some("system")));
    }
    if m.paused > 0 {
        let text = format!("{} of {} workers are paused: memory is full.", m.paused, m.workers);
        return Some(Bottleneck::new("memory", text, Some("memory")));
    }
    if m.spilled > 0.0 && m.disk >= DISK_HIGH && !busy {
        return Some(Bottleneck::new("disk", "Workers move data between memory and disk.", Some("memory")));
    }
    (m.memory_share >= MEMORY_HIGH).then(|| {
        let text = format!("Memory is {:.0} % full: workers spill and will pause.", m.memory_share * 100.0);
        Bottleneck::new("memory", text, Some("memory"))
    })
}

fn working(m: &Measures) -> Bottleneck {
    let threads = m.threads.max(1) as f64;
    if m.executing as f64 >= BUSY * threads {
        let left = m.occupancy_secs / threads;
        let more = m.queued > 0 || m.processing as u64 > 2 * m.threads;
        let text = if more {
            format!("All {} threads compute and {} more tasks are ready: more workers would help.", m.threads, ready(m))
        } else {
            format!("All {} threads compute (about {left:.1} s of work left).", m.threads)
        };
        return Bottleneck::new(if more { "workers" } else { "compute" }, text, Some("tasks"));
    }
    if m.fetching > 0 || m.transfers > 0 {
        let waiting = usize::try_from(m.fetching.max(1)).unwrap_or(usize::MAX);
        let wait = if waiting == 1 { "waits" } else { "wait" };
        let text = format!("{} {wait} for data from other workers (transfers: {}).", tasks(waiting), m.transfers);
        return Bottleneck::new("transfer", text, Some("bandwidth"));
    }
    let mean_secs = if m.tasks_per_s > 0.0 { threads / m.tasks_per_s } else { f64::INFINITY };
    if mean_secs < SHORT_TASK {
        let text = format!("Tasks are so short ({:.0} per second) that most time goes into overhead.", m.tasks_per_s);
        return Bottleneck::new("scheduler", text, Some("progress"));
    }
    if m.open_graphs > 0 {
        return Bottleneck::new("scheduler", "A submitted graph is being read.", None);
    }
    let text = format!(
        "{} of {} threads compute; {} tasks wait for the results of others: there is not more to do at once.",
        m.executing, m.threads, m.waiting
    );
    Bottleneck::new("compute", text, Some("graph"))
}

fn tasks(count: usize) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}

fn ready(m: &Measures) -> usize {
    let executing = usize::try_from(m.executing).unwrap_or(usize::MAX);
    m.queued + m.processing.saturating_sub(executing)
}

/// A worker, as far as problems go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerState {
    /// Its address and name.
    pub address: String,
    pub name: String,
    /// It takes no tasks because its memory is full.
    pub paused: bool,
    /// Since its last heartbeat. Unit: seconds.
    pub silent_secs: f64,
    /// Process memory over limit; 0 without a limit.
    pub memory_share: f64,
}

/// The first thing that needs a person's eye, by name; none when all is well.
pub fn problem(m: &Measures, first_error: Option<&str>, workers: &[WorkerState]) -> Option<Json> {
    let told = |text: String, link: String| Some(json!({"text": text, "link": link}));
    let of = |worker: &WorkerState| format!("worker?address={}", worker.address);
    if let Some(silent) = workers.iter().find(|worker| worker.silent_secs > SILENT) {
        let text = format!("Worker {} has not been heard of for {:.0} s", silent.name, silent.silent_secs);
        return told(text, of(silent));
    }
    if m.erred > 0 {
        let why = first_error.map_or_else(String::new, |why| format!(": {why}"));
        return told(format!("{} failed{why}", tasks(m.erred)), "exceptions".to_owned());
    }
    if let Some(paused) = workers.iter().find(|worker| worker.paused) {
        return told(format!("Worker {} is paused: its memory is full", paused.name), of(paused));
    }
    if m.no_worker > 0 && m.workers > 0 {
        return told(format!("{} can run on no worker", tasks(m.no_worker)), "tasks?state=no-worker".to_owned());
    }
    let full = workers.iter().find(|worker| worker.memory_share > 0.9)?;
    told(format!("Worker {} uses {:.0} % of its memory", full.name, full.memory_share * 100.0), of(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Measures {
        Measures {
            workers: 2,
            threads: 4,
            clients: 1,
            processing: 4,
            executing: 4,
            occupancy_secs: 2.0,
            ..Measures::default()
        }
    }

    /// Goal: each situation has its own answer.
    #[test]
    fn every_situation_has_its_own_name() {
        let idle = Measures { workers: 2, threads: 4, clients: 1, ..Measures::default() };
        let cases = [
            ("client", idle.clone()),
            ("nothing", Measures { clients: 0, ..idle.clone() }),
            ("no-workers", Measures { workers: 0, ..idle.clone() }),
            ("scheduler", Measures { open_graphs: 1, ..idle.clone() }),
            ("no-workers", Measures { workers: 0, threads: 0, queued: 5, ..idle.clone() }),
            ("paused", Measures { paused: 2, ..busy() }),
            ("memory", Measures { paused: 1, ..busy() }),
            ("memory", Measures { memory_share: 0.9, ..busy() }),
            ("restrictions", Measures { no_worker: 3, ..idle }),
            ("scheduler", Measures { scheduler_cpu: 99.0, executing: 1, ..busy() }),
            ("disk", Measures { spilled: 1e9, disk: 1e8, executing: 1, ..busy() }),
            ("compute", busy()),
            ("workers", Measures { queued: 100, ..busy() }),
            ("transfer", Measures { executing: 0, fetching: 4, transfers: 2, ..busy() }),
            ("scheduler", Measures { executing: 0, tasks_per_s: 9_000.0, ..busy() }),
            ("compute", Measures { executing: 1, processing: 1, waiting: 9, ..busy() }),
        ];
        for (wanted, measures) in cases {
            let found = bottleneck(&measures);
            assert_eq!(found.what, wanted, "{measures:?}: {}", found.text);
        }
    }

    /// Goal: the worst comes first, by name, and nothing is a problem when all is well.
    #[test]
    fn the_first_problem_is_named() {
        let worker = |name: &str| WorkerState {
            name: name.to_owned(),
            address: "tcp://a:1".to_owned(),
            ..WorkerState::default()
        };
        let paused = WorkerState { paused: true, ..worker("w1") };
        let silent = WorkerState { silent_secs: 60.0, ..worker("w2") };
        let text = |m: &Measures, workers: &[WorkerState]| {
            problem(m, Some("ValueError('x')"), workers)
                .map(|found| found["text"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(text(&busy(), &[worker("w")]), None);
        assert!(text(&busy(), std::slice::from_ref(&paused)).is_some_and(|text| text.contains("w1 is paused")));
        let erred = Measures { erred: 2, ..busy() };
        assert_eq!(text(&erred, &[paused]).as_deref(), Some("2 tasks failed: ValueError('x')"));
        assert!(text(&erred, &[silent]).is_some_and(|text| text.starts_with("Worker w2")));
    }
}
