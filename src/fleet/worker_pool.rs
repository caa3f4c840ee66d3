//! A worker pool: the process beside a scheduler that starts, watches and stops the cluster's worker processes.
//!
//! It outlives the appliance and ends with its scheduler. It is told over its own control socket how many workers there
//! should be at least, and which should go; those that die it starts again by itself, appliance or not.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::cgroup::WorkerCgroups;
use super::logs::{Logbook, Note};
use super::worker_exit::{NannyReport, nanny_report, own_end, with_last_words};
use crate::control::{PoolQuestion, PoolReport, Question, WorkerProcess};
use crate::link::{Incoming, Link};
use crate::supervise::policy::Next;
use crate::supervise::{Child, ExitCause, LineSink, Output, Report, Story};

/// Ends of workers that are told in words: whoever looks every few seconds misses none, short of a storm.
const RECENT_DEATHS: usize = 16;

/// Worker deaths that wait to be noted; a nanny reports a few per second at most.
const REMARKS: usize = 64;
/// Of a worker's last line, shown with its exit code.
const LINE_CHARS: usize = 200;

/// What a pool is made of.
pub struct PoolPlan {
    /// Names are this and a number.
    pub prefix: String,
    /// Workers to begin with.
    pub workers: u32,
    /// Memory of each, for what is said when it was not enough. Unit: bytes; 0: not limited.
    pub memory_bytes: u64,
    /// Where their logs go.
    pub logs: Logbook,
    /// The scheduler's control socket: when it is gone, so are we. None: it is on another machine.
    pub follow: Option<PathBuf>,
    /// Where cgroups for workers can be made.
    pub cgroups: Option<WorkerCgroups>,
    /// Starts a worker, which is a process or a task of this one.
    pub start: Box<dyn Fn(NewWorker) -> Child + Send>,
}

/// A worker to be started.
pub struct NewWorker {
    pub name: String,
    /// Where what it prints goes.
    pub output: Output,
    /// The control group for what runs clients' code.
    pub cgroup: Option<PathBuf>,
    /// Hears of its lives.
    pub reports: mpsc::UnboundedSender<Report>,
}

/// A worker.
struct PoolSlot {
    child: Option<Child>,
    state: WorkerProcess,
    /// Its nanny ends its worker for that; the end itself is still to come.
    short_of_memory: bool,
}

/// A line in which a nanny says how its worker ended.
struct Remark {
    worker: String,
    word: NannyReport,
}

/// The running pool. See the module's documentation.
struct WorkerPool {
    plan: PoolPlan,
    /// None: it is on another machine.
    scheduler: Option<Link>,
    slots: BTreeMap<u64, PoolSlot>,
    next: u64,
    deaths: u64,
    recent_deaths: Vec<String>,
    given_up: u64,
    reports: mpsc::UnboundedSender<Report>,
    remarks: mpsc::Sender<Remark>,
    stopped: mpsc::UnboundedSender<String>,
}

/// Runs a pool until its scheduler is gone, it is told to stop, or `signal` comes. Stops its workers before it returns.
///
/// `tell`: hears of every event, for the log. Must run on the main thread's runtime.
pub async fn run(
    plan: PoolPlan,
    mut inbox: mpsc::Receiver<Incoming>,
    signal: impl Future<Output = &'static str>,
    tell: impl Fn(&Report),
) {
    let (reports, mut reported) = mpsc::unbounded_channel();
    let (remarks, mut remarked) = mpsc::channel(REMARKS);
    let (stopped, mut have_stopped) = mpsc::unbounded_channel();
    let scheduler = plan.follow.clone().map(Link::new);
    let mut pool = WorkerPool {
        scheduler: scheduler.clone(),
        slots: BTreeMap::new(),
        next: 0,
        deaths: 0,
        recent_deaths: Vec::new(),
        given_up: 0,
        reports,
        remarks,
        stopped,
        plan,
    };
    pool.grow(pool.plan.workers);
    let mut signal = std::pin::pin!(signal);
    let mut gone = std::pin::pin!(async {
        match &scheduler {
            Some(scheduler) => scheduler.gone().await,
            None => std::future::pending().await,
        }
    });
    loop {
        tokio::select! {
            Some(report) = reported.recv() => {
                tell(&report);
                pool.on_report(report).await;
            }
            Some(remark) = remarked.recv() => pool.on_remark(remark).await,
            Some(name) = have_stopped.recv() => pool.forget(&name),
            Some(inbound) = inbox.recv() => if !pool.on_inbound(inbound) {
                tracing::info!("told to stop");
                break;
            },
            signal = &mut signal => {
                tracing::info!(signal, "stopping");
                break;
            }
            error = &mut gone => {
                tracing::info!(%error, "the scheduler is gone: stopping its workers");
                break;
            }
        }
    }
    pool.stop_all().await;
}

