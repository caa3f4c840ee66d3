//! The order in which tasks run and values are fetched.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Most numbers in a priority as the scheduler sends it: negated user priority, generation, place in the graph.
const SENT_MAX: usize = 3;

/// A priority: numbers compared one by one, as Python compares tuples. Smaller comes first.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct TaskPriority {
    parts: [f64; SENT_MAX + 1],
    used: u8,
}

/// Why numbers are not a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityError {
    /// How many numbers there were.
    pub parts: usize,
}

impl std::fmt::Display for PriorityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a priority has 1 to {SENT_MAX} numbers, not {}", self.parts)
    }
}

impl TaskPriority {
    /// Of values that the scheduler wants copied here: after the inputs of tasks with default or higher user priority,
    /// before those of tasks with lower priority. Source: `distributed/worker_state_machine.py`,
    /// `_handle_acquire_replicas`.
    pub(super) const REPLICA: Self = Self { parts: [1.0, 0.0, 0.0, 0.0], used: 1 };

    /// Errors: no number, or more than three.
    pub fn new(sent: &[f64]) -> Result<Self, PriorityError> {
        if sent.is_empty() || sent.len() > SENT_MAX {
            return Err(PriorityError { parts: sent.len() });
        }
        let mut parts = [0.0; SENT_MAX + 1];
        parts[..sent.len()].copy_from_slice(sent);
        Ok(Self { parts, used: sent.len() as u8 })
    }

    /// The priority with the worker's own count appended: of equals, the task that came last runs first.
    pub(super) fn with_generation(mut self, generation: i64) -> Self {
        let at = usize::from(self.used).min(SENT_MAX);
        self.parts[at] = generation as f64;
        self.used = at as u8 + 1;
        self
    }

    fn numbers(&self) -> &[f64] {
        &self.parts[..usize::from(self.used)]
    }
}

impl TryFrom<Vec<f64>> for TaskPriority {
    type Error = PriorityError;
    fn try_from(sent: Vec<f64>) -> Result<Self, PriorityError> {
        Self::new(&sent)
    }
}

impl From<TaskPriority> for Vec<f64> {
    fn from(rank: TaskPriority) -> Self {
        rank.numbers().to_vec()
    }
}

impl Ord for TaskPriority {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (self.numbers(), other.numbers());
        let pairs = mine.iter().zip(theirs).map(|(a, b)| a.total_cmp(b));
        pairs.fold(Ordering::Equal, Ordering::then).then(mine.len().cmp(&theirs.len()))
    }
}

impl PartialOrd for TaskPriority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TaskPriority {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for TaskPriority {}
