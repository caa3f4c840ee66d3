//! Fetches results from workers for clients. Payloads pass through as closed frames.
//!
//! Source: `distributed/scheduler.py`, `gather`; `distributed/utils_comm.py`, `gather_from_workers`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::{error, warn};

use crate::base::{Key, Rng, SeededMap, SeededSet, Text, Value};
use crate::clock::random_u64;
use crate::cluster::state::Handle;
use crate::cluster::state::call::Outcome;
use crate::cluster::state::prefetched::Fetched;
use crate::net::NetError;

/// How long a worker that says `busy` is left alone.
///
/// Source: `distributed/utils_comm.py`, `gather_from_workers`.
const BUSY_PAUSE: Duration = Duration::from_millis(150);

/// Longest one worker may take for its part of a gather: large data over a slow link. A broken connection is noticed
/// much earlier, by TCP.
pub const DATA_DEADLINE: Duration = Duration::from_secs(3_600);

/// `gather`: `{"status": "OK", "data": {key: payload}}`, or the keys that nobody could give. What was fetched `ahead`
/// is all that is asked for, if it came.
///
/// `serializers`: what the client can read, if that is not everything.
pub async fn gather(handle: Handle, keys: Vec<Key>, ahead: Option<Fetched>, serializers: Option<Value>) -> Outcome {
    if let Some(ahead) = ahead
        && let Ok(Some(pair)) = ahead.await
    {
        return Ok(found(&handle, vec![pair]).await);
    }
    let mut fetch = Fetch {
        rng: Rng::new(random_u64()),
        serializers,
        data: Vec::with_capacity(keys.len()),
        failed: Vec::new(),
        missing_workers: BTreeSet::new(),
    };
    let mut missing = keys;
    while !missing.is_empty() {
        let asked = missing.clone();
        let Some(located) =
            handle.ask(move |state| asked.into_iter().map(|key| (state.holders(&key), key)).collect::<Vec<_>>()).await
        else {
            break;
        };
        let mut who_has: SeededMap<Key, Vec<Text>> = SeededMap::default();
        for (mut holders, key) in located {
            holders.retain(|holder| !fetch.missing_workers.contains(holder));
            if holders.is_empty() {
                fetch.failed.push(key);
            } else {
                who_has.insert(key, holders);
            }
        }
        missing = fetch.fetch_all(&handle, who_has).await;
    }
    if fetch.failed.is_empty() {
        return Ok(found(&handle, fetch.data).await);
    }
    log_gather(&handle, fetch.data.len() + fetch.failed.len()).await;
    warn!(keys = fetch.failed.len(), "some keys could not be gathered");
    let failed = fetch.failed.iter().map(Key::to_value).collect();
    Ok(Value::map([("status", "error".into()), ("keys", Value::Array(failed))]))
}

async fn found(handle: &Handle, data: Vec<(Value, Value)>) -> Value {
    log_gather(handle, data.len()).await;
    Value::map([("status", "OK".into()), ("data", Value::Map(data))])
}

async fn log_gather(handle: &Handle, count: usize) {
    handle
        .tell(move |state| {
            let message = Value::map([("action", "gather".into()), ("count", count.into())]);
            state.log_event(&["all".into()], &message);
        })
        .await;
}

struct Fetch {
    rng: Rng,
    serializers: Option<Value>,
    data: Vec<(Value, Value)>,
    failed: Vec<Key>,
    missing_workers: BTreeSet<Text>,
}

impl Fetch {
    /// Asks holders until each key is here, failed, or has no holder left. Returns the last kind.
    async fn fetch_all(&mut self, handle: &Handle, mut who_has: SeededMap<Key, Vec<Text>>) -> Vec<Key> {
        let mut busy: SeededSet<Text> = SeededSet::default();
        while !who_has.is_empty() {
            let groups = self.choose(&mut who_has, &busy);
            if groups.is_empty() {
                if busy.is_empty() {
                    return who_has.into_keys().collect();
                }
                tokio::time::sleep(BUSY_PAUSE).await;
                busy.clear();
                continue;
            }
            let serializers = self.serializers.as_ref();
            let asked = groups.iter().map(|(address, keys)| get_data(handle, address, keys, serializers));
            let replies = join_all(asked).await;
            for ((address, keys), reply) in groups.into_iter().zip(replies) {
                self.take(&address, keys, reply, &mut who_has, &mut busy);
            }
        }
        Vec::new()
    }

    /// A random holder that is not busy for each key, keys grouped by holder.
    fn choose(&mut self, who_has: &mut SeededMap<Key, Vec<Text>>, busy: &SeededSet<Text>) -> SeededMap<Text, Vec<Key>> {
        let mut groups: SeededMap<Text, Vec<Key>> = SeededMap::default();
        for (key, holders) in who_has {
            holders.retain(|holder| !self.missing_workers.contains(holder));
            let ready: Vec<&Text> = holders.iter().filter(|holder| !busy.contains(*holder)).collect();
            if let Some(holder) = ready.get(self.rng.below(ready.len())) {
                groups.entry((*holder).clone()).or_default().push(key.clone());
            }
        }
        groups
    }

    fn take(
        &mut self,
        address: &Text,
        keys: Vec<Key>,
        reply: Result<Value, NetError>,
        who_has: &mut SeededMap<Key, Vec<Text>>,
        busy: &mut SeededSet<Text>,
    ) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(failure) => {
                warn!(worker = %address, %failure, "a worker did not give its data");
                self.missing_workers.insert(address.clone());
                return;
            }
        };
        match reply.get("status").and_then(Value::as_str) {
            Some("busy") => {
                busy.insert(address.clone());
            }
            Some("OK") => {
                let Value::Map(fields) = reply else { return };
                let data = fields.into_iter().find(|(name, _)| name.as_str() == Some("data")).map(|(_, data)| data);
                if let Some(Value::Map(pairs)) = data {
                    for (key, payload) in pairs {
                        if key.as_key().is_some_and(|key| who_has.remove(&key).is_some()) {
                            self.data.push((key, payload));
                        }
                    }
                }
                for key in keys {
                    if let Some(holders) = who_has.get_mut(&key) {
                        holders.retain(|holder| holder != address);
                    }
                }
            }
            _ => {
                error!(worker = %address, "a worker failed to give its data");
                for key in keys {
                    who_has.remove(&key);
                    self.failed.push(key);
                }
            }
        }
    }
}

/// One result from one of its holders; none when that one has something else to do, or fails.
pub async fn fetch_one(handle: Handle, address: Text, key: Key) -> Option<(Value, Value)> {
    let reply = get_data(&handle, &address, std::slice::from_ref(&key), None).await.ok()?;
    let Value::Map(fields) = reply else { return None };
    // Only an answer with data has this field; `busy` has none.
    let data = fields.into_iter().find(|(name, _)| name.as_str() == Some("data")).map(|(_, data)| data)?;
    let Value::Map(pairs) = data else { return None };
    pairs.into_iter().find(|(name, _)| name.as_key().as_ref() == Some(&key))
}

async fn get_data(
    handle: &Handle,
    address: &Text,
    keys: &[Key],
    serializers: Option<&Value>,
) -> Result<Value, NetError> {
    let mut body = vec![
        ("op".into(), "get_data".into()),
        ("keys".into(), Value::Array(keys.iter().map(Key::to_value).collect())),
        ("who".into(), Value::Nil),
        ("reply".into(), true.into()),
    ];
    body.extend(serializers.map(|serializers| ("serializers".into(), serializers.clone())));
    handle.call_with_ack(address, &Value::Map(body), DATA_DEADLINE).await
}
