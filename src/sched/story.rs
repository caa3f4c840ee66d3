//! A bounded ring of transitions, for people and for the dashboard.

use super::Scheduler;
use super::records::StoryEntry;
use super::task::StateName;
use crate::base::Key;

/// Recommendations that are remembered of one transition: what people read, not the dependents of a broadcast.
const RECOMMENDED_MAX: usize = 20;

impl Scheduler {
    /// `recs_before`: how many recommendations there were before this transition; later ones are its own.
    pub(super) fn tell(&mut self, key: Key, start: StateName, finish: StateName, recs_before: usize) {
        if self.config.story_length == 0 {
            return;
        }
        let own = self.recs.get(recs_before..).unwrap_or_default().iter().take(RECOMMENDED_MAX);
        let named = own.filter_map(|(task, target)| Some((self.tasks.get(*task)?.key.clone(), *target)));
        let recommended = named.collect();
        if self.story.len() >= self.config.story_length {
            self.story.pop_front();
        }
        self.story.push_back(StoryEntry {
            key,
            start,
            finish,
            recommended,
            stimulus: self.stimulus,
            step: self.step,
            at: self.now,
        });
    }
}
