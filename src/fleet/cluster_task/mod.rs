//! The owner of one cluster: its life from the first process to the last.

mod end;
mod jobs;
mod remote;
mod share;
mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::deaths::Deaths;
use super::jobs::ClusterJobs;
use super::plan::{Lifetimes, ScalingPlan, Seen};
use super::poll::{Polled, ask, poll};
use super::record::Body;
use super::remote_workers::RemoteWorkers;
use super::shared::{ClusterEntry, ClusterOrder, FleetShared};
use super::step::{Connected, PlanStep};
use super::types::{ClusterStatus, ClusterView, FleetError, FleetEvent};
use super::{config::ClusterFolder, logs};
use crate::control::{PoolQuestion, PoolReport, SchedulerQuestion};
use crate::files;
use crate::link::Link;
use crate::peer::{EnvLock, PeerEvent};
use crate::store::{ClusterRecord, StoreError};
use crate::supervise::policy::{Next, Policy, ProcessEnd, RestartRule};
use crate::supervise::{DetachedProcess, ExitCause, last_lines};

/// Pause between two polls of a scheduler that starts. It listens within 0.1 s.
const START_POLL: Duration = Duration::from_millis(10);
/// Pause between two polls while workers come or go.
const QUICK_POLL: Duration = Duration::from_millis(250);
/// A scheduler that has not answered for this long is worth a word.
const SILENCE: Duration = Duration::from_secs(15);
/// Longest wait for a process that may be an older rask, or none.
const HELLO: Duration = Duration::from_secs(5);
/// Ends in a row, each soon after its start, before the cluster of `rask up` is given up.
const FAILURES_MAX: u32 = 8;
/// Pause between two checks of the size of logs and of what was computed. Unit: seconds.
const CHORES_SECS: f64 = 30.0;

/// Where a cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is to be started.
    New,
    /// An appliance before this one started it.
    Found,
}

/// Why a cluster ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClusterEnd {
    /// Somebody wanted it, or its time was over.
    Meant(String),
    /// Its scheduler ended cleanly, but not on our word.
    Itself(String),
    /// It failed.
    Failed { why: String, last_lines: Vec<String> },
    /// It goes on without us: another version of rask must look after it.
    Strange(String),
}

impl ClusterEnd {
    fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into(), last_lines: Vec::new() }
    }
}

/// See the module's documentation.
pub(super) struct ClusterTask {
    shared: Arc<FleetShared>,
    view: ClusterView,
    body: Body,
    folder: ClusterFolder,
    inbox: mpsc::Receiver<ClusterOrder>,
    link: Link,
    pool_link: Link,
    scheduler: Option<DetachedProcess>,
    pool: Option<DetachedProcess>,
    pool_policy: Policy,
    /// Not before this is the pool started again.
    pool_after: Option<Instant>,
    pool_since: Instant,
    plan: ScalingPlan,
    /// What the pool told last.
    told: PoolReport,
    deaths: Deaths,
    had_workers: bool,
    python: PathBuf,
    next_check: Instant,
    next_chores_secs: f64,
    /// Computations below this number are in the history.
    noted: u64,
    poll_now: bool,
    settled: bool,
    /// Workers that were let start here, of which the pool may not have told yet.
    granted: u32,
    /// Wanted, and more than all clusters together may have here.
    beyond_share: u32,
    /// Since when its scheduler has not answered.
    silent: Option<Instant>,
    /// Other machines, if the cluster may have workers there.
    remote: Option<RemoteWorkers>,
    /// What its Python consists of, for them.
    lock: Option<EnvLock>,
    /// Workers at the scheduler, as of the last poll.
    connected: Vec<Connected>,
    /// What becomes its machines, if its workers are jobs.
    jobs: Option<ClusterJobs>,
}

