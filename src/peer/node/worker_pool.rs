//! The worker pools on a joined machine: made, kept and ended as the head wants them.
//!
//! A pool is the same `rask worker` process as beside a scheduler, and outlives this one: whoever comes after us finds
//! it at its control socket. What the head wants comes whole; what is there is compared with it again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, timeout};

use super::link::PoolOrder;
use crate::base::BoxError;
use crate::control::{PoolQuestion, PoolReport, Question};
use crate::link::Link;
use crate::peer::env_lock::EnvLock;
use crate::peer::wire::{LOG_LINES_MAX, Phase, PoolState, PoolWant, ToHead};
use crate::supervise::{DetachedProcess, OWN, Output, ParentDeath, ProcessId, Spec, last_lines, policy::RestartRule};

/// Finds or makes the environment of a lock; says what it does meanwhile.
pub type FindEnv =
    Arc<dyn Fn(EnvLock, mpsc::UnboundedSender<String>) -> BoxFuture<'static, Result<PathBuf, BoxError>> + Send + Sync>;

/// Pause between two checks of the pools.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for a pool's answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Before another try of what failed.
const AGAIN: Duration = Duration::from_secs(30);
/// Before a pool that ended is started again.
const RESTART: Duration = Duration::from_secs(2);
/// Orders waiting.
const ORDERS: usize = 64;
/// Between `SIGTERM` and `SIGKILL`: its workers' nannies need 5 s.
const GRACE: Duration = Duration::from_millis(6500);
/// Longest name of a cluster; a head that sends another is not ours.
const NAME_MAX: usize = 100;

/// What the pools of a machine have in common.
#[derive(Clone)]
pub struct PoolsConfig {
    /// Files of pools go into folders below this one.
    pub folder: PathBuf,
    /// Arguments of every rask process: configuration, state folder, form of the log.
    pub common_args: Vec<OsString>,
    /// Older files kept of each log.
    pub log_keep: u32,
    /// For pools that name no lock.
    pub python: Option<PathBuf>,
    /// For those that do.
    pub find_env: FindEnv,
    /// Whether pools outlive us.
    pub parent_death: ParentDeath,
}

