//! Values from a peer: one `get_data` with its second leg.
//!
//! Source: `distributed/worker.py`, `get_data_from_worker`.

use std::sync::Arc;
use std::time::Duration;

use super::input::{FetchOutcome, Inbox, NodeInput};
use crate::base::{Key, Limits, Opaque, Text, Value};
use crate::net::{NetError, Pool};
use crate::wire::{Encoder, Message};

/// A transfer that takes longer is given up: the machine asks elsewhere. A peer that is gone is noticed far sooner.
const TRANSFER: Duration = Duration::from_secs(3600);

/// Asks `peer` for values in a task of its own; the outcome goes to the inbox.
pub(super) fn start(pool: &Pool, inbox: &Inbox, us: &Text, peer: Text, keys: &[Key]) {
    let (pool, inbox, question) = (pool.clone(), inbox.clone(), question(us, keys));
    tokio::spawn(async move {
        let answer = pool.call_with_ack(&peer, question, TRANSFER).await;
        let got = match answer {
            Ok(answer) => read(&answer),
            Err(error @ NetError::Wire(_)) => FetchOutcome::Nonsense(error.to_string()),
            Err(error) => FetchOutcome::Broken(error),
        };
        let _closed = inbox.send(NodeInput::Fetched { peer, got });
    });
}

fn question(us: &Text, keys: &[Key]) -> Message {
    let mut out = Encoder::new();
    out.put_map(4);
    for (name, text) in [("op", "get_data"), ("who", us)] {
        out.put_str(name);
        out.put_str(text);
    }
    out.put_str("keys");
    out.put_keys(keys);
    out.put_str("reply");
    out.put_bool(true);
    out.finish()
}

fn read(answer: &Message) -> FetchOutcome {
    let answer = match answer.to_value(&Limits::default()) {
        Ok(answer) => answer,
        Err(error) => return FetchOutcome::Nonsense(error.to_string()),
    };
    match answer.get("status").and_then(Value::as_str) {
        Some("busy") => return FetchOutcome::Busy,
        Some("OK") => {}
        _ => {
            let text = answer.get("exception_text").and_then(Value::as_str).unwrap_or("no status");
            return FetchOutcome::Nonsense(text.to_owned());
        }
    }
    let Some(fields) = answer.get("data").and_then(Value::fields) else {
        return FetchOutcome::Nonsense("no data".to_owned());
    };
    let pair = |(key, value): &(Value, Value)| -> Option<(Key, Arc<Opaque>)> {
        let Value::Serialized(payload) = value else { return None };
        Some((key.as_key()?, payload.clone()))
    };
    match fields.iter().map(pair).collect() {
        Some(values) => FetchOutcome::Values(values),
        None => FetchOutcome::Nonsense("a value that is not serialised".to_owned()),
    }
}
