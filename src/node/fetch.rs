//! Values from a peer: one `get_data` with its second leg.
//!
//! Source: `distributed/worker.py`, `get_data_from_worker`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::driver::Driver;
use super::input::{Asker, DataReply, FetchOutcome, Inbox, NodeInput, PeerCall};
use super::peer::Sent;
use super::settle::{settled, together};
use super::siblings::Sibling;
use crate::base::{Key, Limits, Opaque, Text, Value};
use crate::net::{NetError, Pool};
use crate::wire::{Encoder, Message};

/// A transfer that takes longer is given up: the machine asks elsewhere. A peer that is gone is noticed far sooner.
const TRANSFER: Duration = Duration::from_secs(3600);

/// Asks `peer` for values in a task of its own; the outcome goes to the inbox.
pub(super) fn start(driver: &Driver, peer: Text, keys: Vec<Key>) {
    let (pool, inbox, folder) = (driver.pool.clone(), driver.inbox.clone(), driver.folder.clone());
    let (sibling, us) = (Sibling::find(&peer), driver.address.clone());
    tokio::spawn(async move {
        let got = match sibling {
            Some(sibling) => from_sibling(sibling, keys).await.unwrap_or(FetchOutcome::Broken(NetError::Closed)),
            None => from_peer(&pool, &peer, question(&us, &keys), folder).await,
        };
        let _closed = inbox.send(NodeInput::Fetched { peer, got });
    });
}

/// None: it closes.
async fn from_sibling(sibling: Inbox, keys: Vec<Key>) -> Option<FetchOutcome> {
    let (reply, answer) = oneshot::channel();
    sibling.send(NodeInput::Call(PeerCall::GetData { keys, by: Asker::Sibling, reply })).ok()?;
    let DataReply::Ready { mut payloads, exports, size_bytes } = answer.await.ok()? else {
        return Some(FetchOutcome::Busy);
    };
    let _sent = Sent { inbox: sibling, size_bytes };
    together(&mut payloads, exports).await?;
    Some(FetchOutcome::Shared(payloads))
}

async fn from_peer(pool: &Pool, peer: &Text, question: Message, folder: Arc<Path>) -> FetchOutcome {
    let answer = match pool.call_with_ack(peer, question, TRANSFER).await {
        Ok(answer) => answer,
        Err(error @ NetError::Wire(_)) => return FetchOutcome::Nonsense(error.to_string()),
        Err(error) => return FetchOutcome::Broken(error),
    };
    let values = match read(&answer) {
        Ok(values) => values,
        Err(outcome) => return outcome,
    };
    // Its frames are in the values now, and go with them.
    drop(answer);
    match settled(values, folder).await {
        Ok(values) => FetchOutcome::Values(values),
        Err(error) => FetchOutcome::Broken(error.into()),
    }
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

/// The values of an answer. Errors: what came of the transfer instead.
fn read(answer: &Message) -> Result<Vec<(Key, Arc<Opaque>)>, FetchOutcome> {
    let nonsense = |what: &str| FetchOutcome::Nonsense(what.to_owned());
    let answer = answer.to_value(&Limits::default()).map_err(|error| nonsense(&error.to_string()))?;
    match answer.get("status").and_then(Value::as_str) {
        Some("busy") => return Err(FetchOutcome::Busy),
        Some("OK") => {}
        _ => {
            let text = answer.get("exception_text").and_then(Value::as_str).unwrap_or("no status");
            return Err(nonsense(text));
        }
    }
    let fields = answer.get("data").and_then(Value::fields).ok_or_else(|| nonsense("no data"))?;
    let pair = |(key, value): &(Value, Value)| -> Option<(Key, Arc<Opaque>)> {
        let Value::Serialized(payload) = value else { return None };
        Some((key.as_key()?, payload.clone()))
    };
    fields.iter().map(pair).collect::<Option<_>>().ok_or_else(|| nonsense("a value that is not serialised"))
}
