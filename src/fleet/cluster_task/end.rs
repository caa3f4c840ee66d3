//! The end of a cluster: why its scheduler ended, and what is left of it all.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{CHORES_SECS, ClusterEnd, ClusterTask};
use crate::control::{ComputationState, SchedulerQuestion};
use crate::fleet::launch::{POOL_GRACE, SCHEDULER_GRACE};
use crate::fleet::logs;
use crate::fleet::poll::ask;
use crate::fleet::types::ClusterStatus;
use crate::store::StoredComputation;
use crate::supervise::{DetachedProcess, ExitCause, last_lines};

/// A scheduler answers between two steps. One that hangs must not use up the time in which all has to end.
const COMPUTATIONS: Duration = Duration::from_millis(500);

impl ClusterTask {
    pub(super) fn on_scheduler_end(&mut self, cause: Option<ExitCause>) -> ClusterEnd {
        let last_lines = self.scheduler_words();
        // One that ends cleanly takes its socket with it.
        let in_order = cause.as_ref().map_or(!self.folder.control().exists(), |cause| *cause == ExitCause::Code(0));
        self.scheduler = None;
        if in_order {
            return ClusterEnd::Itself("its scheduler was told to end by a client or a signal".to_owned());
        }
        let how = cause.map_or_else(|| "it was adopted, so how is not known".to_owned(), |cause| cause.to_string());
        ClusterEnd::Failed { why: format!("its scheduler ended: {how}"), last_lines }
    }

    pub(super) fn scheduler_words(&self) -> Vec<String> {
        let own = self.scheduler.as_ref().map(DetachedProcess::last_words).unwrap_or_default();
        if own.is_empty() { last_lines(&self.folder.logs.join("scheduler.log"), 0) } else { own }
    }

    /// What need not be done at every poll.
    pub(super) async fn do_chores(&mut self) {
        let now_secs = self.shared.now_secs();
        if now_secs < self.next_chores_secs {
            return;
        }
        self.next_chores_secs = now_secs + CHORES_SECS;
        self.rotate_logs();
        self.put_back_files();
        self.note_computations().await;
    }

    /// Puts what was computed since the last time into the history; what still runs is noted again.
    async fn note_computations(&mut self) {
        let asked = timeout(COMPUTATIONS, ask::<Vec<ComputationState>>(&self.link, SchedulerQuestion::Computations));
        let Ok(Some(all)) = asked.await else { return };
        let Some(last) = all.last() else { return };
        let next = last.id.saturating_add(u64::from(last.stop_secs.is_some()));
        let fresh = all.iter().filter(|one| one.id >= self.noted).map(|one| self.record_of(one)).collect();
        match self.shared.store.note_computations(fresh).await {
            Ok(()) => self.noted = next,
            Err(error) => tracing::warn!(cluster = %self.view.name, %error, "what was computed is not in the history"),
        }
    }

    fn record_of(&self, one: &ComputationState) -> StoredComputation {
        let body = json!({"tasks": one.tasks, "done": one.done, "erred": one.erred, "groups": one.groups});
        StoredComputation {
            cluster: self.view.name.to_string(),
            cluster_start_ms: self.view.start_ms,
            id: one.id.to_string(),
            start_ms: (one.start_secs * 1e3) as i64,
            stop_ms: one.stop_secs.map(|secs| (secs * 1e3) as i64),
            body: body.to_string(),
        }
    }

    /// New workers read the credentials, and write their logs.
    fn put_back_files(&self) {
        if let Some(pair) = self.view.tls.as_ref().filter(|_| !self.folder.key().exists()) {
            match self.folder.make(pair) {
                Ok(()) => tracing::warn!(cluster = %self.view.name, "its certificates were removed, and are put back"),
                Err(error) => tracing::error!(cluster = %self.view.name, %error, "its certificates were removed"),
            }
        }
    }

    fn rotate_logs(&self) {
        for source in [logs::LogSource::Scheduler, logs::LogSource::Pool] {
            if let Err(error) = logs::rotate_if_long(&source.path(&self.folder.logs), self.shared.config.log_keep) {
                tracing::warn!(cluster = %self.view.name, %error, "a log could not be put aside");
            }
        }
    }

    pub(super) async fn finish(&mut self, end: &ClusterEnd) {
        let (status, why, lines) = match end {
            ClusterEnd::Meant(why) | ClusterEnd::Itself(why) => (ClusterStatus::Stopped, why.clone(), Vec::new()),
            ClusterEnd::Failed { why, last_lines } => (ClusterStatus::Failed, why.clone(), last_lines.clone()),
            ClusterEnd::Strange(why) => {
                self.view.reason = Some(why.clone());
                return self.set_status(ClusterStatus::Failed);
            }
        };
        if status == ClusterStatus::Failed {
            tracing::error!(cluster = %self.view.name, "the cluster failed: {why}\n    {}", lines.join("\n    "));
        }
        if let Some(mut remote) = self.remote.take() {
            remote.end().await;
        }
        self.body.remote.clear();
        if let Some(mut jobs) = self.jobs.take() {
            jobs.end().await;
        }
        (self.view.jobs, self.view.jobs_note) = (Vec::new(), None);
        if self.scheduler.is_some() {
            self.note_computations().await;
        }
        // Workers first: they need not notice that their scheduler goes.
        if let Some(mut pool) = self.pool.take() {
            pool.stop(POOL_GRACE).await;
        }
        if let Some(mut scheduler) = self.scheduler.take() {
            scheduler.stop(SCHEDULER_GRACE).await;
        }
        self.folder.clear();
        self.view.stop_ms = Some(self.shared.now_ms());
        self.view.reason = Some(why);
        (self.view.last_lines, self.body.last_lines) = (lines.clone(), lines);
        (self.view.workers, self.view.scheduler_address) = (0, None);
        (self.body.scheduler, self.body.pool) = (None, None);
        self.view.status = status;
        self.keep().await;
        // Last: whoever waits for it finds all of it gone.
        self.publish();
        self.tell_status();
    }
}
