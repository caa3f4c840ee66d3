//! The beginning of a cluster: its scheduler is started or found again, and waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{ClusterEnd, ClusterTask, HELLO, Origin, START_POLL, ended};
use crate::control::{SchedulerQuestion, SchedulerState};
use crate::fleet::launch::Launch;
use crate::fleet::poll::ask;
use crate::fleet::remote_workers::RemoteWorkers;
use crate::fleet::types::{ClusterStatus, FleetEvent};
use crate::supervise::{DetachedProcess, boot_id, last_lines};

impl ClusterTask {
    pub(super) async fn begin(&mut self, from: Origin) -> Result<(), ClusterEnd> {
        let python = self.shared.pythons.get(self.body.settings.python.as_deref()).await;
        match (python, from) {
            (Ok(found), _) => self.python = found.path,
            (Err(why), Origin::New) => return Err(ClusterEnd::failed(why.to_string())),
            // It runs; only new workers would fail.
            (Err(error), Origin::Found) => {
                tracing::warn!(cluster = %self.view.name, %error, "its Python is not usable now")
            }
        }
        match from {
            Origin::New => self.launch_scheduler().await?,
            Origin::Found => self.adopt().await?,
        }
        self.wait_ready().await?;
        if from == Origin::Found {
            // Before it counts as running: machines that are at work for it must not hear that nothing is wanted.
            self.reach_out().await;
        }
        (self.view.ran, self.body.ran) = (true, true);
        self.set_status(ClusterStatus::Running);
        self.keep().await;
        if from == Origin::New {
            self.reach_out().await;
        }
        Ok(())
    }

    /// Other machines may take part from now on.
    async fn reach_out(&mut self) {
        let Some(span) = self.shared.config.span.clone().filter(|_| self.body.spans) else { return };
        match self.shared.pythons.lock(&self.python).await {
            Ok(lock) => self.lock = Some(lock),
            Err(error) => {
                tracing::warn!(cluster = %self.view.name, %error, "other machines use whatever Python they have")
            }
        }
        let mut remote = RemoteWorkers::new(span.head, self.view.name.as_str());
        if let Some(pair) = &self.view.tls {
            remote.restore(&self.body.remote, pair, self.lock.as_ref()).await;
        }
        self.remote = Some(remote);
        self.begin_jobs();
    }

    async fn launch_scheduler(&mut self) -> Result<(), ClusterEnd> {
        let pair = match &self.view.tls {
            Some(pair) => pair.clone(),
            None => Arc::new(
                crate::pki::cluster_pair(self.view.name.as_str()).map_err(|why| ClusterEnd::failed(why.to_string()))?,
            ),
        };
        self.folder.clear();
        self.folder
            .make(&pair)
            .map_err(|why| ClusterEnd::failed(format!("cannot make files in {}: {why}", self.folder.path.display())))?;
        self.view.tls = Some(pair);
        let process = DetachedProcess::launch(&self.launch().scheduler())
            .map_err(|why| ClusterEnd::failed(format!("the scheduler could not be started: {why}")))?;
        self.body.boot_id = boot_id();
        self.body.scheduler = Some(process.id());
        self.scheduler = Some(process);
        self.publish();
        // From here on the next appliance would find it, even if this one is killed now.
        self.keep().await;
        Ok(())
    }

