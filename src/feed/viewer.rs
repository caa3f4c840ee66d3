//! One viewer: what it wants, what it knows, and how far it is behind. Its queue is bounded; nothing waits for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::subscription::{Subscription, Topic};

/// Messages that may wait for a viewer to read them. One that is behind by more is skipped.
pub(super) const QUEUE: usize = 4;

/// A viewer that had to be skipped gets summaries for so long, then everything again.
const SUMMARY: Duration = Duration::from_secs(5);

/// Between summaries.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// Longest silence. Proxies close what is silent.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How a viewer keeps up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// It reads.
    Well,
    /// It did not; until then it gets summaries only.
    Summary(Instant),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Viewer {
    pub subscription: Subscription,
    pub queue: mpsc::Sender<Bytes>,
    pub pace: Pace,
    /// As of which number it knows each topic.
    pub known: BTreeMap<Topic, u64>,
    /// Next rectangle that it has not; none: it has nothing yet.
    pub next_rect: Option<u64>,
    pub last_sent: Option<Instant>,
    /// Names that it asked for and that are no topics were not told yet.
    pub tell_unknown: bool,
    /// Times it was skipped.
    pub skipped: u64,
}

impl Viewer {
    pub(super) fn new(subscription: Subscription, queue: mpsc::Sender<Bytes>, epoch: &str) -> Self {
        let mut viewer = Self {
            subscription: Subscription::default(),
            queue,
            pace: Pace::Well,
            known: BTreeMap::new(),
            next_rect: None,
            last_sent: None,
            tell_unknown: false,
            skipped: 0,
        };
        viewer.change(subscription, epoch);
        viewer
    }

    /// Another subscription.
    pub(super) fn change(&mut self, subscription: Subscription, epoch: &str) {
        if let Some((_, since)) = subscription.since.as_ref().filter(|(of, _)| of == epoch) {
            let since = *since;
            self.known.extend(subscription.topics.iter().map(|topic| (*topic, since)));
        }
        if subscription.events != self.subscription.events {
            self.known.remove(&Topic::Events);
        }
        if subscription.stream != self.subscription.stream {
            self.next_rect = None;
        }
        self.known.retain(|topic, _| subscription.topics.contains(topic));
        self.tell_unknown = !subscription.unknown.is_empty();
        self.subscription = subscription;
        self.last_sent = None;
    }

    /// Is it time for its next message?
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let every = match self.pace {
            Pace::Well => Duration::from_millis(self.subscription.every_ms),
            Pace::Summary(_) => SUMMARY_EVERY,
        };
        // A little early is on time: ticks are as far apart as messages.
        self.last_sent.is_none_or(|last| now.saturating_duration_since(last) + Duration::from_millis(20) >= every)
    }

    /// After its time of summaries, a viewer that reads gets everything again.
    pub(super) fn recover(&mut self, now: Instant) {
        if let Pace::Summary(until) = self.pace
            && now >= until
            && self.is_drained()
        {
            self.pace = Pace::Well;
        }
    }

    /// Did it read everything that it was sent?
    pub(super) fn is_drained(&self) -> bool {
        self.queue.capacity() == self.queue.max_capacity()
    }

    /// Queues a message. False: it does not read, so from now on it is told summaries, and knows nothing.
    pub(super) fn send(&mut self, message: Bytes, now: Instant) -> bool {
        self.last_sent = Some(now);
        if self.queue.try_send(message).is_ok() {
            return true;
        }
        self.skipped = self.skipped.saturating_add(1);
        self.pace = Pace::Summary(now + SUMMARY);
        self.known.clear();
        self.next_rect = None;
        false
    }
}