/// The owner's ends: where orders go, and what is.
pub struct PoolsHandle {
    /// From the link.
    pub orders: mpsc::Sender<PoolOrder>,
    /// For the link.
    pub states: watch::Receiver<Vec<PoolState>>,
    stop: mpsc::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl PoolsHandle {
    /// Ends all pools, as far as they end within their grace.
    pub async fn stop(self) {
        // An owner that ended has nothing to stop.
        let _ended = self.stop.send(()).await;
        let _joined = self.task.await;
    }
}

/// Starts the owner. Must run on the main thread's runtime.
pub fn start(config: PoolsConfig) -> PoolsHandle {
    let (orders, inbox) = mpsc::channel(ORDERS);
    let (shown, states) = watch::channel(Vec::new());
    let (stop, stopped) = mpsc::channel(1);
    let (done, made) = mpsc::channel(4);
    let owner = PoolsOwner {
        config,
        pools: BTreeMap::new(),
        envs: BTreeMap::new(),
        locks: BTreeMap::new(),
        ending: BTreeMap::new(),
        shown,
        done,
        heard: false,
    };
    let task = tokio::spawn(owner.run(inbox, made, stopped));
    PoolsHandle { orders, states, stop, task }
}

/// An environment.
enum Env {
    Making { note: String, progress: mpsc::UnboundedReceiver<String> },
    Ready(PathBuf),
    Failed { why: String, at: Instant },
}

struct ManagedPool {
    want: PoolWant,
    /// None: the head does not want it any more.
    folder: PathBuf,
    link: Link,
    process: Option<DetachedProcess>,
    told: PoolReport,
    phase: Phase,
    note: String,
    /// Not before this is it started (again).
    after: Instant,
    /// Workers that were told to stop.
    stopped: BTreeSet<String>,
    /// The last revision that was carried out.
    seen: Option<u64>,
}

struct PoolsOwner {
    config: PoolsConfig,
    pools: BTreeMap<String, ManagedPool>,
    envs: BTreeMap<String, Env>,
    locks: BTreeMap<String, EnvLock>,
    /// Pools that end; one of the same name waits for it.
    ending: BTreeMap<String, tokio::task::JoinHandle<()>>,
    shown: watch::Sender<Vec<PoolState>>,
    done: mpsc::Sender<(String, Result<PathBuf, BoxError>)>,
    /// Did the head say what it wants? Before that, what is found is left alone.
    heard: bool,
}

impl PoolsOwner {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<PoolOrder>,
        mut made: mpsc::Receiver<(String, Result<PathBuf, BoxError>)>,
        mut stop: mpsc::Receiver<()>,
    ) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.on_order(order).await,
                    None => return,
                },
                Some((hash, result)) = made.recv() => self.on_env(hash, result),
                _ = tick.tick() => {}
                _ = stop.recv() => return self.stop_all().await,
            }
            self.tend().await;
            self.show();
        }
    }

    fn show(&self) {
        let states: Vec<PoolState> = self.pools.values().map(ManagedPool::state).collect();
        self.shown.send_if_modified(|shown| {
            let news = *shown != states;
            if news {
                *shown = states;
            }
            news
        });
    }

    async fn on_order(&mut self, order: PoolOrder) {
        match order {
            PoolOrder::Want(wants) => self.on_want(wants).await,
            PoolOrder::Lock(lock) => drop(self.locks.insert(lock.hash(), lock)),
            PoolOrder::Logs { call, cluster, tail, answer } => {
                let lines = if is_name(&cluster) { self.tail(&cluster, tail) } else { Vec::new() };
                // The link may be gone, and the asker with it.
                let _gone = answer.try_send(ToHead::Lines { call, lines });
            }
        }
    }

    async fn on_want(&mut self, wants: Vec<PoolWant>) {
        let first = !std::mem::replace(&mut self.heard, true);
        let wants: BTreeMap<String, PoolWant> =
            wants.into_iter().filter(|want| is_name(&want.cluster)).map(|want| (want.cluster.clone(), want)).collect();
        if first {
            self.end_leftovers(&wants).await;
        }
        let ended: Vec<String> = self.pools.keys().filter(|name| !wants.contains_key(*name)).cloned().collect();
        for name in ended {
            if let Some(pool) = self.pools.remove(&name) {
                tracing::info!(cluster = name, "not wanted here any more");
                self.ending.insert(name, tokio::spawn(pool.end()));
            }
        }
        for (name, want) in wants {
            match self.pools.get_mut(&name) {
                // The same cluster: only numbers may differ.
                Some(pool) if pool.want.is_of(&want) => pool.want = want,
                Some(_) => {
                    // Another cluster of the same name: the old one's workers have nobody to work for.
                    if let Some(old) = self.pools.remove(&name) {
                        old.end().await;
                    }
                    self.pools.insert(name.clone(), ManagedPool::new(&self.config, want));
                }
                None => drop(self.pools.insert(name.clone(), ManagedPool::new(&self.config, want))),
            }
        }
    }

    /// Pools of a process before us that nobody wants.
    async fn end_leftovers(&self, wants: &BTreeMap<String, PoolWant>) {
        for entry in fs::read_dir(&self.config.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let folder = entry.path();
            let same = wants
                .get(&name)
                .is_some_and(|want| fs::read_to_string(folder.join("tls.crt")).is_ok_and(|cert| cert == want.cert));
            if !same {
                end_at(&folder).await;
            }
        }
    }

    fn tail(&self, cluster: &str, tail: usize) -> Vec<String> {
        let logs = self.config.folder.join(cluster).join("logs");
        let mut lines = Vec::new();
        let files = fs::read_dir(&logs).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        files.sort();
        for path in files {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            lines.extend(last_lines(&path, 0).into_iter().map(|line| format!("{name} | {line}")));
        }
        let skip = lines.len().saturating_sub(tail.min(LOG_LINES_MAX));
        lines.split_off(skip)
    }

    fn on_env(&mut self, hash: String, result: Result<PathBuf, BoxError>) {
        let env = match result {
            Ok(path) => Env::Ready(path),
            Err(why) => {
                tracing::error!(error = %why, "the head's Python environment is not to be had here");
                Env::Failed { why: why.to_string(), at: Instant::now() }
            }
        };
        self.envs.insert(hash, env);
    }

    /// The Python for a want; or what is lacking, in words.
    fn python(&mut self, want: &PoolWant) -> Result<PathBuf, (Phase, String)> {
        let Some(hash) = &want.lock else {
            let none = || (Phase::Failed, "no Python with dask and distributed here".to_owned());
            return self.config.python.clone().ok_or_else(none);
        };
        let again = match self.envs.get_mut(hash) {
            Some(Env::Ready(path)) if path.exists() => return Ok(path.clone()),
            Some(Env::Failed { why, at }) if at.elapsed() < AGAIN => return Err((Phase::Failed, why.clone())),
            Some(Env::Making { note, progress }) => {
                while let Ok(line) = progress.try_recv() {
                    *note = line;
                }
                return Err((Phase::Preparing, note.clone()));
            }
            // Removed by somebody, or time to try again.
            Some(Env::Ready(_) | Env::Failed { .. }) | None => hash.clone(),
        };
        let Some(lock) = self.locks.get(&again).cloned() else {
            return Err((Phase::Preparing, "waiting for the description of the head's Python".to_owned()));
        };
        let (tell, progress) = mpsc::unbounded_channel();
        let (find, done) = ((self.config.find_env)(lock, tell), self.done.clone());
        let hash = again.clone();
        tokio::spawn(async move {
            let result = find.await;
            // The owner ended: nobody needs it.
            let _gone = done.send((hash, result)).await;
        });
        let note = "looking for the head's Python environment".to_owned();
        self.envs.insert(again, Env::Making { note: note.clone(), progress });
        Err((Phase::Preparing, note))
    }

    /// Brings every pool closer to what is wanted of it.
    async fn tend(&mut self) {
        let names: Vec<String> = self.pools.keys().cloned().collect();
        for name in names {
            // Its files are those of the one that ends.
            if self.ending.get(&name).is_some_and(|end| !end.is_finished()) {
                continue;
            }
            self.ending.remove(&name);
            let Some(mut pool) = self.pools.remove(&name) else { continue };
            let python = self.python(&pool.want);
            pool.tend(&self.config, python).await;
            self.pools.insert(name, pool);
        }
    }

    async fn stop_all(mut self) {
        let pools = std::mem::take(&mut self.pools);
        futures_util::future::join_all(pools.into_values().map(ManagedPool::end)).await;
        futures_util::future::join_all(std::mem::take(&mut self.ending).into_values()).await;
        self.shown.send_replace(Vec::new());
    }
}

