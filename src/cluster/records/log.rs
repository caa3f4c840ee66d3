//! The last lines of the scheduler's own log, for `get_logs` and pages.
//!
//! Data only, bounded. Source: `distributed/scheduler.py`, `get_logs`.

use std::collections::VecDeque;

use crate::base::{Text, Value, bounded};

/// Longest line.
const LINE_BYTES_MAX: usize = 16 << 10;

#[derive(Clone, Debug)]
struct LogLine {
    /// Unit: seconds since the epoch.
    at_secs: f64,
    level: Text,
    text: Text,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LogLines {
    lines: VecDeque<LogLine>,
    lines_max: usize,
    /// Lines so far, forgotten ones included.
    count: u64,
}

impl LogLines {
    /// Will keep the last `lines_max` lines.
    pub const fn new(lines_max: usize) -> Self {
        Self { lines: VecDeque::new(), lines_max, count: 0 }
    }

    /// Keeps a line, dropping the oldest when full. One as long as a message is cut: others name what it tells.
    pub fn push(&mut self, at_secs: f64, level: Text, text: Text) {
        let text = if text.len() > LINE_BYTES_MAX { bounded(&text, LINE_BYTES_MAX).into() } else { text };
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
        }
        if self.lines_max > 0 {
            self.lines.push_back(LogLine { at_secs, level, text });
        }
        self.count = self.count.saturating_add(1);
    }

    /// Lines from number `after` on: number, time, and level with text.
    pub fn since(&self, after: u64) -> Vec<(u64, f64, (Text, Text))> {
        let first = self.count.saturating_sub(self.lines.len() as u64);
        let numbered = self.lines.iter().zip(first..).filter(|(_, number)| *number >= after);
        numbered.map(|(line, number)| (number, line.at_secs, (line.level.clone(), line.text.clone()))).collect()
    }

    /// `[[level, line], ...]`, each as Dask's scheduler would have logged it, of at most `count` lines since
    /// `start_secs`, newest first; with `timestamps` the time of each comes before it.
    pub fn newest(&self, count: usize, start_secs: f64, timestamps: bool) -> Value {
        let line = |line: &LogLine| {
            let told = format!("{} - distributed.scheduler - {} - {}", date(line.at_secs), line.level, line.text);
            let at = timestamps.then_some(Value::Float(line.at_secs));
            Value::Array(at.into_iter().chain([Value::Str(line.level.clone()), told.into()]).collect())
        };
        let newest = self.lines.iter().rev().take(count);
        Value::Array(newest.take_while(|line| line.at_secs >= start_secs).map(line).collect())
    }
}

/// `2026-11-27 06:02:39,977`, in UTC.
fn date(at_secs: f64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos((at_secs * 1e9) as i128);
    let at = at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second, milli)) = (at.date(), at.to_hms_milli());
    format!("{date} {hour:02}:{minute:02}:{second:02},{milli:03}")
}
