//! The table of moves between states, and the loop that runs goals until none is left.

use super::effect::WorkerEffect;
use super::machine::WorkerMachine;
use super::phase::{TaskPhase, TaskTarget};
use super::task::{Goal, TaskRef};

/// What a task does on its way from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Cancel,
    ComputeCancelled,
    ComputeMissing,
    EnterError,
    EnterFetch,
    EnterFlight,
    EnterMissing,
    EnterWaiting,
    Execute,
    FetchAgain,
    FetchCancelled,
    FetchMissing,
    FetchResumed,
    Forget,
    GoOnResumed,
    InputsAreHere,
    Release,
    ReleaseCancelled,
    ReleaseValue,
    Reschedule,
    ResumedValueIsHere,
    Secede,
    ValueIsHere,
}

/// Every direct move. What is not here goes by way of `released`.
///
/// Source: `distributed/worker_state_machine.py`, `_TRANSITIONS_TABLE`, row by row; `Pushed` is ours.
const MOVES: &[(TaskPhase, TaskTarget, Move)] = &[
    (TaskPhase::Cancelled, TaskTarget::Error, Move::ReleaseCancelled),
    (TaskPhase::Cancelled, TaskTarget::Fetch, Move::FetchCancelled),
    (TaskPhase::Cancelled, TaskTarget::LongRunning, Move::Secede),
    (TaskPhase::Cancelled, TaskTarget::Memory, Move::ReleaseCancelled),
    (TaskPhase::Cancelled, TaskTarget::Missing, Move::ReleaseCancelled),
    (TaskPhase::Cancelled, TaskTarget::Released, Move::ReleaseCancelled),
    (TaskPhase::Cancelled, TaskTarget::Rescheduled, Move::ReleaseCancelled),
    (TaskPhase::Cancelled, TaskTarget::Waiting, Move::ComputeCancelled),
    (TaskPhase::Resumed, TaskTarget::Error, Move::GoOnResumed),
    (TaskPhase::Resumed, TaskTarget::Fetch, Move::FetchResumed),
    (TaskPhase::Resumed, TaskTarget::LongRunning, Move::Secede),
    (TaskPhase::Resumed, TaskTarget::Memory, Move::ResumedValueIsHere),
    (TaskPhase::Resumed, TaskTarget::Released, Move::Cancel),
    (TaskPhase::Resumed, TaskTarget::Rescheduled, Move::GoOnResumed),
    (TaskPhase::Constrained, TaskTarget::Executing, Move::Execute),
    (TaskPhase::Constrained, TaskTarget::Released, Move::Release),
    (TaskPhase::Error, TaskTarget::Released, Move::Release),
    (TaskPhase::Pushed, TaskTarget::Released, Move::Cancel),
    (TaskPhase::Executing, TaskTarget::Error, Move::EnterError),
    (TaskPhase::Executing, TaskTarget::LongRunning, Move::Secede),
    (TaskPhase::Executing, TaskTarget::Memory, Move::ValueIsHere),
    (TaskPhase::Executing, TaskTarget::Released, Move::Cancel),
    (TaskPhase::Executing, TaskTarget::Rescheduled, Move::Reschedule),
    (TaskPhase::Fetch, TaskTarget::Flight, Move::EnterFlight),
    (TaskPhase::Fetch, TaskTarget::Missing, Move::EnterMissing),
    (TaskPhase::Fetch, TaskTarget::Released, Move::Release),
    (TaskPhase::Flight, TaskTarget::Error, Move::EnterError),
    (TaskPhase::Flight, TaskTarget::Fetch, Move::FetchAgain),
    (TaskPhase::Flight, TaskTarget::Memory, Move::ValueIsHere),
    (TaskPhase::Flight, TaskTarget::Missing, Move::EnterMissing),
    (TaskPhase::Flight, TaskTarget::Released, Move::Cancel),
    (TaskPhase::LongRunning, TaskTarget::Error, Move::EnterError),
    (TaskPhase::LongRunning, TaskTarget::Memory, Move::ValueIsHere),
    (TaskPhase::LongRunning, TaskTarget::Rescheduled, Move::Reschedule),
    (TaskPhase::LongRunning, TaskTarget::Released, Move::Cancel),
    (TaskPhase::Memory, TaskTarget::Released, Move::ReleaseValue),
    (TaskPhase::Missing, TaskTarget::Error, Move::EnterError),
    (TaskPhase::Missing, TaskTarget::Fetch, Move::FetchMissing),
    (TaskPhase::Missing, TaskTarget::Released, Move::Release),
    (TaskPhase::Missing, TaskTarget::Waiting, Move::ComputeMissing),
    (TaskPhase::Ready, TaskTarget::Executing, Move::Execute),
    (TaskPhase::Ready, TaskTarget::Released, Move::Release),
    (TaskPhase::Released, TaskTarget::Error, Move::EnterError),
    (TaskPhase::Released, TaskTarget::Fetch, Move::EnterFetch),
    (TaskPhase::Released, TaskTarget::Forgotten, Move::Forget),
    (TaskPhase::Released, TaskTarget::Memory, Move::ValueIsHere),
    (TaskPhase::Released, TaskTarget::Missing, Move::EnterMissing),
    (TaskPhase::Released, TaskTarget::Waiting, Move::EnterWaiting),
    (TaskPhase::Waiting, TaskTarget::Constrained, Move::InputsAreHere),
    (TaskPhase::Waiting, TaskTarget::Ready, Move::InputsAreHere),
    (TaskPhase::Waiting, TaskTarget::Released, Move::Release),
];

