//! What viewers are told: JSON, of what each does not know yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::delta::write_text;
use super::history::History;
use super::subscription::Topic;
use super::viewer::Viewer;
use crate::base::{SeededMap, Text};

fn history<'a>(
    topic: Topic,
    viewer: &Viewer,
    topics: &'a mut BTreeMap<Topic, History>,
    events: &'a mut SeededMap<Text, (History, u64)>,
) -> &'a mut History {
    match topic {
        Topic::Events => &mut events.entry(viewer.subscription.events.clone()).or_default().0,
        topic => topics.entry(topic).or_default(),
    }
}

/// Is there something that this viewer does not know?
pub(super) fn has_news(
    viewer: &Viewer,
    topics: &mut BTreeMap<Topic, History>,
    events: &mut SeededMap<Text, (History, u64)>,
) -> bool {
    viewer.tell_unknown
        || viewer
            .subscription
            .topics
            .iter()
            .any(|topic| history(*topic, viewer, topics, events).news(viewer.known.get(topic).copied()).is_some())
}

/// All that a viewer does not know, which it knows then.
pub(super) fn message(
    epoch: &str,
    seq: u64,
    at_secs: f64,
    viewer: &mut Viewer,
    topics: &mut BTreeMap<Topic, History>,
    events: &mut SeededMap<Text, (History, u64)>,
) -> Bytes {
    let mut parts: Vec<(Topic, Arc<str>)> = Vec::new();
    for topic in &viewer.subscription.topics {
        let known = viewer.known.get(topic).copied();
        if let Some(news) = history(*topic, viewer, topics, events).news(known) {
            parts.push((*topic, news));
        }
    }
    let mut text = String::with_capacity(parts.iter().map(|(_, news)| news.len() + 24).sum());
    for (topic, news) in parts {
        if !text.is_empty() {
            text.push(',');
        }
        write_text(topic.name(), &mut text);
        text.push(':');
        text.push_str(&news);
        viewer.known.insert(topic, seq);
    }
    // What it knows without news it knows up to here too.
    viewer.known.values_mut().for_each(|known| *known = seq);
    let more = if std::mem::take(&mut viewer.tell_unknown) {
        format!(",\"unknown\":{}", json!(viewer.subscription.unknown))
    } else {
        String::new()
    };
    envelope(epoch, seq, at_secs, &text, &more)
}

/// A message: whose it is, and the news by topic.
pub(super) fn envelope(epoch: &str, seq: u64, at_secs: f64, topics: &str, more: &str) -> Bytes {
    format!("\u{1}{{\"epoch\":\"{epoch}\",\"seq\":{seq},\"t\":{at_secs:.3},\"topics\":{{{topics}}}{more}}}").into()
}