impl WorkerPool {
    // ---- what others want -----------------------------------------------------------------------------------

    /// `false`: the wish to stop.
    fn on_inbound(&mut self, inbound: Incoming) -> bool {
        let Incoming::Ask { what, reply } = inbound else { return true };
        match what {
            Question::Stop => {
                drop(reply.send("stopping".to_owned()));
                return false;
            }
            Question::Pool(PoolQuestion::Grow { workers }) => self.grow(workers),
            Question::Pool(PoolQuestion::StopWorkers { names }) => names.iter().for_each(|name| self.stop(name)),
            Question::Pool(PoolQuestion::State) => {}
            // Dropped unanswered: the asker is told so.
            Question::Health | Question::Hello | Question::Scheduler(_) => return true,
        }
        if let Ok(state) = serde_json::to_string(&self.state()) {
            // The asker may have given up.
            drop(reply.send(state));
        }
        true
    }

    fn state(&self) -> PoolReport {
        PoolReport {
            workers: self.slots.values().map(|slot| slot.state.clone()).collect(),
            deaths: self.deaths,
            recent_deaths: self.recent_deaths.clone(),
            given_up: self.given_up,
        }
    }

    /// Starts workers until this number is there, not counting those that are stopping.
    fn grow(&mut self, workers: u32) {
        let present = self.slots.values().filter(|slot| !slot.state.stopping).count();
        for _ in present..workers as usize {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            let name = format!("{}-{number}", self.plan.prefix);
            let child = (self.plan.start)(self.new_worker(&name));
            let state = WorkerProcess { name, ..WorkerProcess::default() };
            self.slots.insert(number, PoolSlot { child: Some(child), state, short_of_memory: false });
        }
    }

    fn new_worker(&self, name: &str) -> NewWorker {
        let output = match self.sink(name) {
            Ok(sink) => Output::LineSink(sink),
            Err(error) => {
                tracing::warn!(name, %error, "the worker's log cannot be opened; its output is in this log");
                Output::Prefixed(String::new())
            }
        };
        let cgroup = self.plan.cgroups.as_ref().and_then(|cgroups| cgroups.prepare(name));
        NewWorker { name: name.to_owned(), output, cgroup, reports: self.reports.clone() }
    }

    fn sink(&self, name: &str) -> io::Result<LineSink> {
        let (worker, remarks, memory) = (name.to_owned(), self.remarks.clone(), self.plan.memory_bytes);
        self.plan.logs.sink(name, move |line| {
            if let Some(word) = nanny_report(line, memory) {
                // Full: the nanny repeats itself.
                drop(remarks.try_send(Remark { worker: worker.clone(), word }));
            }
        })
    }

    fn stop(&mut self, name: &str) {
        let Some(slot) = self.slots.values_mut().find(|slot| slot.state.name == name) else { return };
        slot.state.stopping = true;
        if let Some(child) = slot.child.take() {
            let (stopped, name) = (self.stopped.clone(), name.to_owned());
            tokio::spawn(async move {
                child.stop().await;
                // The pool may be gone.
                drop(stopped.send(name));
            });
        }
    }

    async fn stop_all(&mut self) {
        let children: Vec<Child> = self.slots.values_mut().filter_map(|slot| slot.child.take()).collect();
        futures_util::future::join_all(children.into_iter().map(Child::stop)).await;
        for slot in self.slots.values() {
            if let Some(pid) = slot.state.pid {
                self.plan.logs.note(&slot.state.name, pid, Note::End { cause: "stopped with its cluster".to_owned() });
            }
        }
        if let Some(cgroups) = &self.plan.cgroups {
            self.slots.values().for_each(|slot| cgroups.remove(&slot.state.name));
        }
    }

