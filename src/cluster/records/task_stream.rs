//! The task stream: the last finished runs, for `get_task_stream` and performance reports.
//!
//! Data only. Source: `distributed/diagnostics/task_stream.py`.

use std::collections::VecDeque;

use crate::base::Value;

/// One finished run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The map that clients are given.
    pub record: Value,
    /// Latest `stop` of its spans. Unit: seconds since the epoch.
    pub stop_secs: f64,
}

/// Records runs once somebody asked for them: nothing is kept for nobody.
#[derive(Debug)]
pub struct TaskStream {
    recording: bool,
    runs_max: usize,
    runs: VecDeque<RunRecord>,
    /// How many were recorded so far; never goes back.
    index: usize,
}

/// What `get_task_stream` asks for. Times in seconds since the epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunQuery {
    /// Runs that end at or after this.
    pub start_secs: Option<f64>,
    /// Runs that end before this.
    pub stop_secs: Option<f64>,
    /// At most this number.
    pub count: Option<usize>,
    /// Everything recorded since the recorder showed this index; then the others don't matter.
    pub start_index: Option<usize>,
}

impl TaskStream {
    /// Will keep the last `runs_max` runs.
    pub const fn new(runs_max: usize) -> Self {
        Self { recording: false, runs_max, runs: VecDeque::new(), index: 0 }
    }

    /// Is anybody interested? Callers skip making the record when not.
    pub const fn is_recording(&self) -> bool {
        self.recording
    }

    /// From now on runs are kept.
    pub const fn start(&mut self) {
        self.recording = true;
    }

    /// How many runs were recorded so far.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Keeps a run, dropping the oldest when full.
    pub fn push(&mut self, run: RunRecord) {
        if self.runs.len() >= self.runs_max {
            self.runs.pop_front();
        }
        if self.runs_max > 0 {
            self.runs.push_back(run);
        }
        self.index = self.index.saturating_add(1);
    }

    /// The records that `query` names, oldest first.
    pub fn collect(&self, query: RunQuery) -> Value {
        let len = self.runs.len();
        if let Some(wanted) = query.start_index {
            let gone = self.index.saturating_sub(len);
            return self.slice(wanted.saturating_sub(gone).min(len), len);
        }
        let find = |secs: f64| self.runs.partition_point(|run| run.stop_secs < secs);
        let (mut start, mut stop) = (query.start_secs.map(find), query.stop_secs.map(find));
        if let Some(count) = query.count {
            match (start, stop) {
                (None, end) => {
                    let end = end.unwrap_or(len);
                    (start, stop) = (Some(end.saturating_sub(count)), Some(end));
                }
                (Some(from), None) => stop = Some(from.saturating_add(count)),
                (Some(_), Some(_)) => {}
            }
        }
        self.slice(start.unwrap_or(0), stop.unwrap_or(len).min(len))
    }

    fn slice(&self, start: usize, stop: usize) -> Value {
        let records = self.runs.range(start.min(stop)..stop).map(|run| run.record.clone());
        Value::Array(records.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: runs are found by time, by number and by index.
    #[test]
    fn runs_are_found_by_time_and_by_index() {
        let mut stream = TaskStream::new(100);
        for n in 0..10i64 {
            stream.push(RunRecord { record: Value::Int(n), stop_secs: n as f64 });
        }
        let numbers = |query| stream.collect(query).items().map(<[Value]>::len);
        assert_eq!(numbers(RunQuery::default()), Some(10));
        assert_eq!(numbers(RunQuery { start_secs: Some(7.0), ..RunQuery::default() }), Some(3));
        assert_eq!(numbers(RunQuery { count: Some(4), ..RunQuery::default() }), Some(4));
        assert_eq!(numbers(RunQuery { start_secs: Some(1.0), count: Some(2), ..RunQuery::default() }), Some(2));
        let since = stream.collect(RunQuery { start_index: Some(8), ..RunQuery::default() });
        assert_eq!(since, Value::Array(vec![Value::Int(8), Value::Int(9)]));
    }
}