impl ManagedPool {
    fn new(config: &PoolsConfig, want: PoolWant) -> Self {
        let folder = config.folder.join(&want.cluster);
        Self {
            link: Link::new(folder.join("workers.sock")),
            folder,
            want,
            process: None,
            told: PoolReport::default(),
            phase: Phase::Preparing,
            note: String::new(),
            after: Instant::now(),
            stopped: BTreeSet::new(),
            seen: None,
        }
    }

    fn state(&self) -> PoolState {
        let running = self.told.workers.iter().filter(|worker| worker.pid.is_some()).count();
        PoolState {
            cluster: self.want.cluster.clone(),
            running: u32::try_from(running).unwrap_or(u32::MAX),
            phase: self.phase,
            note: self.note.clone(),
            revision: self.seen,
            workers: self.told.workers.clone(),
            deaths: self.told.deaths,
            recent_deaths: self.told.recent_deaths.clone(),
        }
    }

    async fn tend(&mut self, config: &PoolsConfig, python: Result<PathBuf, (Phase, String)>) {
        if let Some(state) = self.ask(PoolQuestion::State).await {
            self.told = state;
            (self.phase, self.note) = (Phase::Running, String::new());
            return self.resize().await;
        }
        if self.process.as_ref().is_some_and(|process| process.id().is_alive()) {
            // It starts, or is too busy to answer.
            return;
        }
        self.told = PoolReport::default();
        if self.want.count == 0 || Instant::now() < self.after {
            return;
        }
        match python {
            Ok(python) => self.launch(config, &python),
            Err((phase, note)) => (self.phase, self.note) = (phase, note),
        }
    }

    async fn resize(&mut self) {
        let fresh: Vec<String> = self.want.stop.iter().filter(|name| !self.stopped.contains(*name)).cloned().collect();
        if !fresh.is_empty() {
            self.stopped.extend(fresh.iter().cloned());
            if let Some(state) = self.ask(PoolQuestion::StopWorkers { names: fresh }).await {
                self.told = state;
            }
        }
        if self.seen != Some(self.want.revision)
            && let Some(state) = self.ask(PoolQuestion::Grow { workers: self.want.count }).await
        {
            self.seen = Some(self.want.revision);
            self.told = state;
        }
    }

