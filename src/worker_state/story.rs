//! The last moves of tasks, for people who ask why.

use std::collections::VecDeque;

use super::phase::{TaskPhase, TaskTarget};
use crate::base::{Key, Now};

/// A move of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerStoryLine {
    /// Where the task was.
    pub start: TaskPhase,
    /// What it was asked to become.
    pub target: TaskTarget,
    /// When.
    pub at: Now,
}

/// A bounded ring of moves.
#[derive(Debug)]
pub(super) struct MoveStory {
    moves: VecDeque<(Key, WorkerStoryLine)>,
    length: usize,
}

impl MoveStory {
    pub(super) const fn new(length: usize) -> Self {
        Self { moves: VecDeque::new(), length }
    }

    pub(super) fn add(&mut self, key: Key, line: WorkerStoryLine) {
        if self.length == 0 {
            return;
        }
        if self.moves.len() >= self.length {
            self.moves.pop_front();
        }
        self.moves.push_back((key, line));
    }

    pub(super) fn moves(&self) -> impl Iterator<Item = &(Key, WorkerStoryLine)> {
        self.moves.iter()
    }
}