    // ---- what happens ---------------------------------------------------------------------------------------

    async fn on_report(&mut self, report: Report) {
        let Some(slot) = self.slots.values_mut().find(|slot| slot.state.name == report.name) else { return };
        let name = slot.state.name.clone();
        match report.story {
            Story::Started { pid } => {
                slot.state.restarts = slot.state.restarts.saturating_add(u32::from(slot.state.last_cause.is_some()));
                slot.state.pid = Some(pid);
                self.plan.logs.note(&name, pid, Note::Start);
            }
            Story::Stopped { cause } => {
                if let Some(pid) = slot.state.pid.take() {
                    self.plan.logs.note(&name, pid, Note::End { cause: format!("stopped ({cause})") });
                }
            }
            Story::Died { cause, last_lines, next } => {
                let verdict = self.plan.cgroups.as_ref().and_then(|cgroups| cgroups.verdict(&name));
                let told = || match &cause {
                    ExitCause::Told(reason) => own_end(reason, self.plan.memory_bytes),
                    ExitCause::Code(_) | ExitCause::Signal(_) | ExitCause::NotStarted(_) => {
                        with_last_line(&cause, &last_lines)
                    }
                };
                let words = verdict.unwrap_or_else(told);
                let pid = slot.state.pid.take().unwrap_or_default();
                let asked_to = cause == ExitCause::Code(0);
                let words = match asked_to {
                    true => "left, as it was asked to".to_owned(),
                    false => with_last_words(words, &name, self.scheduler.as_ref()).await,
                };
                slot.state.last_cause = Some(words.clone());
                slot.state.last_lines = last_lines;
                self.plan.logs.note(&name, pid, Note::End { cause: words.clone() });
                if !asked_to {
                    self.note_death(format!("{name}: {words}"));
                }
                match next {
                    Next::After(_) => {}
                    Next::Done => self.forget(&name),
                    Next::GaveUp => {
                        self.given_up = self.given_up.wrapping_add(1);
                        self.forget(&name);
                    }
                }
            }
        }
    }

    /// A worker process died under its nanny, which starts another.
    async fn on_remark(&mut self, remark: Remark) {
        let Remark { worker, word } = remark;
        let Some(slot) = self.slots.values_mut().find(|slot| slot.state.name == worker) else { return };
        let told = std::mem::replace(&mut slot.short_of_memory, matches!(word, NannyReport::Memory(_)));
        let cause = match word {
            NannyReport::Memory(cause) => cause,
            // The signal by which the nanny ends it is not why.
            NannyReport::Ended(Some(cause)) if !told => cause,
            NannyReport::Ended(_) => return,
        };
        let cause = self.plan.cgroups.as_ref().and_then(|cgroups| cgroups.verdict(&worker)).unwrap_or(cause);
        let cause = with_last_words(cause, &worker, self.scheduler.as_ref()).await;
        tracing::warn!(name = worker, "{worker}: its worker process ended: {cause}");
        slot.state.last_cause = Some(cause.clone());
        self.plan.logs.note(&worker, slot.state.pid.unwrap_or_default(), Note::Restart { cause: cause.clone() });
        self.note_death(format!("{worker}: {cause}"));
    }

    fn note_death(&mut self, words: String) {
        self.deaths = self.deaths.wrapping_add(1);
        self.recent_deaths.push(words);
        if self.recent_deaths.len() > RECENT_DEATHS {
            self.recent_deaths.remove(0);
        }
    }

    fn forget(&mut self, name: &str) {
        self.slots.retain(|_, slot| slot.state.name != name);
        if let Some(cgroups) = &self.plan.cgroups {
            cgroups.remove(name);
        }
    }
}

