//! A cluster's jobs: what is wanted of its batch system after each look, and what people see of it.

use super::ClusterTask;
use crate::fleet::jobs::{ClusterJobs, JobNeeds, JobTerms};
use crate::fleet::plan::Seen;

impl ClusterTask {
    /// From now on its workers come as jobs, if it chose that.
    pub(super) fn begin_jobs(&mut self) {
        let (Some(wish), Some(span)) = (&self.body.settings.jobs, &self.shared.config.span) else { return };
        match self.shared.config.backends.iter().find(|backend| backend.site().name == wish.backend) {
            Some(backend) => {
                self.jobs = Some(ClusterJobs::new(backend.clone(), span.head.clone(), self.view.name.as_str()));
            }
            None => {
                let why =
                    format!("there is no [[backends]] called {} any more: its workers have no machines", wish.backend);
                tracing::error!(cluster = %self.view.name, "{why}");
                self.view.jobs_note = Some(why);
            }
        }
    }

    pub(super) async fn tend_jobs(&mut self, seen: &Seen) {
        let (Some(jobs), Some(wish)) = (&mut self.jobs, &self.body.settings.jobs) else { return };
        let needs = JobNeeds {
            now_secs: self.shared.now_secs(),
            without_room: self.plan.without_room(),
            adaptive: self.plan.bounds().is_some(),
            hosts: &seen.remote,
            wanted: self.remote.as_ref().map(|remote| remote.wanted()).unwrap_or_default(),
        };
        let terms =
            JobTerms { wish, settings: &self.body.settings, python: &self.python, logs: self.folder.logs.join("jobs") };
        jobs.tend(needs, &terms).await;
        let (views, note) = (jobs.views(&seen.remote), jobs.note());
        if (&views, &note) != (&self.view.jobs, &self.view.jobs_note) {
            if let Some(note) = note.as_ref().filter(|note| self.view.jobs_note.as_ref() != Some(note)) {
                tracing::warn!(cluster = %self.view.name, "{note}");
            }
            (self.view.jobs, self.view.jobs_note) = (views, note);
            self.publish();
        }
    }

    /// Those that wait for a machine are waited for patiently: a queue may take hours.
    pub(super) fn waits_for_jobs(&self, seen: &Seen) -> bool {
        let there = u32::try_from(seen.connected.len()).unwrap_or(u32::MAX);
        let without_room = self.plan.without_room();
        self.jobs.is_some() && without_room > 0 && there.saturating_add(without_room) >= self.plan.target()
    }
}
