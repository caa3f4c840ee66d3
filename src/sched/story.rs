//! A bounded ring of transitions, for people and for the dashboard.

use super::Scheduler;
use super::task::StateName;
use super::view::StoryLine;
use crate::base::{Key, Now};

/// One transition.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) start: StateName,
    pub(super) finish: StateName,
    pub(super) stimulus: &'static str,
    pub(super) step: u64,
    pub(super) at: Now,
}

impl Entry {
    pub(super) fn line(&self) -> StoryLine {
        StoryLine {
            key: self.key.clone(),
            start: self.start.as_str(),
            finish: self.finish.as_str(),
            stimulus: (self.stimulus, self.step),
            at_us: self.at.0,
        }
    }
}

impl Scheduler {
    pub(super) fn tell(&mut self, key: Key, start: StateName, finish: StateName) {
        if self.config.story_length == 0 {
            return;
        }
        if self.story.len() >= self.config.story_length {
            self.story.pop_front();
        }
        self.story.push_back(Entry { key, start, finish, stimulus: self.stimulus, step: self.step, at: self.now });
    }
}
