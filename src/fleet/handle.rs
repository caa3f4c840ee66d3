//! The handle on the fleet: what others see of the clusters, and how they have them changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::cluster_task::{ClusterTask, Origin};
use super::config::{ClusterFolder, FleetConfig, Pythons};
use super::logs::LogSource;
use super::record::Body;
use super::remote_workers::RemoteWorkers;
use super::shared::{ClusterEntry, ClusterOrder, FleetShared};
use super::types::{Adapt, ClusterName, ClusterStatus, ClusterView, FleetError, FleetEvent, HEAD, NewCluster};
use crate::clock::Clock;
use crate::host::Interpreter;
use crate::link::Link;
use crate::pki::cluster_pair;
use crate::store::{ClusterFilter, ClusterRecord, HISTORY_DAYS, StoreError, StoreHandle};

/// Longest an owner may take to say that it heard. It talks to its processes meanwhile, a few seconds at most.
const HEARD: Duration = Duration::from_secs(15);
/// Commands waiting for one cluster.
const QUEUE: usize = 16;
/// News that a slow listener may miss at most.
const NEWS: usize = 1024;
/// Ended clusters are shown for a day. Unit: milliseconds.
///
/// Source: `dask_gateway_server/backends/db_base.py`, `cleanup_expired`.
const SHOWN_MS: i64 = 86_400_000;
const DAY: Duration = Duration::from_secs(86_400);
/// Ended clusters that are shown at most.
const SHOWN_MAX: u32 = 1000;

/// A handle on all clusters. Cheap to clone.
#[derive(Clone)]
pub struct FleetHandle {
    shared: Arc<FleetShared>,
}

impl FleetHandle {
    /// Takes the fleet over: clusters that still run are adopted, records of those that do not are closed.
    ///
    /// Must be called on the main thread's runtime. Errors: the store cannot be read.
    pub async fn start(config: FleetConfig, store: StoreHandle) -> Result<Self, StoreError> {
        let shared = Arc::new(FleetShared {
            pythons: Pythons::new(config.find_python.clone()),
            clock: Clock::start(),
            directory: watch::Sender::new(BTreeMap::new()),
            events: broadcast::Sender::new(NEWS),
            closing: AtomicBool::new(false),
            config,
            store,
        });
        let fleet = Self { shared };
        let since_ms = fleet.shared.now_ms().saturating_sub(SHOWN_MS);
        for record in fleet.shared.store.finished_clusters(since_ms, ClusterFilter::latest(SHOWN_MAX)).await? {
            fleet.show_ended(record);
        }
        for record in fleet.shared.store.load_clusters().await? {
            fleet.take_over(record);
        }
        fleet.take_over_unknown();
        tokio::spawn(fleet.clone().sweep_daily());
        Ok(fleet)
    }

    /// Shortens the history, now and every day: services run for months.
    async fn sweep_daily(self) {
        loop {
            if let Err(error) = self.shared.store.sweep(self.shared.now_ms()).await {
                tracing::warn!(%error, "the history could not be shortened");
            }
            self.sweep();
            sleep(DAY).await;
        }
    }

    /// Removes what clusters left that ended longer ago than the history reaches: their logs.
    fn sweep(&self) {
        let shared = &self.shared;
        let known = shared.directory.borrow();
        let oldest_ms = shared.now_ms().saturating_sub(HISTORY_DAYS.saturating_mul(SHOWN_MS));
        let roots = [Some(shared.config.state.join("clusters")), shared.config.logs.clone()];
        for folder in roots.into_iter().flatten().flat_map(std::fs::read_dir).flatten().flatten() {
            let in_use = folder.file_name().to_str().is_none_or(|name| known.contains_key(name));
            if !in_use && last_written_ms(&folder.path()).is_some_and(|at_ms| at_ms < oldest_ms) {
                tracing::info!(folder = %folder.path().display(), "the logs of a cluster are {HISTORY_DAYS} days old");
                let _next_time_again = std::fs::remove_dir_all(folder.path());
            }
        }
    }