impl ClusterTask {
    pub(super) fn new(
        shared: Arc<FleetShared>,
        view: ClusterView,
        body: Body,
        inbox: mpsc::Receiver<ClusterOrder>,
    ) -> Self {
        let folder = shared.config.folder(view.name.as_str());
        let lifetimes = Lifetimes {
            idle_secs: body.settings.idle_timeout_secs.filter(|secs| *secs > 0.0),
            total_secs: body.settings.max_lifetime_secs.filter(|secs| *secs > 0.0),
        };
        Self {
            link: Link::new(folder.control()),
            pool_link: Link::new(folder.workers()),
            scheduler: None,
            pool: None,
            pool_policy: Policy::new(RestartRule::Always, None),
            pool_after: None,
            pool_since: Instant::now(),
            plan: ScalingPlan::new(body.target, body.adapt, lifetimes),
            told: PoolReport::default(),
            deaths: Deaths::default(),
            had_workers: false,
            python: PathBuf::new(),
            next_check: Instant::now(),
            next_chores_secs: 0.0,
            noted: 0,
            poll_now: true,
            settled: false,
            silent: None,
            granted: 0,
            beyond_share: 0,
            remote: None,
            lock: None,
            connected: Vec::new(),
            jobs: None,
            shared,
            view,
            body,
            folder,
            inbox,
        }
    }

    /// Starts a life in a task of its own.
    pub(super) fn spawn(
        shared: Arc<FleetShared>,
        view: ClusterView,
        body: Body,
        inbox: mpsc::Receiver<ClusterOrder>,
        from: Origin,
    ) {
        Self::new(shared, view, body, inbox).go(from);
    }

    pub(super) fn go(self, from: Origin) {
        tokio::spawn(self.run(from));
    }

    /// As if it had never been: it could not be recorded.
    pub(super) fn vanish(self) {
        let name = self.view.name.to_string();
        self.shared.directory.send_modify(|directory| drop(directory.remove(&name)));
    }

    async fn run(mut self, mut from: Origin) {
        let mut policy = Policy::new(RestartRule::Always, Some(FAILURES_MAX));
        loop {
            let born = Instant::now();
            let (end, ran) = match self.begin(from).await {
                Ok(()) => (self.live().await, true),
                Err(end) => (end, false),
            };
            self.finish(&end).await;
            // Whether the cluster of `rask up` is made anew at its start, and how, the appliance decides.
            let was_lost = from == Origin::Found && !ran;
            if self.body.plain_address.is_none()
                || was_lost
                || matches!(end, ClusterEnd::Meant(_) | ClusterEnd::Strange(_))
            {
                return;
            }
            // The cluster of `rask up` is meant to be there always.
            let lived_ms = u64::try_from(born.elapsed().as_millis()).unwrap_or(u64::MAX);
            match policy.on_end(ProcessEnd::Failed, lived_ms) {
                Next::After(pause_ms) => {
                    tracing::warn!(cluster = %self.view.name, pause_ms, "the cluster is started again");
                    if self.pause(Duration::from_millis(pause_ms)).await {
                        return;
                    }
                }
                Next::Done | Next::GaveUp => {
                    return tracing::error!(cluster = %self.view.name, "given up after {FAILURES_MAX} tries");
                }
            }
            if self.shared.closing.load(Ordering::Relaxed) {
                return;
            }
            self.renew().await;
            from = Origin::New;
        }
    }

    /// Waits before a new start. `true`: it is not wanted any more.
    async fn pause(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        while let Ok(command) = tokio::time::timeout_at(end, self.inbox.recv()).await {
            match command {
                Some(ClusterOrder::Stop { heard, .. }) => {
                    drop(heard.send(Ok(())));
                    return true;
                }
                Some(command) => drop(self.on_command(command)),
                None => return true,
            }
        }
        false
    }

    /// A new life under the old name.
    async fn renew(&mut self) {
        self.view.start_ms = self.shared.now_ms();
        (self.view.stop_ms, self.view.reason) = (None, None);
        (self.view.ran, self.body.ran) = (false, false);
        (self.noted, self.silent) = (0, None);
        self.view.last_lines.clear();
        self.body.last_lines.clear();
        (self.body.scheduler, self.body.pool) = (None, None);
        (self.scheduler, self.pool, self.told, self.had_workers) = (None, None, PoolReport::default(), false);
        self.plan = ScalingPlan::new(self.body.target, self.body.adapt, Lifetimes::default());
        self.set_status(ClusterStatus::Pending);
        self.keep().await;
    }

