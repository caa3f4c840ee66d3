//! What every worker thread did when: the last million stretches of work, in columns.
//!
//! Data only. Recorded always, whether anybody looks or not, so a stretch costs a few pushes and no allocation of its
//! own. Readers get whole chunks by reference count; only the chunk that still grows is copied.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{Key, SeededMap, Text, WorkerId};
use crate::sched::{Action, StartStop};

/// Rectangles in a chunk: what a reader may have to copy is bounded by it, and what is forgotten at once.
const CHUNK: usize = 8_192;

/// Longest kept spelling of a key. Unit: bytes. Longer ones are cut, for memory's sake; they still read well.
const KEY_BYTES_MAX: usize = 512;

/// What most keys take: a name and 32 digits. Unit: bytes.
const KEY_BYTES_USUAL: usize = 40;

/// More threads than this over a scheduler's life are not told apart; what they do is not recorded.
const LANES_MAX: usize = u16::MAX as usize;

/// Names of the actions by their number in [`RectChunk::action`].
pub const ACTION_NAMES: [&str; 7] =
    ["compute", "transfer", "disk-read", "disk-write", "deserialize", "other", "compute-failed"];

/// Number of a compute stretch whose task failed.
pub const FAILED: u8 = 6;

/// A thread of a worker: one line of the task stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Address of its worker.
    pub worker: Text,
    /// The worker's name.
    pub name: Text,
    /// The worker's host.
    pub host: Text,
    /// As the worker names the thread.
    pub thread: i64,
    /// Which of the worker's threads: 0 is the first that was seen.
    pub n: u16,
}

/// Rectangles that follow one another, a column for each property.
#[derive(Clone, Debug, Default)]
pub struct RectChunk {
    /// Number of the first one; never reused.
    pub first: u64,
    /// Unit: milliseconds since the epoch.
    pub start_ms: Vec<f64>,
    /// Unit: milliseconds.
    pub duration_ms: Vec<f32>,
    /// Index of the thread.
    pub lane: Vec<u16>,
    /// Index of the task's prefix; `u16::MAX` for those beyond.
    pub prefix: Vec<u16>,
    /// Index into [`ACTION_NAMES`].
    pub action: Vec<u8>,
    /// Which run it belongs to, for its key.
    run: Vec<u16>,
    /// Keys of the runs, one after another, and where each ends.
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    /// Earliest start and latest end, so that whole chunks can be passed over. Unit: milliseconds since the epoch.
    pub begin_ms: f64,
    /// See [`RectChunk::begin_ms`].
    pub end_ms: f64,
}

impl RectChunk {
    fn starting_at(first: u64) -> Self {
        // Room for all at once: growing in steps would copy each column a dozen times.
        Self {
            first,
            start_ms: Vec::with_capacity(CHUNK),
            duration_ms: Vec::with_capacity(CHUNK),
            lane: Vec::with_capacity(CHUNK),
            prefix: Vec::with_capacity(CHUNK),
            action: Vec::with_capacity(CHUNK),
            run: Vec::with_capacity(CHUNK),
            keys: Vec::with_capacity(CHUNK * KEY_BYTES_USUAL),
            key_ends: Vec::with_capacity(CHUNK),
            begin_ms: f64::INFINITY,
            end_ms: f64::NEG_INFINITY,
        }
    }

    /// How many rectangles it holds.
    pub const fn len(&self) -> usize {
        self.action.len()
    }

    /// Is there nothing in it?
    pub const fn is_empty(&self) -> bool {
        self.action.is_empty()
    }

    /// The key of the rectangle at a place in this chunk.
    pub fn key(&self, at: usize) -> Option<String> {
        let run = usize::from(*self.run.get(at)?);
        let end = usize::try_from(*self.key_ends.get(run)?).ok()?;
        let start = match run.checked_sub(1) {
            Some(before) => usize::try_from(*self.key_ends.get(before)?).ok()?,
            None => 0,
        };
        Some(String::from_utf8_lossy(self.keys.get(start..end)?).into_owned())
    }

    /// A copy from a place on, without keys.
    fn tail(&self, from: usize) -> Self {
        Self {
            first: self.first.saturating_add(from as u64),
            start_ms: tail(&self.start_ms, from),
            duration_ms: tail(&self.duration_ms, from),
            lane: tail(&self.lane, from),
            prefix: tail(&self.prefix, from),
            action: tail(&self.action, from),
            begin_ms: self.begin_ms,
            end_ms: self.end_ms,
            ..Self::default()
        }
    }
}