/// `exit code 1 (ModuleNotFoundError: No module named 'x')`: one that ended by itself may have said why.
fn with_last_line(cause: &ExitCause, last_lines: &[String]) -> String {
    let last = last_lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
    match last.filter(|_| matches!(cause, ExitCause::Code(_))) {
        Some(line) => format!("{cause} ({})", line.chars().take(LINE_CHARS).collect::<String>()),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{PoolQuestion, ProcessInfo, SchedulerQuestion};
    use crate::link::{LinkError, serve};
    use crate::supervise::policy::RestartRule;
    use crate::supervise::{ParentDeath, Spec, start};
    use std::time::Duration;

    #[test]
    fn one_that_ended_by_itself_may_have_said_why() {
        let lines = ["Traceback".to_owned(), "ValueError: no".to_owned(), " ".to_owned()];
        assert_eq!(with_last_line(&ExitCause::Code(1), &lines), "exit code 1 (ValueError: no)");
        assert_eq!(with_last_line(&ExitCause::Signal(9), &lines), ExitCause::Signal(9).to_string());
        assert_eq!(with_last_line(&ExitCause::Code(1), &[]), "exit code 1");
    }

    /// Goal: workers come and go as asked, the dead come back, and all end with their scheduler.
    #[test]
    fn a_group_grows_shrinks_restarts_and_follows_its_scheduler() {
        let folder = std::env::temp_dir().join(format!("rask-group-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            std::fs::create_dir_all(&folder).expect("a folder");
            let (control, mut asked) = mpsc::channel(4);
            let _scheduler = serve(&folder.join("control.sock"), &ProcessInfo::default(), control).expect("listens");
            tokio::spawn(async move { while asked.recv().await.is_some() {} });
            let (sender, inbox) = mpsc::channel(4);
            let _served = serve(&folder.join("workers.sock"), &ProcessInfo::default(), sender).expect("listens");
            let plan = PoolPlan {
                prefix: "w".to_owned(),
                workers: 2,
                memory_bytes: 0,
                logs: Logbook::open(&folder.join("logs"), 1).expect("a folder"),
                follow: Some(folder.join("control.sock")),
                cgroups: None,
                start: Box::new(|new| {
                    let spec = Spec {
                        name: new.name,
                        program: "/bin/sleep".into(),
                        args: vec!["600".into()],
                        env: Vec::new(),
                        output: new.output,
                        parent_death: ParentDeath::Nothing,
                        cgroup: new.cgroup,
                        restart: RestartRule::Failure,
                        failures_max: Some(3),
                        grace: Duration::from_secs(5),
                    };
                    start(spec, new.reports)
                }),
            };
            let (end, ended) = tokio::sync::oneshot::channel();
            let signal = async { ended.await.unwrap_or("") };
            let running = tokio::spawn(run(plan, inbox, signal, |_| {}));
            let link = Link::new(folder.join("workers.sock"));
            let state = async |what: PoolQuestion| link.ask_for::<PoolReport>(what).await.expect("answered");
            let names = |state: &PoolReport| state.workers.iter().map(|w| w.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&state(PoolQuestion::Grow { workers: 3 }).await), ["w-0", "w-1", "w-2"]);
            state(PoolQuestion::StopWorkers { names: vec!["w-1".to_owned()] }).await;
            until(async || names(&state(PoolQuestion::State).await) == ["w-0", "w-2"]).await;
            let pid = state(PoolQuestion::State).await.workers.first().and_then(|w| w.pid).expect("runs");
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("fits")).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("there");
            until(async || state(PoolQuestion::State).await.workers.first().is_some_and(|w| w.restarts == 1)).await;
            let now = state(PoolQuestion::State).await;
            assert_eq!((now.deaths, names(&now)), (1, vec!["w-0".to_owned(), "w-2".to_owned()]));
            assert!(matches!(link.ask(SchedulerQuestion::State).await, Err(LinkError::Refused(_))));
            end.send("test").expect("runs");
            running.await.expect("no panic");
            let lives = super::super::logs::index(&folder.join("logs")).remove("w-0").expect("known").lives;
            assert_eq!(lives.len(), 2);
        });
        std::fs::remove_dir_all(folder).expect("removed");
    }

    async fn until(mut look: impl AsyncFnMut() -> bool) {
        for _ in 0..1000 {
            if look().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come");
    }
}
