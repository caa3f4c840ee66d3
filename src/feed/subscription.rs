//! What a viewer subscribed to: names of topics and how finely, as it asked for them.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::base::Text;

/// Most topics and longest texts that a viewer may name; more is cut off.
const TOPICS_MAX: usize = 64;

/// Every topic that there is. The order is the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Overview,
    Workers,
    Prefixes,
    Lanes,
    Names,
    Groups,
    MemoryByKey,
    ComputeByKey,
    TimeByAction,
    System,
    WorkersSeries,
    Events,
    Stealing,
    Bandwidth,
    Fine,
    Exceptions,
    Shuffle,
    Coordination,
    Clients,
    Computations,
    Graph,
    Logs,
}

/// Topics by the name that pages use.
const NAMES: [(&str, Topic); 22] = [
    ("overview", Topic::Overview),
    ("workers", Topic::Workers),
    ("prefixes", Topic::Prefixes),
    ("lanes", Topic::Lanes),
    ("names", Topic::Names),
    ("groups", Topic::Groups),
    ("memory_by_key", Topic::MemoryByKey),
    ("compute_by_key", Topic::ComputeByKey),
    ("time_by_action", Topic::TimeByAction),
    ("system", Topic::System),
    ("workers_series", Topic::WorkersSeries),
    ("events", Topic::Events),
    ("stealing", Topic::Stealing),
    ("bandwidth", Topic::Bandwidth),
    ("fine", Topic::Fine),
    ("exceptions", Topic::Exceptions),
    ("shuffle", Topic::Shuffle),
    ("coordination", Topic::Coordination),
    ("clients", Topic::Clients),
    ("computations", Topic::Computations),
    ("graph", Topic::Graph),
    ("logs", Topic::Logs),
];

impl Topic {
    /// As pages call it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, topic)| *topic == self).map_or("", |(name, _)| name)
    }

    /// By the name that pages use.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, topic)| *topic)
    }

    /// How often it is polled. Unit: milliseconds. What moves while one watches comes often, tables less so.
    pub const fn period_ms(self) -> u64 {
        match self {
            Self::Overview | Self::Prefixes | Self::Lanes | Self::Names => 200,
            Self::Workers => 500,
            Self::Groups | Self::MemoryByKey | Self::ComputeByKey | Self::TimeByAction | Self::Events => 1_000,
            Self::Computations | Self::Stealing | Self::Exceptions | Self::Shuffle | Self::Graph | Self::Logs => 1_000,
            Self::System | Self::WorkersSeries | Self::Bandwidth | Self::Fine | Self::Coordination | Self::Clients => {
                2_000
            }
        }
    }
}

/// The message of a page, as sent.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    want: Vec<String>,
    epoch: Option<String>,
    since: Option<u64>,
    stream: Option<StreamAsked>,
    events: Option<EventsAsked>,
    every: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct StreamAsked {
    span: Option<f64>,
    px: Option<f64>,
    after: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct EventsAsked {
    topic: Option<String>,
}

/// How a viewer wants the task stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamSubscription {
    /// The past it gets at first. Unit: seconds.
    pub span_secs: f64,
    /// Seconds per pixel; 0: nothing is merged.
    pub px: f64,
    /// It has everything before this number (its low half).
    pub after: Option<u64>,
}

/// What a viewer asked for, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub topics: BTreeSet<Topic>,
    /// The task stream.
    pub stream: Option<StreamSubscription>,
    /// Which topic of the scheduler's events.
    pub events: Text,
    /// It holds all its topics as they were then: epoch and number.
    pub since: Option<(String, u64)>,
    /// Least time between messages. Unit: milliseconds.
    pub every_ms: u64,
    /// Names that are no topics.
    pub unknown: Vec<String>,
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            topics: BTreeSet::new(),
            stream: None,
            events: "all".into(),
            since: None,
            every_ms: EVERY_MS,
            unknown: Vec::new(),
        }
    }
}

/// A message that is no subscription.
#[derive(Debug, thiserror::Error)]
#[error("not a subscription to the feed: {0}")]
pub struct SubscriptionError(#[from] serde_json::Error);

/// Unless the viewer says otherwise.
const EVERY_MS: u64 = 200;

impl Subscription {
    /// Reads a page's message. Errors: not the JSON that was agreed on.
    pub fn parse(text: &str) -> Result<Self, SubscriptionError> {
        let asked: Asked = serde_json::from_str(text)?;
        let mut subscription = Self::default();
        let mut stream = false;
        for name in asked.want.into_iter().take(TOPICS_MAX) {
            match Topic::from_name(&name) {
                Some(topic) => drop(subscription.topics.insert(topic)),
                None if name == "stream" => stream = true,
                None => subscription.unknown.push(name.chars().take(TOPICS_MAX).collect()),
            }
        }
        if stream {
            subscription.topics.extend([Topic::Lanes, Topic::Names]);
            let asked = asked.stream.as_ref();
            let number = |value: Option<f64>| value.filter(|number| number.is_finite() && *number >= 0.0);
            subscription.stream = Some(StreamSubscription {
                span_secs: number(asked.and_then(|asked| asked.span)).unwrap_or(60.0).min(3_600.0),
                px: number(asked.and_then(|asked| asked.px)).unwrap_or(0.0),
                after: asked.and_then(|asked| asked.after),
            });
        }
        if let Some(topic) = asked.events.and_then(|events| events.topic) {
            subscription.events = topic.chars().take(256).collect::<String>().into();
        }
        subscription.since = asked.epoch.zip(asked.since);
        subscription.every_ms = asked.every.unwrap_or(EVERY_MS).clamp(100, 10_000);
        Ok(subscription)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_checked_and_bounded() {
        let subscription = Subscription::parse(
            r#"{"v":1,"want":["overview","stream","nonsense"],"stream":{"span":1e9,"px":-1},"every":1,"epoch":"e","since":3}"#,
        )
        .expect("a subscription");
        assert_eq!(subscription.topics, [Topic::Overview, Topic::Lanes, Topic::Names].into());
        assert_eq!(subscription.stream, Some(StreamSubscription { span_secs: 3_600.0, px: 0.0, after: None }));
        assert_eq!((subscription.every_ms, subscription.since), (100, Some(("e".to_owned(), 3))));
        assert_eq!(subscription.unknown, ["nonsense"]);
        assert!(Subscription::parse("[1]").is_err());
        assert!(NAMES.iter().all(|(name, topic)| topic.name() == *name));
    }
}