fn tail<T: Clone>(column: &[T], from: usize) -> Vec<T> {
    column.get(from..).unwrap_or_default().to_vec()
}

/// One run of a task.
#[derive(Debug)]
pub struct TimelineRun<'a> {
    pub worker: WorkerId,
    /// On which thread, as the worker names it.
    pub thread: i64,
    pub key: &'a Key,
    /// Index of its prefix.
    pub prefix: u32,
    /// The run ended in an exception.
    pub failed: bool,
    /// What it spent its time on.
    pub spans: &'a [StartStop],
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Timeline {
    max: usize,
    lanes: Vec<Lane>,
    lane_of: SeededMap<(WorkerId, i64), u16>,
    sealed: VecDeque<Arc<RectChunk>>,
    open: RectChunk,
}

impl Timeline {
    /// Keeps about `max` rectangles; 0: none.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            lanes: Vec::new(),
            lane_of: SeededMap::default(),
            sealed: VecDeque::new(),
            open: RectChunk::starting_at(0),
        }
    }

    /// The line of a thread, if it is known.
    fn lane(&self, worker: WorkerId, thread: i64) -> Option<u16> {
        self.lane_of.get(&(worker, thread)).copied()
    }

    /// Notes a run. `who` tells address, name and host of a worker whose thread was not seen before.
    pub fn push(&mut self, ran: &TimelineRun<'_>, who: impl FnOnce() -> Option<(Text, Text, Text)>) {
        if self.open.len() >= CHUNK {
            self.seal();
        }
        if self.max == 0 || ran.spans.is_empty() {
            return;
        }
        let known = self.lane(ran.worker, ran.thread);
        let Some(lane) = known.or_else(|| self.new_lane(ran.worker, ran.thread, who()?)) else { return };
        let chunk = &mut self.open;
        let run = u16::try_from(chunk.key_ends.len()).unwrap_or(u16::MAX);
        for span in ran.spans {
            let (start_ms, duration_ms) = (span.start * 1e3, (span.stop - span.start).max(0.0) * 1e3);
            if !start_ms.is_finite() || !duration_ms.is_finite() {
                continue;
            }
            chunk.start_ms.push(start_ms);
            chunk.duration_ms.push(duration_ms as f32);
            chunk.lane.push(lane);
            chunk.prefix.push(u16::try_from(ran.prefix).unwrap_or(u16::MAX));
            chunk.action.push(action_number(span.action, ran.failed));
            chunk.run.push(run);
            chunk.begin_ms = chunk.begin_ms.min(start_ms);
            chunk.end_ms = chunk.end_ms.max(start_ms + duration_ms);
        }
        put_key(&mut chunk.keys, ran.key);
        chunk.key_ends.push(u32::try_from(chunk.keys.len()).unwrap_or(u32::MAX));
    }

    fn seal(&mut self) {
        let next = self.open.first.saturating_add(self.open.len() as u64);
        let full = std::mem::replace(&mut self.open, RectChunk::starting_at(next));
        self.sealed.push_back(Arc::new(full));
        while self.sealed.len().saturating_mul(CHUNK) > self.max {
            self.sealed.pop_front();
        }
    }

    fn new_lane(&mut self, worker: WorkerId, thread: i64, (address, name, host): (Text, Text, Text)) -> Option<u16> {
        if self.lanes.len() >= LANES_MAX {
            return None;
        }
        let lane = u16::try_from(self.lanes.len()).ok()?;
        let n = self.lanes.iter().filter(|lane| lane.worker == address).count();
        let n = u16::try_from(n).unwrap_or(u16::MAX);
        self.lanes.push(Lane { worker: address, name, host, thread, n });
        self.lane_of.insert((worker, thread), lane);
        Some(lane)
    }

    /// The worker is gone: its threads get no more rectangles.
    pub fn forget_worker(&mut self, worker: WorkerId) {
        self.lane_of.retain(|(of, _), _| *of != worker);
    }

    /// All threads ever seen, in order of their index.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Number of the oldest that is kept.
    pub fn first(&self) -> u64 {
        self.sealed.front().map_or(self.open.first, |chunk| chunk.first)
    }

    /// Number that the next one will have.
    pub const fn next(&self) -> u64 {
        self.open.first.saturating_add(self.open.len() as u64)
    }

    /// Everything from number `after` on, as far as it is kept. Whole chunks: the first may begin earlier.
    pub fn since(&self, after: u64) -> Vec<Arc<RectChunk>> {
        let ends_later = |chunk: &&Arc<RectChunk>| chunk.first.saturating_add(chunk.len() as u64) > after;
        let mut chunks: Vec<Arc<RectChunk>> = self.sealed.iter().rev().take_while(ends_later).cloned().collect();
        chunks.reverse();
        let from = usize::try_from(after.saturating_sub(self.open.first)).unwrap_or(usize::MAX);
        if from < self.open.len() {
            chunks.push(Arc::new(self.open.tail(from)));
        }
        chunks
    }

    /// Everything with a part between two times. Unit: milliseconds since the epoch.
    pub fn between(&self, from_ms: f64, to_ms: f64) -> Vec<Arc<RectChunk>> {
        let inside = |chunk: &RectChunk| chunk.end_ms >= from_ms && chunk.begin_ms <= to_ms;
        let mut chunks: Vec<_> = self.sealed.iter().filter(|chunk| inside(chunk)).cloned().collect();
        if !self.open.is_empty() && inside(&self.open) {
            chunks.push(Arc::new(self.open.clone()));
        }
        chunks
    }

    /// One rectangle: its chunk and place there.
    pub fn find(&self, number: u64) -> Option<(&RectChunk, usize)> {
        let chunk = if number >= self.open.first {
            &self.open
        } else {
            let at = self.sealed.partition_point(|chunk| chunk.first <= number).checked_sub(1)?;
            self.sealed.get(at)?
        };
        let at = usize::try_from(number.checked_sub(chunk.first)?).ok()?;
        (at < chunk.len()).then_some((chunk, at))
    }

    /// Places of a task's rectangles, newest chunks first. Looks through all that is kept.
    pub fn of_key(&self, key: &Key, max: usize) -> Vec<(&RectChunk, usize)> {
        let mut spelled = Vec::new();
        put_key(&mut spelled, key);
        let mut found = Vec::new();
        for chunk in std::iter::once(&self.open).chain(self.sealed.iter().rev().map(|chunk| &**chunk)) {
            let mut start = 0;
            for (run, &end) in chunk.key_ends.iter().enumerate() {
                if chunk.keys.get(start..end as usize) == Some(&spelled) {
                    let places = chunk.run.iter().enumerate().filter(|(_, of)| usize::from(**of) == run);
                    found.extend(places.map(|(at, _)| (chunk, at)));
                }
                start = end as usize;
            }
            if found.len() >= max {
                break;
            }
        }
        found.truncate(max);
        found
    }
}