    pub(super) fn launch(&self) -> Launch<'_> {
        Launch {
            config: &self.shared.config,
            folder: &self.folder,
            name: self.view.name.as_str(),
            body: &self.body,
            python: &self.python,
        }
    }

    /// Finds the processes of a cluster that an appliance before this one started.
    async fn adopt(&mut self) -> Result<(), ClusterEnd> {
        let lines = || last_lines(&self.folder.logs.join("scheduler.log"), 0);
        let gone = |why: &str, last_lines| ClusterEnd::Failed { why: why.to_owned(), last_lines };
        if !self.body.boot_id.is_empty() && self.body.boot_id != boot_id() {
            return Err(gone("the machine was restarted", Vec::new()));
        }
        let id = match timeout(HELLO, self.link.hello()).await {
            Ok(Ok(hello)) => {
                if let Some(why) = hello.stranger() {
                    let pid = hello.pid;
                    tracing::error!(cluster = %self.view.name, pid, "a cluster that still runs cannot be adopted: {why}");
                    return Err(ClusterEnd::Strange(format!(
                        "its scheduler (process {pid}) still runs, but this rask cannot talk to it: {why}"
                    )));
                }
                crate::supervise::ProcessId { pid: hello.pid, started_ticks: hello.started_ticks }
            }
            Ok(Err(_)) | Err(_) => {
                let recorded = self.body.scheduler.filter(|id| id.is_alive());
                recorded.ok_or_else(|| match self.folder.control().exists() {
                    true => gone("it ended while rask up was not running", lines()),
                    // One that ends cleanly takes its socket with it.
                    false => ClusterEnd::Itself("it was stopped while rask up was not running".to_owned()),
                })?
            }
        };
        let process =
            DetachedProcess::adopt(id).map_err(|why| ClusterEnd::failed(format!("it cannot be watched: {why}")))?;
        self.scheduler = Some(process.ok_or_else(|| gone("it ended while rask up was not running", lines()))?);
        (self.body.boot_id, self.body.scheduler) = (boot_id(), Some(id));
        self.view.tls = self.folder.pair().ok().map(Arc::new);
        if self.body.plain_address.is_some() {
            self.view.plain_address = self.shared.config.plain_address.clone();
        }
        self.adopt_pool().await;
        let (cluster, user) = (self.view.name.to_string(), self.view.user.clone());
        tracing::info!(cluster, pid = id.pid, "a cluster that still runs is taken over");
        self.shared.tell(FleetEvent::Created { cluster, user, adopted: true });
        Ok(())
    }

    async fn adopt_pool(&mut self) {
        if let Ok(Ok(hello)) = timeout(HELLO, self.pool_link.hello()).await
            && hello.stranger().is_none()
        {
            let id = crate::supervise::ProcessId { pid: hello.pid, started_ticks: hello.started_ticks };
            self.pool = DetachedProcess::adopt(id).ok().flatten();
        }
        self.body.pool = self.pool.as_ref().map(DetachedProcess::id);
    }

    /// Waits until the scheduler accepts connections. What is asked meanwhile is noted; a stop is obeyed.
    async fn wait_ready(&mut self) -> Result<(), ClusterEnd> {
        let limit = Duration::from_secs_f64(self.body.settings.start_timeout_secs.clamp(0.1, 1e6));
        let deadline = sleep(limit);
        tokio::pin!(deadline);
        loop {
            let link = self.link.clone();
            let looked = async {
                match ask::<SchedulerState>(&link, SchedulerQuestion::State).await {
                    Some(state) => state,
                    None => {
                        sleep(START_POLL).await;
                        SchedulerState::default()
                    }
                }
            };
            tokio::select! {
                state = looked => if !state.address.is_empty() {
                    self.view.scheduler_address = state.listening.first().cloned();
                    return Ok(());
                },
                Some(command) = self.inbox.recv() => if let Some(end) = self.on_command(command) {
                    return Err(end);
                },
                cause = ended(&mut self.scheduler) => {
                    let last_lines = self.scheduler_words();
                    let why = match (last_lines.last(), cause) {
                        (Some(line), _) => format!("its scheduler ended while it started: {}", line.trim()),
                        (None, Some(cause)) => format!("its scheduler ended while it started ({cause})"),
                        (None, None) => "its scheduler ended while it started".to_owned(),
                    };
                    return Err(ClusterEnd::Failed { why, last_lines });
                }
                () = &mut deadline => {
                    let why = format!("its scheduler was not up within {} s", limit.as_secs_f64());
                    return Err(ClusterEnd::Failed { why, last_lines: self.scheduler_words() });
                }
            }
        }
    }
}