    async fn live(&mut self) -> ClusterEnd {
        loop {
            let pause = if std::mem::take(&mut self.poll_now) {
                Duration::ZERO
            } else if self.settled {
                self.shared.config.adaptive_period
            } else {
                QUICK_POLL
            };
            let looking = poll(self.link.clone(), self.pool.is_some().then(|| self.pool_link.clone()), pause);
            tokio::select! {
                // What happened counts before what is asked.
                biased;
                cause = ended(&mut self.scheduler) => return self.on_scheduler_end(cause),
                cause = ended(&mut self.pool) => self.on_pool_end(cause),
                event = happened(&mut self.remote) => self.on_peer(&event).await,
                Some(command) = self.inbox.recv() => if let Some(end) = self.on_command(command) {
                    return end;
                } else {
                    self.keep().await;
                },
                seen = looking => if let Some(end) = self.on_poll(seen).await {
                    return end;
                },
            }
        }
    }

    /// `Some`: the cluster was told to end.
    fn on_command(&mut self, command: ClusterOrder) -> Option<ClusterEnd> {
        let heard = match command {
            ClusterOrder::Scale { workers, heard } => {
                self.body.grows_from = None;
                self.plan.scale(workers.min(self.most()));
                heard
            }
            ClusterOrder::Adapt { mut wish, heard } => {
                self.body.grows_from = None;
                if let Some(most) = self.body.settings.max_workers {
                    wish.minimum = wish.minimum.map(|minimum| minimum.min(most));
                    wish.maximum = Some(wish.maximum.map_or(most, |maximum| maximum.min(most)));
                }
                self.plan.adapt(wish);
                heard
            }
            ClusterOrder::Stop { why, heard } => {
                self.view.reason = Some(why.clone());
                self.set_status(ClusterStatus::Stopping);
                acknowledge(heard);
                return Some(ClusterEnd::Meant(why));
            }
        };
        self.poll_now = true;
        if let Some(jobs) = &mut self.jobs {
            jobs.retry();
        }
        self.note_plan();
        self.publish();
        acknowledge(heard);
        None
    }

    fn most(&self) -> u32 {
        self.body.settings.max_workers.unwrap_or(u32::MAX)
    }

    /// Brings the record in line with the plan. `true`: something changed.
    fn note_plan(&mut self) -> bool {
        let (target, adapt) = (self.plan.target(), self.plan.bounds());
        let changed = (self.body.target, self.body.adapt) != (target, adapt);
        if self.body.target != target {
            self.shared.tell(FleetEvent::Target { cluster: self.view.name.to_string(), target });
        }
        (self.body.target, self.body.adapt) = (target, adapt);
        changed
    }

    async fn on_poll(&mut self, mut looked: Polled) -> Option<ClusterEnd> {
        self.do_chores().await;
        if let Some(end) = looked.pool.take().and_then(|pool| self.on_pool(pool)) {
            return Some(end);
        }
        // It may be in a long step; whether it lives, its process tells, and whether it spins, it tells itself.
        self.note_silence(looked.scheduler.is_some());
        let state = looked.scheduler.as_ref()?;
        let workers = self.pool.is_some().then_some(self.told.workers.as_slice());
        let age_secs = self.shared.now_ms().saturating_sub(self.view.start_ms) as f64 / 1e3;
        let mut seen = super::poll::seen(state, workers, self.shared.now_secs(), age_secs);
        self.see_others(&mut seen);
        let check = Instant::now() >= self.next_check;
        if check {
            // Looks come a little late each time; checks should not come ever later.
            self.next_check = Instant::now() + self.shared.config.adaptive_period.mul_f64(0.9);
        }
        let steps = self.plan.decide(&seen, check);
        self.settled = self.plan.is_settled(&seen) || self.waits_for_jobs(&seen);
        if self.note_plan() {
            self.keep().await;
        }
        let steps = self.within_share(steps);
        self.note_workers(&seen);
        for step in steps {
            if let Some(end) = self.carry(step).await {
                return Some(end);
            }
        }
        self.tell_silence().await;
        self.follow_others(&seen).await;
        self.tend_jobs(&seen).await;
        None
    }