fn put_key(bytes: &mut Vec<u8>, key: &Key) {
    let start = bytes.len();
    match key.as_text() {
        Some(text) => bytes.extend_from_slice(text.as_bytes()),
        None => bytes.extend_from_slice(key.to_string().as_bytes()),
    }
    bytes.truncate(start + KEY_BYTES_MAX);
}

const fn action_number(action: Action, failed: bool) -> u8 {
    match action {
        Action::Compute if failed => FAILED,
        Action::Compute => 0,
        Action::Transfer => 1,
        Action::DiskRead => 2,
        Action::DiskWrite => 3,
        Action::Deserialize => 4,
        Action::Other => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(slot: u32) -> WorkerId {
        WorkerId { slot, generation: 1 }
    }

    fn push(timeline: &mut Timeline, n: u64) {
        let start = n as f64;
        let spans = [
            StartStop { action: Action::Transfer, start, stop: start + 0.25 },
            StartStop { action: Action::Compute, start: start + 0.25, stop: start + 1.0 },
        ];
        let key = Key::text(&format!("inc-{n}"));
        let ran = TimelineRun { worker: worker(1), thread: 7, key: &key, prefix: 3, failed: false, spans: &spans };
        timeline.push(&ran, || Some(("tcp://w:1".into(), "w".into(), "w".into())));
    }

    /// Goal: memory is bounded, numbers never change, and keys are found by number.
    #[test]
    fn the_oldest_chunks_go_and_numbers_stay() {
        let mut timeline = Timeline::new(2 * CHUNK);
        for n in 0..3 * CHUNK as u64 {
            push(&mut timeline, n);
        }
        assert_eq!(timeline.next(), 6 * CHUNK as u64);
        assert!(timeline.next() - timeline.first() <= 3 * CHUNK as u64);
        assert!(timeline.find(0).is_none());
        let (chunk, at) = timeline.find(timeline.next() - 1).expect("the newest");
        assert_eq!(chunk.key(at), Some(format!("inc-{}", 3 * CHUNK - 1)));
        assert_eq!(timeline.lanes().len(), 1);
        let seen: usize = timeline.since(timeline.next() - 3).iter().map(|chunk| chunk.len()).sum();
        assert_eq!(seen, 3);
    }
}