/// [`MOVES`], to look up by position.
const TABLE: [[Option<Move>; TaskTarget::COUNT]; TaskPhase::COUNT] = {
    let mut table = [[None; TaskTarget::COUNT]; TaskPhase::COUNT];
    let mut at = 0;
    while at < MOVES.len() {
        let (start, target, made) = MOVES[at];
        table[start as usize][target as usize] = Some(made);
        at += 1;
    }
    table
};

/// Most moves of one task for one goal. The longest way is released, waiting, ready, constrained, executing.
const MOVES_MAX: u32 = 16;

impl WorkerMachine {
    /// Runs goals until none is left; then asks peers, once all that is to be fetched is known; then what follows from
    /// that.
    /// As `_transitions`.
    pub(super) fn pursue(&mut self, out: &mut Vec<WorkerEffect>) {
        self.pursue_goals(out);
        self.ensure_communicating(out);
        self.pursue_goals(out);
    }

    fn pursue_goals(&mut self, out: &mut Vec<WorkerEffect>) {
        self.file_goals(0);
        while let Some(id) = self.todo.pop() {
            // A task that was forgotten meanwhile has no goals any more.
            let Some(goal) = self.tasks.get(id).and_then(|task| task.goal) else { continue };
            self.tasks[id].goal = None;
            if self.closed {
                continue;
            }
            self.move_task(id, goal, MOVES_MAX, out);
            self.file_goals(0);
        }
    }

    /// A goal replaces the task's earlier one and keeps its turn, like an entry of a Python dict; a new one is next.
    fn file_goals(&mut self, from: usize) {
        for (id, goal) in self.recs.drain(from..) {
            let Some(task) = self.tasks.get(id) else { continue };
            if task.goal.is_none() {
                self.todo.push(id);
            }
            self.tasks[id].goal = Some(goal);
        }
    }

    /// As `_transition`.
    fn move_task(&mut self, id: TaskRef, goal: Goal, moves_left: u32, out: &mut Vec<WorkerEffect>) {
        let start = self.phase(id);
        let target = goal.target();
        if target.phase() == Some(start) {
            return;
        }
        let key = self.tasks[id].key.clone();
        if let Some(made) = TABLE[start as usize][target as usize] {
            self.make(made, id, goal, out);
            return self.tell(key, start, target, out);
        }
        if moves_left == 0 || start == TaskPhase::Released || target == TaskTarget::Released {
            return self.close(format!("task {key} can't go from {start:?} to {target:?}"), out);
        }
        let from = self.recs.len();
        self.move_task(id, Goal::Released, moves_left - 1, out);
        while let Some(at) = self.recs[from..].iter().position(|(other, _)| *other == id) {
            let (_, way) = self.recs.remove(from + at);
            // The point of this way is to get to the target, not to be forgotten.
            if way != Goal::Forgotten {
                self.move_task(id, way, moves_left - 1, out);
            }
        }
        if !self.closed {
            self.move_task(id, goal, moves_left - 1, out);
        }
    }

    fn make(&mut self, made: Move, id: TaskRef, goal: Goal, out: &mut Vec<WorkerEffect>) {
        match made {
            Move::Cancel => self.cancel(id, out),
            Move::ComputeCancelled => self.compute_cancelled(id, out),
            Move::ComputeMissing => self.compute_missing(id, out),
            Move::EnterError => self.enter_error(id, goal, out),
            Move::EnterFetch => self.enter_fetch(id),
            Move::EnterFlight => self.enter_flight(id, goal),
            Move::EnterMissing => self.enter_missing(id),
            Move::EnterWaiting => self.enter_waiting(id),
            Move::Execute => {
                if let Goal::Executing { slot } = goal {
                    self.enter_executing(id, slot, out);
                }
            }
            Move::FetchAgain => self.fetch_again(id),
            Move::FetchCancelled => self.fetch_cancelled(id),
            Move::FetchMissing => self.fetch_missing(id),
            Move::FetchResumed => self.fetch_resumed(id),
            Move::Forget => self.forget(id, out),
            Move::GoOnResumed => self.go_on_resumed(id),
            Move::InputsAreHere => self.inputs_are_here(id, goal),
            Move::Release => self.release(id, out),
            Move::ReleaseCancelled => self.release_cancelled(id, out),
            Move::ReleaseValue => self.release_value(id, out),
            Move::Reschedule => self.reschedule(id, out),
            Move::ResumedValueIsHere => self.resumed_value_is_here(id, goal, out),
            Move::Secede => self.secede(id, goal, out),
            Move::ValueIsHere => self.value_is_here(id, goal, out),
        }
    }

    /// Ends this worker.
    pub(super) fn close(&mut self, reason: String, out: &mut Vec<WorkerEffect>) {
        if !self.closed {
            self.closed = true;
            out.push(WorkerEffect::Close { reason: reason.into() });
        }
    }
}