    /// A scheduler that does not answer for long is spoken of until it does.
    fn note_silence(&mut self, answered: bool) {
        let silent = *self.silent.get_or_insert_with(Instant::now);
        let known = self.view.reason.is_some();
        if answered {
            self.silent = None;
            if known {
                tracing::info!(cluster = %self.view.name, "its scheduler answers again");
                self.view.reason = None;
                self.publish();
            }
        } else if silent.elapsed() >= SILENCE && !known {
            let pid = self.scheduler.as_ref().map_or(0, |process| process.id().pid);
            let why = format!(
                "its scheduler (process {pid}) has not answered for {} s: it is stopped, in a very long step, or stuck; \
                 one that spins ends by itself after scheduler.stuck-after",
                silent.elapsed().as_secs()
            );
            tracing::warn!(cluster = %self.view.name, "{why}");
            self.view.reason = Some(why);
            self.publish();
        }
    }

    fn note_workers(&mut self, seen: &Seen) {
        let workers = u32::try_from(seen.connected.len()).unwrap_or(u32::MAX);
        self.had_workers |= workers > 0;
        let changed = self.view.workers != workers;
        self.view.workers = workers;
        if changed {
            self.shared.tell(FleetEvent::Workers { cluster: self.view.name.to_string(), workers });
        }
        let without_room = self.without_room();
        let without_room = std::mem::replace(&mut self.view.without_room, without_room);
        if changed
            || without_room != self.view.without_room
            || self.view.target != self.body.target
            || self.view.adapt != self.body.adapt
        {
            self.publish();
        }
    }

    /// News from the pool.
    fn on_pool(&mut self, pool: PoolReport) -> Option<ClusterEnd> {
        self.tell_deaths("", pool.deaths, &pool.recent_deaths);
        let before = std::mem::replace(&mut self.told, pool);
        let pool = &self.told;
        // None ever came, and the first was tried often: the rest would not either.
        if pool.given_up > before.given_up && !self.had_workers {
            let cause = pool.recent_deaths.last().cloned().unwrap_or_default();
            let name = cause.split(':').next().unwrap_or_default().to_owned();
            let log = logs::LogSource::Worker(name).path(&self.folder.logs);
            let last_lines = last_lines(&log, 0);
            return Some(ClusterEnd::Failed { why: format!("its workers cannot be started: {cause}"), last_lines });
        }
        None
    }

    async fn carry(&mut self, step: PlanStep) -> Option<ClusterEnd> {
        let name = self.view.name.to_string();
        match step {
            PlanStep::Grow(workers) if self.pool.is_none() => self.launch_pool(workers).await,
            PlanStep::Grow(workers) => {
                if let Some(state) = ask::<PoolReport>(&self.pool_link, PoolQuestion::Grow { workers }).await {
                    return self.on_pool(state);
                }
            }
            PlanStep::Stop(names) => {
                drop(ask::<PoolReport>(&self.pool_link, PoolQuestion::StopWorkers { names }).await)
            }
            PlanStep::GrowAt { host, workers } => self.grow_at(&host, workers).await,
            PlanStep::StopAt { host, names } if host.is_empty() => {
                drop(ask::<PoolReport>(&self.pool_link, PoolQuestion::StopWorkers { names }).await);
            }
            PlanStep::StopAt { host, names } => {
                if let Some(remote) = &mut self.remote {
                    remote.stop(&host, names).await;
                }
            }
            PlanStep::RetireThese(names) => {
                drop(ask::<Vec<String>>(&self.link, SchedulerQuestion::RetireThese { names }).await);
            }
            PlanStep::Retire { keep } => {
                if let Some(names) = ask::<Vec<String>>(&self.link, SchedulerQuestion::Retire { keep }).await
                    && !names.is_empty()
                {
                    tracing::info!(cluster = name, "retiring {}", names.join(", "));
                }
            }
            PlanStep::Note(text) => tracing::warn!(cluster = name, "{text}"),
            PlanStep::Warn(text) => {
                tracing::warn!(cluster = name, "{text}");
                drop(ask::<serde_json::Value>(&self.link, SchedulerQuestion::Warn { text }).await);
            }
            PlanStep::End(why) => {
                tracing::warn!(cluster = name, "the cluster ends: {why}");
                self.view.reason = Some(why.clone());
                self.set_status(ClusterStatus::Stopping);
                return Some(ClusterEnd::Meant(why));
            }
        }
        None
    }