    fn show_ended(&self, record: ClusterRecord) {
        let Some((name, body)) = read(&record) else { return };
        let status = ClusterStatus::parse(&record.status).filter(|status| status.is_final());
        let view = ClusterView {
            status: status.unwrap_or(ClusterStatus::Failed),
            stop_ms: record.stop_ms,
            reason: record.reason.clone(),
            last_lines: body.last_lines.clone(),
            ..view_of(&name, &record.user, record.start_ms, &body)
        };
        let link = self.link_to(&name);
        self.shared.directory.send_modify(|directory| {
            // The latest of a name comes first.
            directory.entry(name.to_string()).or_insert(ClusterEntry {
                view: Arc::new(view),
                inbox: None,
                link,
                here: 0,
            });
        });
    }

    fn take_over(&self, record: ClusterRecord) {
        let Some((name, body)) = read(&record) else {
            tracing::error!(name = record.name, "the record of this cluster cannot be read; it is left alone");
            return;
        };
        let view = view_of(&name, &record.user, record.start_ms, &body);
        if let Some(inbox) = self.enter(view.clone()) {
            ClusterTask::spawn(self.shared.clone(), view, body, inbox, Origin::Found);
        }
    }

    /// Clusters that run and of which the database knows nothing: it was lost, or moved away. Their folders tell.
    fn take_over_unknown(&self) {
        let folders = std::fs::read_dir(self.shared.config.state.join("clusters")).into_iter().flatten().flatten();
        for name in folders.filter_map(|folder| folder.file_name().into_string().ok()) {
            let is_known = self.get(&name).is_some_and(|view| !view.status.is_final());
            let files = self.files(&name);
            if is_known || !files.control().exists() {
                continue;
            }
            let text = std::fs::read(files.record()).ok();
            let record = text.and_then(|text| serde_json::from_slice::<ClusterRecord>(&text).ok());
            match record.filter(|record| record.name == name && record.stop_ms.is_none()) {
                Some(record) => {
                    tracing::warn!(cluster = name, "not in the database, and there: it is taken over if it runs");
                    self.take_over(record);
                }
                None => tracing::warn!(
                    cluster = name,
                    "has a socket, and neither the database nor its folder says what it is; `rask down` ends what runs"
                ),
            }
        }
    }

    /// Enters a cluster under its name. `None`: one of that name has not ended.
    fn enter(&self, view: ClusterView) -> Option<mpsc::Receiver<ClusterOrder>> {
        let (sender, inbox) = mpsc::channel(QUEUE);
        let (name, link) = (view.name.to_string(), self.link_to(&view.name));
        let old_ms = self.shared.now_ms().saturating_sub(SHOWN_MS);
        let entered = self.shared.directory.send_if_modified(|directory| {
            if directory.get(&name).is_some_and(|entry| !entry.view.status.is_final()) {
                return false;
            }
            directory.retain(|_, entry| entry.view.stop_ms.is_none_or(|at| at >= old_ms));
            directory.insert(name.clone(), ClusterEntry { view: Arc::new(view), inbox: Some(sender), link, here: 0 });
            true
        });
        entered.then_some(inbox)
    }

    fn link_to(&self, name: &ClusterName) -> Link {
        Link::new(self.shared.config.folder(name.as_str()).control())
    }

    // ---- commands -------------------------------------------------------------------------------------------

    /// Makes a cluster. Returns when it is recorded and starts; [`FleetHandle::wait_not_pending`] tells how that went.
    ///
    /// Errors: the name is taken, the interpreter is unfit, it cannot be recorded.
    pub async fn create(&self, new: NewCluster) -> Result<(), FleetError> {
        self.make(new, None, 0).await
    }

    /// Makes the cluster of `rask up` itself: without TLS for the same user at `plain_address`, with workers at once,
    /// and started anew when it ends without having been told to.
    ///
    /// Errors: as [`FleetHandle::create`].
    pub async fn create_plain(&self, new: NewCluster, plain_address: String, workers: u32) -> Result<(), FleetError> {
        self.make(new, Some(plain_address), workers).await
    }

