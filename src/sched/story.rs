//! A bounded ring of transitions, for people and for the dashboard.

use super::Scheduler;
use super::records::StoryEntry;
use super::task::StateName;
use crate::base::Key;

impl Scheduler {
    pub(super) fn tell(&mut self, key: Key, start: StateName, finish: StateName) {
        if self.config.story_length == 0 {
            return;
        }
        if self.story.len() >= self.config.story_length {
            self.story.pop_front();
        }
        self.story.push_back(StoryEntry { key, start, finish, stimulus: self.stimulus, step: self.step, at: self.now });
    }
}
