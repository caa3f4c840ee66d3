//! The event broker: topics with a short memory, and the clients that listen to them.
//!
//! Data only. It does not send: [`Topics::publish`] says who is to be told.
//!
//! Source: `distributed/broker.py`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::{Text, Value};

/// Topics that exist at once. A peer can name topics freely; the quietest of its inventions must not pile up.
pub const TOPICS_MAX: usize = 100_000;

/// All topics of one scheduler.
#[derive(Debug)]
pub struct Topics {
    by_name: BTreeMap<Text, Topic>,
    /// Events kept per topic.
    events_max: usize,
}

#[derive(Debug, Default)]
struct Topic {
    events: VecDeque<(f64, Value)>,
    /// Events so far, forgotten ones included.
    count: u64,
    /// Names of clients. A client that reconnects subscribes anew.
    subscribers: BTreeSet<Text>,
}

impl Topics {
    /// No topics yet; each will keep its last `events_max` events.
    pub const fn new(events_max: usize) -> Self {
        Self { by_name: BTreeMap::new(), events_max }
    }

    /// Remembers `message` on `topic` and returns the names of the clients to tell.
    pub fn publish(&mut self, topic: &Text, at_secs: f64, message: &Value) -> Vec<Text> {
        let kept = self.events_max;
        let Some(entry) = self.entry(topic) else { return Vec::new() };
        if entry.events.len() >= kept {
            entry.events.pop_front();
        }
        if kept > 0 {
            entry.events.push_back((at_secs, message.clone()));
        }
        entry.count = entry.count.saturating_add(1);
        entry.subscribers.iter().cloned().collect()
    }

    /// From now on `client` is told of events on `topic`.
    pub fn subscribe(&mut self, topic: &Text, client: &Text) {
        if let Some(entry) = self.entry(topic) {
            entry.subscribers.insert(client.clone());
        }
    }

    /// `client` is not told any more.
    pub fn unsubscribe(&mut self, topic: &str, client: &str) {
        if let Some(entry) = self.by_name.get_mut(topic) {
            entry.subscribers.remove(client);
            if entry.subscribers.is_empty() && entry.events.is_empty() {
                self.by_name.remove(topic);
            }
        }
    }

    /// `client` is gone: nothing is pushed to it any more.
    pub fn forget_client(&mut self, client: &str) {
        self.by_name.retain(|_, topic| {
            topic.subscribers.remove(client);
            !topic.subscribers.is_empty() || !topic.events.is_empty()
        });
    }

    /// Forgets what happened on `topic`, not who listens.
    pub fn truncate(&mut self, topic: &str) {
        if let Some(entry) = self.by_name.get_mut(topic) {
            entry.events.clear();
            if entry.subscribers.is_empty() {
                self.by_name.remove(topic);
            }
        }
    }

    /// `[[time, message], ...]` of one topic, oldest first; empty for an unknown one.
    pub fn events(&self, topic: &str) -> Value {
        self.by_name.get(topic).map_or_else(|| Value::Array(Vec::new()), Topic::to_value)
    }

    /// Events of a topic from number `after` on, each with its number and time.
    pub fn since(&self, topic: &str, after: u64) -> Vec<(u64, f64, Value)> {
        let Some(topic) = self.by_name.get(topic) else { return Vec::new() };
        let first = topic.count.saturating_sub(topic.events.len() as u64);
        let numbered = topic.events.iter().zip(first..).map(|((at, message), number)| (number, *at, message));
        let later = numbered.skip_while(|(number, _, _)| *number < after);
        later.map(|(number, at, message)| (number, at, message.clone())).collect()
    }

    /// Topics that have events, by name.
    pub fn names(&self) -> Vec<&str> {
        self.by_name.iter().filter(|(_, topic)| !topic.events.is_empty()).map(|(name, _)| &**name).collect()
    }

    /// `{topic: events}` of every topic that has events.
    pub fn all_events(&self) -> Value {
        let with_events = self.by_name.iter().filter(|(_, topic)| !topic.events.is_empty());
        Value::Map(with_events.map(|(name, topic)| (Value::Str(name.clone()), topic.to_value())).collect())
    }

    fn entry(&mut self, topic: &Text) -> Option<&mut Topic> {
        if !self.by_name.contains_key(topic) && self.by_name.len() >= TOPICS_MAX {
            return None;
        }
        Some(self.by_name.entry(topic.clone()).or_default())
    }
}

impl Topic {
    fn to_value(&self) -> Value {
        Value::Array(
            self.events
                .iter()
                .map(|(at_secs, message)| Value::Array(vec![Value::Float(*at_secs), message.clone()]))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: listeners are told, latecomers can read what happened, and memory is bounded.
    #[test]
    fn a_topic_keeps_its_last_events() {
        const KEPT: usize = 10;
        let mut topics = Topics::new(KEPT);
        let (topic, client) = (Text::from("t"), Text::from("c"));
        assert!(topics.publish(&topic, 0.0, &Value::Int(0)).is_empty());
        topics.subscribe(&topic, &client);
        for n in 1..=KEPT {
            assert_eq!(topics.publish(&topic, 1.0, &Value::from(n)), vec![client.clone()]);
        }
        let events = topics.events("t");
        let events = events.items().expect("a list");
        assert_eq!(events.len(), KEPT);
        assert_eq!(events.first(), Some(&Value::Array(vec![Value::Float(1.0), Value::Int(1)])));
        topics.truncate("t");
        topics.unsubscribe("t", "c");
        assert_eq!(topics.all_events(), Value::Map(Vec::new()));
    }
}
