//! The owner of all views: polls the scheduler as often as its viewers need, tells each what it does not know yet.
//!
//! One poll serves everybody, a change is written once for all who know the same. Without viewers only a few totals
//! are polled, for the time series.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

use super::delta::Rows;
use super::history::History;
use super::message::{envelope, has_news, message};
use super::overview::About;
use super::rows;
use super::series::{self, MachineGauge, Rates, Sums};
use super::silence::{Silence, within};
use super::stream::{FRESH, LIVE_MAX, Pick, block};
use super::subscription::{Subscription, Topic};
use super::viewer::{KEEP_ALIVE, Pace, Viewer};
use crate::base::{SeededMap, Text};
use crate::cluster::{Control, Snapshot, SnapshotParts, TimelineWindow};

/// Between two polls while somebody watches. Unit: milliseconds.
const TICK: Duration = Duration::from_millis(100);

/// The scheduler answers between two steps; one that takes so long is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// Rows of the lists that could be endless.
const PREFIXES_MAX: usize = 1_000;
/// See [`PREFIXES_MAX`].
const GROUPS_MAX: usize = 2_000;
/// See [`PREFIXES_MAX`].
const GRAPH_MAX: usize = 5_000;
/// See [`PREFIXES_MAX`].
const EVENTS_MAX: usize = 1_000;
/// See [`PREFIXES_MAX`].
const STEALS_MAX: usize = 500;

/// Topics of events that are kept at once: what viewers look at differs little.
const EVENT_TOPICS_MAX: usize = 16;

/// What nobody watches is kept for those who reconnect within so long.
const UNWATCHED: Duration = Duration::from_secs(60);

/// Names a viewer.
pub(super) type ViewerId = u64;

/// What the hub is told.
pub(super) enum Command {
    /// A viewer came; messages go into its queue.
    Join { subscription: Subscription, queue: mpsc::Sender<Bytes>, id: oneshot::Sender<ViewerId> },
    /// It wants something else.
    Change { viewer: ViewerId, subscription: Subscription },
    /// It left.
    Leave { viewer: ViewerId },
    /// All rows of some topics, now, as `{topic: {id: row}}`.
    Rows { topics: Vec<Topic>, reply: oneshot::Sender<String> },
}

/// See the module's documentation.
pub(super) struct Hub {
    control: mpsc::Sender<Control>,
    /// Tells this run of the scheduler from others.
    epoch: String,
    seq: u64,
    at_secs: f64,
    viewers: BTreeMap<ViewerId, Viewer>,
    next_viewer: ViewerId,
    topics: BTreeMap<Topic, History>,
    events: SeededMap<Text, (History, u64)>,
    polled: BTreeMap<Topic, Instant>,
    sampled: Option<Instant>,
    samples: u64,
    rates: Rates,
    machine: MachineGauge,
    steals_from: u64,
    logs_from: u64,
    lanes: usize,
    first_error: Option<String>,
    stream: TimelineWindow,
}

impl Hub {
    pub(super) fn new(control: mpsc::Sender<Control>, epoch: String) -> Self {
        Self {
            control,
            epoch,
            // Numbers begin above zero: zero is "nothing known".
            seq: 1,
            at_secs: 0.0,
            viewers: BTreeMap::new(),
            next_viewer: 1,
            topics: BTreeMap::new(),
            events: SeededMap::default(),
            polled: BTreeMap::new(),
            sampled: None,
            samples: 0,
            rates: Rates::default(),
            machine: MachineGauge::default(),
            steals_from: 0,
            logs_from: 0,
            lanes: 0,
            first_error: None,
            stream: TimelineWindow::default(),
        }
    }