    async fn make(&self, new: NewCluster, plain_address: Option<String>, workers: u32) -> Result<(), FleetError> {
        let NewCluster { name, user, options, settings } = new;
        // Before anything is started: a person who mistyped a path should hear of it now.
        self.python(settings.python.clone()).await?;
        self.know_hosts(&settings.hosts)?;
        let pair = cluster_pair(name.as_str())?;
        let span = self.shared.config.span.as_ref();
        let spans = span.is_some_and(|span| plain_address.is_none() || span.local || settings.jobs.is_some());
        // Jobs are asked for by number.
        let grows_from = (spans && plain_address.is_some() && settings.jobs.is_none()).then_some(workers);
        let body = Body { options, settings, target: workers, plain_address, spans, grows_from, ..Body::default() };
        let mut view = view_of(&name, &user, self.shared.now_ms(), &body);
        view.tls = Some(Arc::new(pair));
        let Some(inbox) = self.enter(view.clone()) else { return Err(FleetError::NameTaken(name.to_string())) };
        let owner = ClusterTask::new(self.shared.clone(), view, body, inbox);
        if let Err(why) = owner.save().await {
            owner.vanish();
            return Err(FleetError::Store(why));
        }
        self.shared.tell(FleetEvent::Created { cluster: name.to_string(), user, adopted: false });
        owner.go(Origin::New);
        Ok(())
    }

    /// Machines that somebody named for workers.
    ///
    /// Errors: one has not joined.
    fn know_hosts(&self, hosts: &[String]) -> Result<(), FleetError> {
        let head = self.shared.config.span.as_ref().map(|span| &span.head);
        let known = |name: &str| name == HEAD || head.is_some_and(|head| head.peer(name).is_some());
        match hosts.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let others: Vec<String> =
                    head.map(|head| head.peers().iter().map(|peer| peer.name.clone()).collect()).unwrap_or_default();
                let all = std::iter::once(HEAD.to_owned()).chain(others).collect::<Vec<_>>().join(", ");
                Err(FleetError::Hosts { name: name.clone(), all })
            }
        }
    }

    /// The last lines of a cluster's logs on other machines, by machine; each begins with its file's name.
    pub async fn logs_elsewhere(&self, name: &str, tail: usize) -> Vec<(String, Vec<String>)> {
        match &self.shared.config.span {
            Some(span) => RemoteWorkers::logs(&span.head, name, tail).await,
            None => Vec::new(),
        }
    }

    /// Wants this number of workers from now on; [`ClusterSettings::max_workers`](super::ClusterSettings) at most.
    ///
    /// Errors: there is no such cluster, or it is ending.
    pub async fn scale(&self, name: &str, workers: u32) -> Result<(), FleetError> {
        self.command(name, |heard| ClusterOrder::Scale { workers, heard }).await
    }

    /// Lets a cluster follow its load, or stop doing so.
    ///
    /// Errors: there is no such cluster, or it is ending; the minimum is above the maximum.
    pub async fn adapt(&self, name: &str, wish: Adapt) -> Result<(), FleetError> {
        if let (Some(minimum), Some(maximum), true) = (wish.minimum, wish.maximum, wish.active)
            && minimum > maximum
        {
            return Err(FleetError::Bounds { minimum, maximum });
        }
        self.command(name, |heard| ClusterOrder::Adapt { wish, heard }).await
    }

    /// Ends a cluster. Returns when it is on its way; one that ended is no error.
    ///
    /// Errors: there is no such cluster.
    pub async fn stop(&self, name: &str, why: &str) -> Result<(), FleetError> {
        let why = why.to_owned();
        match self.command(name, |heard| ClusterOrder::Stop { why, heard }).await {
            Err(FleetError::NotRunning(_)) => Ok(()),
            other => other,
        }
    }

    async fn command(
        &self,
        name: &str,
        command: impl FnOnce(oneshot::Sender<Result<(), FleetError>>) -> ClusterOrder,
    ) -> Result<(), FleetError> {
        let inbox = self.shared.directory.borrow().get(name).map(|entry| entry.inbox.clone());
        let inbox = inbox.ok_or_else(|| FleetError::Unknown(name.to_owned()))?;
        let ended = || FleetError::NotRunning(name.to_owned());
        let (heard, answer) = oneshot::channel();
        let told = async {
            let inbox = inbox.ok_or_else(ended)?;
            inbox.send(command(heard)).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        };
        timeout(HEARD, told).await.unwrap_or(Err(FleetError::Slow))
    }

    /// Ends all clusters and waits until they are gone.
    pub async fn stop_all(&self, why: &str) {
        let running = |directory: &BTreeMap<String, ClusterEntry>| -> Vec<String> {
            directory.iter().filter(|(_, entry)| !entry.view.status.is_final()).map(|(name, _)| name.clone()).collect()
        };
        self.shared.closing.store(true, Ordering::Relaxed);
        let names = running(&self.shared.directory.borrow());
        let told = futures_util::future::join_all(names.iter().map(|name| self.stop(name, why))).await;
        for (name, outcome) in names.iter().zip(told) {
            if let Err(error) = outcome {
                tracing::warn!(name, %error, "a cluster could not be stopped");
            }
        }
        let mut directory = self.shared.directory.subscribe();
        drop(directory.wait_for(|directory| running(directory).is_empty()).await);
    }

    // ---- reads ----------------------------------------------------------------------------------------------

    /// All clusters that have not ended, and those that did within a day.
    pub fn list(&self) -> Vec<Arc<ClusterView>> {
        self.shared.directory.borrow().values().map(|entry| entry.view.clone()).collect()
    }

    /// The cluster of that name; if there were several, the latest.
    pub fn get(&self, name: &str) -> Option<Arc<ClusterView>> {
        self.shared.directory.borrow().get(name).map(|entry| entry.view.clone())
    }

    /// The cluster as soon as it is no longer starting, or its state when the patience ends.
    pub async fn wait_not_pending(&self, name: &str, patience: Duration) -> Option<Arc<ClusterView>> {
        self.wait_until(name, patience, |view| view.status != ClusterStatus::Pending).await
    }

    /// The cluster as soon as it is so, or its state when the patience ends. `None`: there is none.
    pub async fn wait_until(
        &self,
        name: &str,
        patience: Duration,
        so: impl Fn(&ClusterView) -> bool,
    ) -> Option<Arc<ClusterView>> {
        let mut directory = self.shared.directory.subscribe();
        let is_so = directory.wait_for(|directory| directory.get(name).is_none_or(|entry| so(&entry.view)));
        // Late or not, what is true now is told.
        drop(timeout(patience, is_so).await);
        self.get(name)
    }

    /// The scheduler of a cluster that clients may connect to.
    pub fn link(&self, name: &str) -> Option<Link> {
        let directory = self.shared.directory.borrow();
        let entry = directory.get(name)?;
        // A starting one counts: its first client may be ahead of our next poll.
        (!entry.view.status.is_final()).then(|| entry.link.clone())
    }

    /// Where a cluster's sockets and credentials are.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.files(name).path
    }

    /// Where a cluster's files are.
    pub fn files(&self, name: &str) -> ClusterFolder {
        self.shared.config.folder(name)
    }

    /// News of all clusters from now on.
    pub fn events(&self) -> broadcast::Receiver<FleetEvent> {
        self.shared.events.subscribe()
    }

    /// The interpreter that `asked` means, checked; `None` is the appliance's own.
    ///
    /// Errors: it cannot run workers, and why.
    pub async fn python(&self, asked: Option<PathBuf>) -> Result<Interpreter, FleetError> {
        self.shared.pythons.get(asked.as_deref()).await.map_err(FleetError::Python)
    }
}