    async fn launch_pool(&mut self, workers: u32) {
        let Some(address) = self.view.scheduler_address.clone() else { return };
        if self.pool_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        match DetachedProcess::launch(&self.launch().pool(&address, workers)) {
            Ok(process) => {
                self.body.pool = Some(process.id());
                self.pool = Some(process);
                self.pool_since = Instant::now();
                self.told = PoolReport::default();
                self.deaths.begin("");
                self.keep().await;
            }
            Err(error) => {
                tracing::error!(cluster = %self.view.name, %error, "its worker pool could not be started");
                self.pool_after = Some(Instant::now() + QUICK_POLL * 10);
            }
        }
    }

    fn on_pool_end(&mut self, cause: Option<ExitCause>) {
        let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
        tracing::warn!(cluster = %self.view.name, "its worker pool ended{cause}; it is started again when needed");
        let lived_ms = u64::try_from(self.pool_since.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Next::After(pause_ms) = self.pool_policy.on_end(ProcessEnd::Failed, lived_ms) {
            self.pool_after = Some(Instant::now() + Duration::from_millis(pause_ms));
        }
        (self.pool, self.body.pool, self.told) = (None, None, PoolReport::default());
        // Its workers are missed from now on, not from the next slow poll.
        self.settled = false;
        let cause = format!("the worker pool ended{cause}");
        self.shared.tell(FleetEvent::WorkerDied { cluster: self.view.name.to_string(), cause });
    }

    // ---- what others know -----------------------------------------------------------------------------------

    fn set_status(&mut self, status: ClusterStatus) {
        self.view.status = status;
        self.publish();
        self.tell_status();
    }

    fn tell_status(&self) {
        self.shared.tell(FleetEvent::Status {
            cluster: self.view.name.to_string(),
            user: self.view.user.clone(),
            status: self.view.status,
            reason: self.view.reason.clone(),
        });
    }

    fn publish(&mut self) {
        (self.view.target, self.view.adapt) = (self.body.target, self.body.adapt);
        self.view.scheduler_pid = self.scheduler.as_ref().map(|process| process.id().pid);
        if self.view.status.is_final() {
            self.view.tls = None;
        }
        let view = Arc::new(self.view.clone());
        let here = u32::try_from(self.told.workers.len()).unwrap_or(u32::MAX).max(self.granted);
        self.shared.directory.send_modify(|directory| {
            if let Some(entry) = directory.get_mut(view.name.as_str()) {
                *entry = ClusterEntry { view, here, ..entry.clone() };
            }
        });
    }

    /// Writes the record.
    ///
    /// Errors: the store's.
    pub(super) async fn save(&self) -> Result<(), StoreError> {
        let body = serde_json::to_string(&self.body).unwrap_or_default();
        let record = ClusterRecord {
            name: self.view.name.to_string(),
            start_ms: self.view.start_ms,
            user: self.view.user.clone(),
            status: self.view.status.as_str().to_owned(),
            stop_ms: self.view.stop_ms,
            reason: self.view.reason.clone(),
            body,
        };
        if self.scheduler.is_some() {
            self.save_copy(&record).await;
        }
        self.shared.store.upsert_cluster(record).await
    }

    /// Disks may be slow, and other clusters are looked after on this thread.
    async fn save_copy(&self, record: &ClusterRecord) {
        let (path, text) = (self.folder.record(), serde_json::to_vec(record).unwrap_or_default());
        let written = tokio::task::spawn_blocking(move || files::write_atomic(&path, &text, files::PRIVATE)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(cluster = %self.view.name, %error, "the copy of its record could not be written");
        }
    }

    /// Writes the record; a cluster that runs is not ended because that fails.
    async fn keep(&self) {
        if let Err(error) = self.save().await {
            tracing::error!(cluster = %self.view.name, %error, "its record could not be written: {}", error.remedy());
        }
    }
}

/// Whoever asked may have given up.
fn acknowledge(heard: oneshot::Sender<Result<(), FleetError>>) {
    drop(heard.send(Ok(())));
}

/// The next that happens to another machine, if any may have a part.
async fn happened(remote: &mut Option<RemoteWorkers>) -> PeerEvent {
    match remote {
        Some(remote) => remote.next().await,
        None => std::future::pending().await,
    }
}

/// The end of a process, if there is one.
async fn ended(process: &mut Option<DetachedProcess>) -> Option<ExitCause> {
    match process {
        Some(process) => process.ended().await,
        None => std::future::pending().await,
    }
}
