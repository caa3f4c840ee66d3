//! A bounded ring of transitions, for people and for the dashboard.

use super::Scheduler;
use super::task::StateName;
use crate::base::{Key, Now};

/// One line of a story.
#[derive(Clone, Debug, PartialEq)]
pub struct StoryLine {
    /// The task.
    pub key: Key,
    /// State before.
    pub start: &'static str,
    /// State after.
    pub finish: &'static str,
    /// What set it off: kind and number of the step.
    pub stimulus: (&'static str, u64),
    /// When. Unit: microseconds since the scheduler was made.
    pub at_us: u64,
}

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