/// When something in the folder of an ended cluster was last written. `None`: it is not such a folder.
fn last_written_ms(folder: &Path) -> Option<i64> {
    use std::os::unix::fs::MetadataExt;
    let logs = folder.join("logs");
    let logs = if logs.is_dir() { logs } else { folder.to_path_buf() };
    // Not in a folder that holds others' files as well.
    if !LogSource::Scheduler.path(&logs).exists() {
        return None;
    }
    let written = std::fs::read_dir(logs).ok()?.flatten().filter_map(|file| Some(file.metadata().ok()?.mtime()));
    written.max().map(|secs| secs.saturating_mul(1000))
}

fn read(record: &ClusterRecord) -> Option<(ClusterName, Body)> {
    Some((ClusterName::parse(&record.name)?, serde_json::from_str(&record.body).ok()?))
}

fn view_of(name: &ClusterName, user: &str, start_ms: i64, body: &Body) -> ClusterView {
    ClusterView {
        name: name.clone(),
        user: user.to_owned(),
        status: ClusterStatus::Pending,
        options: body.options.clone(),
        settings: body.settings.clone(),
        start_ms,
        stop_ms: None,
        reason: None,
        ran: body.ran,
        last_lines: Vec::new(),
        target: body.target,
        adapt: body.adapt,
        workers: 0,
        without_room: 0,
        jobs: Vec::new(),
        jobs_note: None,
        scheduler_pid: None,
        scheduler_address: None,
        tls: None,
        plain_address: body.plain_address.clone(),
    }
}