    /// Until the scheduler or every handle is gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            let pause = if self.viewers.is_empty() { Duration::from_secs_f64(series::EVERY_SECS) } else { TICK };
            tokio::select! {
                command = inbox.recv() => match command {
                    None => return,
                    Some(command) => if !self.on_command(command).await { return },
                },
                () = tokio::time::sleep(pause) => if !self.tick().await { return },
            }
        }
    }

    async fn on_command(&mut self, command: Command) -> bool {
        match command {
            Command::Join { subscription, queue, id } => {
                let viewer = self.next_viewer;
                self.next_viewer += 1;
                self.viewers.insert(viewer, Viewer::new(subscription, queue, &self.epoch));
                // It may be gone already; then its queue is closed, and the next tick drops it.
                let _gone = id.send(viewer);
                self.tick().await
            }
            Command::Change { viewer, subscription } => {
                if let Some(viewer) = self.viewers.get_mut(&viewer) {
                    viewer.change(subscription, &self.epoch);
                }
                self.tick().await
            }
            Command::Leave { viewer } => {
                self.viewers.remove(&viewer);
                true
            }
            Command::Rows { topics, reply } => {
                let wanted: BTreeSet<Topic> = topics.iter().copied().collect();
                let alive = self.poll(&wanted, true).await;
                let mut text = "{".to_owned();
                for topic in &topics {
                    if text.len() > 1 {
                        text.push(',');
                    }
                    super::delta::write_text(topic.name(), &mut text);
                    text.push(':');
                    super::delta::write_rows(self.topics.entry(*topic).or_default().rows(), &mut text);
                }
                text.push('}');
                drop(reply.send(text));
                alive
            }
        }
    }

    /// Polls what is due and tells the viewers. False: the scheduler is gone.
    async fn tick(&mut self) -> bool {
        self.viewers.retain(|_, viewer| !viewer.queue.is_closed());
        self.forget_unwatched();
        let mut wanted: BTreeSet<Topic> = BTreeSet::new();
        for viewer in self.viewers.values() {
            match viewer.pace {
                Pace::Well => wanted.extend(&viewer.subscription.topics),
                Pace::Summary(_) => drop(wanted.insert(Topic::Overview)),
            }
        }
        if !self.poll(&wanted, false).await {
            return false;
        }
        self.tell();
        true
    }

    // ---- polling ----------------------------------------------------------------------------------------------

    /// Drops what was not polled for a while; whoever comes back gets it whole.
    fn forget_unwatched(&mut self) {
        let now = Instant::now();
        let stale = |last: &Instant| now.saturating_duration_since(*last) > UNWATCHED;
        let gone: Vec<Topic> = self.polled.iter().filter(|(_, last)| stale(last)).map(|(topic, _)| *topic).collect();
        for topic in gone {
            self.polled.remove(&topic);
            match topic {
                // Threads are told once and must stay; the series are for later.
                Topic::Lanes | Topic::System | Topic::WorkersSeries => continue,
                Topic::Stealing => self.steals_from = 0,
                Topic::Logs => self.logs_from = 0,
                Topic::Events => self.events.clear(),
                _ => {}
            }
            self.topics.remove(&topic);
        }
    }

    /// Brings the topics up to date that are due (all of `wanted`, if `at_once`).
    async fn poll(&mut self, wanted: &BTreeSet<Topic>, at_once: bool) -> bool {
        let now = Instant::now();
        let is_due = |topic: &Topic| {
            let period = Duration::from_millis(topic.period_ms());
            at_once || self.polled.get(topic).is_none_or(|last| now.saturating_duration_since(*last) >= period)
        };
        let mut due: BTreeSet<Topic> = wanted.iter().copied().filter(is_due).collect();
        let sample_due = self.sampled.is_none_or(|last| {
            now.saturating_duration_since(last).as_secs_f64() >= series::EVERY_SECS - TICK.as_secs_f64() / 2.0
        });
        if sample_due {
            due.extend([Topic::System, Topic::WorkersSeries]);
        } else {
            due.remove(&Topic::System);
            due.remove(&Topic::WorkersSeries);
        }
        let rects = self.rects_wanted();
        if due.is_empty() && rects.is_none() {
            return true;
        }
        if rects.is_some() {
            due.extend([Topic::Lanes, Topic::Names]);
        }
        let events = if due.contains(&Topic::Events) { self.next_events() } else { None };
        let snapshot = match self.snapshot(&due, rects, events.clone()).await {
            Ok(snapshot) => snapshot,
            // It is busy: what there is stays, and the next poll tries again.
            Err(Silence::Late) => return true,
            Err(Silence::Gone | Silence::Failed(_)) => return false,
        };
        self.polled.extend(due.iter().map(|topic| (*topic, now)));
        if sample_due {
            self.sampled = Some(now);
        }
        self.seq += 1;
        if let Some((topic, from)) = events {
            self.take_events(topic, from, &snapshot);
        }
        self.take(&due, snapshot, now).await
    }

    /// From which rectangle on somebody needs them, as far as they hold any yet.
    fn rects_wanted(&self) -> Option<u64> {
        let streams =
            self.viewers.values().filter(|viewer| viewer.subscription.stream.is_some() && viewer.pace == Pace::Well);
        let now = Instant::now();
        let streams: Vec<&Viewer> = streams.collect();
        if !streams.iter().any(|viewer| viewer.is_due(now)) {
            return None;
        }
        // From the least on, also for those that are not due yet: they may be so when it comes to telling.
        Some(streams.iter().filter_map(|viewer| viewer.next_rect).min().unwrap_or(u64::MAX))
    }

    async fn snapshot(
        &self,
        due: &BTreeSet<Topic>,
        rects: Option<u64>,
        events: Option<(Text, u64)>,
    ) -> Result<Box<Snapshot>, Silence> {
        let has = |topic| due.contains(&topic);
        let parts = SnapshotParts {
            workers: [Topic::Overview, Topic::Workers, Topic::System].iter().any(|topic| has(*topic)),
            prefixes: [Topic::Prefixes, Topic::MemoryByKey, Topic::ComputeByKey, Topic::TimeByAction, Topic::Graph]
                .iter()
                .any(|topic| has(*topic)),
            groups: (has(Topic::Groups) || has(Topic::Graph)).then_some(GROUPS_MAX),
            graph: has(Topic::Graph).then_some(GRAPH_MAX),
            rects: (has(Topic::Lanes) || has(Topic::Names)).then(|| (rects.unwrap_or(u64::MAX), self.lanes)),
            events,
            stealing: has(Topic::Stealing).then_some(self.steals_from),
            logs: has(Topic::Logs).then_some(self.logs_from),
            bandwidth: has(Topic::Bandwidth),
            fine: has(Topic::Fine),
            exceptions: has(Topic::Exceptions) || has(Topic::Overview),
            shuffle: has(Topic::Shuffle),
            coordination: has(Topic::Coordination),
            clients: has(Topic::Clients),
            computations: has(Topic::Computations),
        };
        let (reply, answer) = oneshot::channel();
        self.control.send(Control::Snapshot { parts, reply }).await.map_err(|_| Silence::Gone)?;
        within(PATIENCE, answer).await
    }

    /// The topic of events whose turn it is, of those that somebody watches, and from which number on.
    fn next_events(&self) -> Option<(Text, u64)> {
        let watched = self.viewers.values().filter(|viewer| viewer.subscription.topics.contains(&Topic::Events));
        let topics: BTreeSet<&Text> = watched.map(|viewer| &viewer.subscription.events).collect();
        let count = topics.len();
        let turn = usize::try_from(self.seq).unwrap_or(0) % count.max(1);
        let topic = topics.into_iter().nth(turn)?;
        Some((topic.clone(), self.events.get(topic).map_or(0, |(_, from)| *from)))
    }

    async fn take(&mut self, due: &BTreeSet<Topic>, mut snapshot: Box<Snapshot>, now: Instant) -> bool {
        self.at_secs = snapshot.totals.at_secs;
        self.rates.take(&snapshot.totals);
        self.machine.look(self.at_secs);
        if let Some(stream) = snapshot.stream.take() {
            self.take_stream(stream);
        }
        self.take_series(due, &snapshot);
        self.take_growing(due, &snapshot);
        let last_error = snapshot.exceptions.iter().max_by(|a, b| a.1.last_secs.total_cmp(&b.1.last_secs));
        if due.contains(&Topic::Overview) {
            self.first_error = last_error.map(|(_, cause)| cause.text.chars().take(120).collect());
        }
        for topic in due {
            if let Some(rows) = self.rows_of(*topic, &snapshot) {
                self.topics.entry(*topic).or_default().take(self.seq, rows);
            }
        }
        self.take_first_blocks(now).await
    }

    fn rows_of(&self, topic: Topic, snapshot: &Snapshot) -> Option<Rows> {
        Some(match topic {
            Topic::Overview => {
                let about = About {
                    machine: &self.machine,
                    rates: &self.rates,
                    viewers: self.viewers.len(),
                    first_error: self.first_error.as_deref(),
                };
                Rows::from([("now".to_owned(), about.overview(snapshot))])
            }
            Topic::Workers => rows::workers(&snapshot.workers),
            Topic::Prefixes => rows::prefixes(&snapshot.prefixes, PREFIXES_MAX),
            Topic::Groups => rows::groups(&snapshot.groups),
            Topic::MemoryByKey => rows::memory_by_key(&snapshot.prefixes),
            Topic::ComputeByKey => rows::compute_by_key(&snapshot.prefixes),
            Topic::TimeByAction => rows::time_by_action(&snapshot.prefixes),
            Topic::Names => rows::names(&self.stream.prefixes),
            Topic::Graph => match &snapshot.graph {
                Some(nodes) => rows::graph_of_tasks(nodes, &snapshot.prefixes, GRAPH_MAX),
                None => rows::graph_of_groups(&snapshot.groups, snapshot.totals.counts.tasks, GRAPH_MAX),
            },
            Topic::Bandwidth => rows::bandwidth(snapshot),
            Topic::Fine => rows::fine(&snapshot.fine),
            Topic::Exceptions => rows::exceptions(&snapshot.exceptions),
            Topic::Shuffle => rows::shuffle(snapshot),
            Topic::Coordination => rows::coordination(snapshot),
            Topic::Clients => rows::clients(&snapshot.clients),
            Topic::Computations => rows::computations(&snapshot.computations),
            // These grow; see `take_growing`, `take_series`, `take_stream`, `take_events`.
            Topic::Stealing | Topic::Logs | Topic::Events => return None,
            Topic::System | Topic::WorkersSeries | Topic::Lanes => return None,
        })
    }

    fn take_events(&mut self, topic: Text, from: u64, snapshot: &Snapshot) {
        if self.events.len() >= EVENT_TOPICS_MAX && !self.events.contains_key(&topic) {
            self.events.clear();
        }
        let seq = self.seq;
        let (history, next) = self.events.entry(topic.clone()).or_insert_with(|| (History::default(), from));
        *next = snapshot.events.last().map_or(*next, |(number, _, _)| number + 1);
        history.append(seq, rows::events(&topic, &snapshot.events), EVENTS_MAX, number_of);
    }

    fn take_stream(&mut self, stream: TimelineWindow) {
        let new = rows::lanes(&stream, self.lanes);
        self.lanes += stream.lanes.len();
        self.topics.entry(Topic::Lanes).or_default().append(self.seq, new, usize::MAX, number_of);
        self.stream = stream;
    }

    fn take_series(&mut self, due: &BTreeSet<Topic>, snapshot: &Snapshot) {
        if !due.contains(&Topic::System) {
            return;
        }
        self.samples += 1;
        let (id, seq) = (self.samples.to_string(), self.seq);
        let row = series::system_row(&snapshot.totals, &Sums::of(&snapshot.workers), &self.machine, self.rates.tasks);
        let system = self.topics.entry(Topic::System).or_default();
        system.append(seq, Rows::from([(id.clone(), row)]), series::KEPT, number_of);
        let row = series::workers_row(self.at_secs, &snapshot.workers);
        let by_worker = self.topics.entry(Topic::WorkersSeries).or_default();
        by_worker.append(seq, Rows::from([(id, row)]), series::WORKERS_KEPT, number_of);
    }

    fn take_growing(&mut self, due: &BTreeSet<Topic>, snapshot: &Snapshot) {
        let seq = self.seq;
        if due.contains(&Topic::Stealing) {
            self.steals_from = snapshot.stealing.last().map_or(self.steals_from, |(number, _, _)| number + 1);
            let history = self.topics.entry(Topic::Stealing).or_default();
            history.append(seq, rows::stealing(&snapshot.stealing), STEALS_MAX, number_of);
            history.set(seq, "total", rows::steal_total(&snapshot.steal_totals));
        }
        if due.contains(&Topic::Logs) {
            self.logs_from = snapshot.logs.last().map_or(self.logs_from, |(number, _, _)| number + 1);
            let history = self.topics.entry(Topic::Logs).or_default();
            history.append(seq, rows::logs(&snapshot.logs), EVENTS_MAX, number_of);
        }
    }

    // ---- telling ----------------------------------------------------------------------------------------------

    /// Viewers that hold no rectangles yet get those of the span they asked for.
    async fn take_first_blocks(&mut self, now: Instant) -> bool {
        let fresh = |viewer: &&mut Viewer| {
            viewer.subscription.stream.is_some() && viewer.next_rect.is_none() && viewer.pace == Pace::Well
        };
        let spans: Vec<f64> =
            self.viewers.values_mut().filter(fresh).filter_map(|v| Some(v.subscription.stream?.span_secs)).collect();
        let Some(span) = spans.into_iter().reduce(f64::max) else { return true };
        let (reply, answer) = oneshot::channel();
        let ask = Control::Rects { from_ms: (self.at_secs - span) * 1e3, to_ms: f64::INFINITY, reply };
        if self.control.send(ask).await.is_err() {
            return false;
        }
        let stream = match within(PATIENCE, answer).await {
            Ok(stream) => stream,
            Err(why) => return why == Silence::Late,
        };
        let (names, lanes) = (stream.prefixes.clone(), stream.lanes.len());
        self.topics.entry(Topic::Names).or_default().take(self.seq, rows::names(&names));
        if lanes > self.lanes {
            let new = TimelineWindow {
                lanes: stream.lanes.get(self.lanes..).unwrap_or_default().to_vec(),
                ..TimelineWindow::default()
            };
            self.take_lanes(&new);
        }
        let (epoch, seq, at_secs) = (self.epoch.clone(), self.seq, self.at_secs);
        for viewer in self.viewers.values_mut().filter(fresh) {
            let Some(subscribed) = viewer.subscription.stream else { continue };
            // What its rectangles are called comes before them.
            let text = message(&epoch, seq, at_secs, viewer, &mut self.topics, &mut self.events);
            let after = subscribed.after.map_or(0, |low| whole_number(low, stream.next));
            let pick = Pick {
                after,
                window_ms: Some(((at_secs - subscribed.span_secs) * 1e3, f64::INFINITY)),
                px: subscribed.px,
                max: LIVE_MAX,
                ..Pick::default()
            };
            let flags = if subscribed.after.is_some() { 0 } else { FRESH };
            let bytes = Bytes::from(block(&stream, &pick, flags));
            if viewer.send(text, now) && viewer.send(bytes, now) {
                viewer.next_rect = Some(stream.next);
            }
        }
        true
    }

    fn take_lanes(&mut self, stream: &TimelineWindow) {
        let new = rows::lanes(stream, self.lanes);
        self.lanes += stream.lanes.len();
        self.topics.entry(Topic::Lanes).or_default().append(self.seq, new, usize::MAX, number_of);
    }

    /// Sends each viewer that is due what it does not know.
    fn tell(&mut self) {
        let now = Instant::now();
        let mut blocks: Vec<((u64, u64), Bytes)> = Vec::new();
        for viewer in self.viewers.values_mut() {
            viewer.recover(now);
            if !viewer.is_due(now) {
                continue;
            }
            if let Pace::Summary(_) = viewer.pace {
                if viewer.is_drained()
                    && let Some(overview) = self.topics.entry(Topic::Overview).or_default().news(None)
                {
                    let topics = format!("\"overview\":{overview}");
                    let text = envelope(&self.epoch, self.seq, self.at_secs, &topics, ",\"summary\":true");
                    viewer.send(text, now);
                }
                continue;
            }
            let quiet = viewer.last_sent.is_some_and(|last| now.saturating_duration_since(last) < KEEP_ALIVE);
            if !quiet || has_news(viewer, &mut self.topics, &mut self.events) {
                let text = message(&self.epoch, self.seq, self.at_secs, viewer, &mut self.topics, &mut self.events);
                if !viewer.send(text, now) {
                    continue;
                }
            }
            if let (Some(subscribed), Some(next)) = (viewer.subscription.stream, viewer.next_rect)
                && next < self.stream.next
            {
                let kind = (next, subscribed.px.to_bits());
                let known = blocks.iter().find(|(of, _)| *of == kind).map(|(_, bytes)| bytes.clone());
                let bytes = known.unwrap_or_else(|| {
                    let pick = Pick { after: next, px: subscribed.px, max: LIVE_MAX, ..Pick::default() };
                    let bytes = Bytes::from(block(&self.stream, &pick, 0));
                    blocks.push((kind, bytes.clone()));
                    bytes
                });
                if viewer.send(bytes, now) {
                    viewer.next_rect = Some(self.stream.next);
                }
            }
        }
    }
}

/// Position of a row by its id: numbers, or numbers with a part behind a point.
fn number_of(id: &str) -> u64 {
    id.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(u64::MAX)
}

/// A number from its low half, close below `next`.
fn whole_number(low: u64, next: u64) -> u64 {
    let low = low & u64::from(u32::MAX);
    let candidate = (next & !u64::from(u32::MAX)) | low;
    if candidate <= next { candidate } else { candidate.saturating_sub(1 << 32) }
}

/// What limits the cluster and the first problem, of the overview alone, for `api/limits`.
pub(super) fn bottleneck_of(rows: &Json) -> Json {
    let now = rows.pointer("/overview/now");
    let field = |name: &str| now.and_then(|row| row.get(name)).cloned().unwrap_or(Json::Null);
    json!({"limit": field("limit"), "problem": field("problem")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_low_half() {
        let next = (7u64 << 32) + 5;
        assert_eq!(whole_number(3, next), (7 << 32) + 3);
        assert_eq!(whole_number(0xFFFF_FFFF, next), (7 << 32) - 1);
        assert_eq!((number_of("12"), number_of("12.3"), number_of("total")), (12, 12, u64::MAX));
    }
}