    async fn ask(&self, what: PoolQuestion) -> Option<PoolReport> {
        match timeout(PATIENCE, self.link.ask_for(what)).await {
            Ok(Ok(state)) => Some(state),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    fn launch(&mut self, config: &PoolsConfig, python: &Path) {
        self.after = Instant::now().checked_add(RESTART).unwrap_or_else(Instant::now);
        let launched = self.files().and_then(|()| DetachedProcess::launch(&self.spec(config, python)));
        match launched {
            Ok(process) => {
                tracing::info!(cluster = self.want.cluster, pid = process.id().pid, "a worker pool starts");
                self.process = Some(process);
                (self.phase, self.note) = (Phase::Running, "starting".to_owned());
            }
            Err(why) => {
                self.after = Instant::now().checked_add(AGAIN).unwrap_or_else(Instant::now);
                let full = why.kind() == io::ErrorKind::StorageFull;
                let why = if full { format!("the disk of {} is full", self.folder.display()) } else { why.to_string() };
                tracing::error!(cluster = self.want.cluster, error = why, "a worker pool cannot be started");
                (self.phase, self.note) = (Phase::Failed, why);
            }
        }
    }

    /// The cluster's certificate and key, for our eyes only.
    fn files(&self) -> io::Result<()> {
        for folder in [self.folder.clone(), self.folder.join("logs"), self.folder.join("spill")] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        for (name, text) in [("tls.crt", &self.want.cert), ("tls.key", &self.want.key)] {
            let path = self.folder.join(name);
            // One that is there keeps its mode; a new one never has another.
            let _may_not_exist = fs::remove_file(&path);
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    fn spec(&self, config: &PoolsConfig, python: &Path) -> Spec {
        let want = &self.want;
        let mut args: Vec<OsString> = vec!["worker".into()];
        args.extend(config.common_args.iter().cloned());
        args.push(want.scheduler.clone().into());
        let mut flag = |name: &str, value: OsString| args.extend([name.into(), value]);
        flag("--nworkers", want.count.to_string().into());
        flag("--nthreads", want.nthreads.max(1).to_string().into());
        flag("--memory-limit", format!("{} B", want.memory_bytes).into());
        flag("--name", want.name.clone().into());
        flag("--host", want.host.clone().into());
        flag("--python", python.into());
        flag("--engine", want.engine.name().into());
        flag("--local-directory", self.folder.join("spill").into());
        flag("--control-socket", self.folder.join("workers.sock").into());
        flag("--log-dir", self.folder.join("logs").into());
        flag("--log-keep", config.log_keep.to_string().into());
        flag("--dashboard-address", "127.0.0.1:0".into());
        flag("--protocol", "tls".into());
        let (cert, key) = (self.folder.join("tls.crt"), self.folder.join("tls.key"));
        flag("--tls-ca-file", cert.clone().into());
        flag("--tls-cert", cert.into());
        flag("--tls-key", key.into());
        args.extend(["--python-checked", "--no-dashboard"].map(OsString::from));
        if !want.nanny {
            args.push("--no-nanny".into());
        }
        let ours = |name: &str| name.starts_with("RASK_");
        let given = want.env.iter().filter(|(name, _)| !ours(name));
        let mut env: Vec<(OsString, Option<OsString>)> =
            given.map(|(name, value)| (name.into(), Some(value.into()))).collect();
        // What tasks open by themselves is encrypted too.
        env.push(("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION".into(), Some("True".into())));
        Spec {
            name: format!("workers of {}", want.cluster),
            program: OWN.into(),
            args,
            env,
            output: Output::File { path: self.folder.join("logs").join("workers.log"), keep: config.log_keep },
            parent_death: config.parent_death,
            cgroup: None,
            restart: RestartRule::Never,
            failures_max: None,
            grace: GRACE,
        }
    }

    async fn end(self) {
        end_at(&self.folder).await;
    }
}

impl PoolWant {
    /// Is it the same cluster, wanted in the same way but for numbers of workers?
    fn is_of(&self, other: &Self) -> bool {
        let Self {
            cluster, scheduler, cert, key, nthreads, memory_bytes, nanny, engine, name, env, lock, host, ..
        } = self;
        (cluster, scheduler, cert, key, nthreads, memory_bytes, nanny)
            == (
                &other.cluster,
                &other.scheduler,
                &other.cert,
                &other.key,
                &other.nthreads,
                &other.memory_bytes,
                &other.nanny,
            )
            && (engine, name, env, lock, host) == (&other.engine, &other.name, &other.env, &other.lock, &other.host)
    }
}

/// Ends whatever pool listens in a folder, and removes what was secret or large in it. Logs stay.
async fn end_at(folder: &Path) {
    let link = Link::new(folder.join("workers.sock"));
    if let Ok(Ok(hello)) = timeout(PATIENCE, link.hello()).await {
        let id = ProcessId { pid: hello.pid, started_ticks: hello.started_ticks };
        let told = timeout(PATIENCE, link.ask(Question::Stop)).await;
        tracing::debug!(pid = id.pid, answered = told.is_ok(), "a worker pool is told to stop");
        if timeout(GRACE, link.gone()).await.is_err() {
            tracing::warn!(pid = id.pid, "a worker pool does not end in time");
        }
        if let Ok(Some(mut process)) = DetachedProcess::adopt(id) {
            process.stop(GRACE).await;
        }
    }
    for file in ["tls.crt", "tls.key", "workers.sock"] {
        let _may_not_exist = fs::remove_file(folder.join(file));
    }
    let _may_not_exist = fs::remove_dir_all(folder.join("spill"));
}

/// The head's names of clusters: they become folders here.
fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.') && name.chars().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clusters_never_leave_their_folder() {
        assert!(["local", "a.b-c_1", "0123abc"].iter().all(|name| is_name(name)));
        assert!(!["", ".", "..", "a/b", "../x", "a b", "a\0"].iter().any(|name| is_name(name)));
    }
}
