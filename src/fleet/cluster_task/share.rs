//! What one cluster may take of this machine, beside all others of the appliance.

use super::ClusterTask;
use crate::fleet::step::PlanStep;

impl ClusterTask {
    /// The same steps, with no more workers here than there is room for beside those of all clusters. What does not fit
    /// is asked for again at the next look, and waits.
    pub(super) fn within_share(&mut self, steps: Vec<PlanStep>) -> Vec<PlanStep> {
        let here = u32::try_from(self.told.workers.len()).unwrap_or(u32::MAX);
        let before = self.beyond_share;
        (self.granted, self.beyond_share) = (0, 0);
        let mut kept = Vec::with_capacity(steps.len());
        for step in steps {
            let PlanStep::Grow(wanted) = step else {
                kept.push(step);
                continue;
            };
            let most = wanted.min(self.most_here().max(here));
            (self.granted, self.beyond_share) = (most, wanted.saturating_sub(most));
            if most > here {
                kept.push(PlanStep::Grow(most));
            }
        }
        if self.beyond_share > 0 && before == 0 {
            let share = self.shared.config.share;
            tracing::warn!(
                cluster = %self.view.name,
                waiting = self.beyond_share,
                "workers wait for room: all clusters together may have {} worker processes and {} here (up.max_workers, \
                 up.max_memory)",
                share.workers,
                crate::config::show_size(share.memory_bytes)
            );
        }
        // Others count what is on its way, and what has left.
        let known = self.shared.directory.borrow().get(self.view.name.as_str()).map(|entry| entry.here);
        if known != Some(here.max(self.granted)) {
            self.publish();
        }
        kept
    }

    /// Workers that find no machine, and those that are more than this one's share.
    pub(super) const fn without_room(&self) -> u32 {
        self.plan.without_room().saturating_add(self.beyond_share)
    }

    fn most_here(&self) -> u32 {
        let (mut others, mut bytes) = (0u32, 0u64);
        for (name, entry) in self.shared.directory.borrow().iter() {
            if name != self.view.name.as_str() && !entry.view.status.is_final() {
                others = others.saturating_add(entry.here);
                let memory = u64::from(entry.here).saturating_mul(entry.view.settings.worker_memory_bytes);
                bytes = bytes.saturating_add(memory);
            }
        }
        self.shared.config.share.beside(others, bytes, self.body.settings.worker_memory_bytes)
    }
}
