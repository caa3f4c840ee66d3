//! Effects as words: `a: compute y (x on b)`, `alice: key-in-memory x`. Dask's own names of messages, where it has one.

use std::collections::{BTreeMap, BTreeSet};

use rask::base::{CallId, ClientId, Failure, Key, KeyPart, PyError, Text, Value, WorkerId};
use rask::sched::{Answer, Effect, Located, ToClient, ToWorker};

/// What scripts call things that the scheduler knows by number or address.
#[derive(Default)]
pub struct Names {
    pub workers: BTreeMap<WorkerId, String>,
    pub addresses: BTreeMap<Text, String>,
    pub clients: BTreeMap<ClientId, String>,
    /// What a call was about.
    pub calls: BTreeMap<CallId, String>,
    /// Topics of the event log that the script listens to.
    pub topics: BTreeSet<Text>,
}

/// A key as scripts write it: `x`, and `x[3]` for the tuple `('x', 3)`.
pub fn key(key: &Key) -> String {
    if let KeyPart::Tuple(mut parts) = key.part()
        && let (Some(KeyPart::Str(name)), Some(KeyPart::Int(at)), None) = (parts.next(), parts.next(), parts.next())
    {
        return format!("{name}[{at}]");
    }
    key.to_string()
}

pub fn keys<'a>(list: impl IntoIterator<Item = &'a Key>) -> String {
    list.into_iter().map(key).collect::<Vec<_>>().join(" ")
}

/// A value as Python would print it, roughly.
pub fn value(it: &Value) -> String {
    match it {
        Value::Nil => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => format!("{number:.3}"),
        Value::Str(text) => text.to_string(),
        Value::Array(items) => match it.as_key() {
            Some(name) => key(&name),
            None => format!("[{}]", items.iter().map(value).collect::<Vec<_>>().join(", ")),
        },
        Value::Map(fields) => {
            let field = |(name, content): &(Value, Value)| format!("{}: {}", value(name), value(content));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Value::Bin(_) | Value::Serialized(_) | Value::Pickled(_) => "(payload)".to_owned(),
    }
}

fn failure(it: &Failure) -> String {
    match it {
        Failure::Remote { exception_text, .. } => exception_text.to_string(),
        Failure::Raised(error) => py_error(error),
    }
}

fn py_error(error: &PyError) -> String {
    match error {
        PyError::Builtin { class, message } => format!("{class}: {message}"),
        PyError::MissingKey(missing) => format!("KeyError: {}", value(missing)),
        PyError::KilledWorker { worker, allowed_failures, .. } => {
            format!("KilledWorker: last on {worker}, {allowed_failures} deaths allowed")
        }
        PyError::NoWorker { .. } => "NoWorkerError".to_owned(),
        PyError::NoValidWorker { hosts, workers, resources, .. } => {
            let resources: Vec<&Text> = resources.iter().map(|(name, _)| name).collect();
            format!("NoValidWorkerError: hosts {hosts:?}, workers {workers:?}, resources {resources:?}")
        }
        PyError::P2pConsistency(message) => format!("P2PConsistencyError: {message}"),
    }
}

impl Names {
    /// The effect in words; none for effects that scripts leave out.
    pub fn effect(&self, effect: &Effect) -> Option<String> {
        let text = match effect {
            Effect::ToWorker { worker, message } => format!("{}: {}", self.worker(*worker), self.to_worker(message)),
            Effect::ToClient { client, message } => format!("{}: {}", self.client(*client), to_client(message)),
            Effect::ToAllClients { message } => format!("everyone: {}", to_client(message)),
            Effect::Answer { answer: Answer::Worker(_), .. } | Effect::WorkerAdded { .. } => return None,
            Effect::ReadGraph { .. } | Effect::GraphClosed { .. } => return None,
            Effect::Answer { call, answer } => {
                let about = self.calls.get(call).map_or("a call", String::as_str);
                format!("answer to {about}: {}", self.answer(answer))
            }
            Effect::WorkerRemoved { worker, expected, .. } => {
                format!("{} is removed{}", self.worker(*worker), if *expected { ", as expected" } else { "" })
            }
            Effect::WorkerSilent { worker } => format!("{} should be restarted by its nanny", self.worker(*worker)),
            Effect::Retired { worker, moved: true } => format!("{} is retired", self.worker(*worker)),
            Effect::Retired { worker, moved: false } => format!("{} can't be retired", self.worker(*worker)),
            Effect::Log { topics, message } => {
                let topic = topics.iter().find(|topic| self.topics.contains(*topic))?;
                format!("event {topic}: {}", value(message))
            }
            Effect::Warn { text } => format!("warning: {text}"),
            Effect::IdleTimeout => "the scheduler should close: idle".to_owned(),
        };
        Some(self.addresses.iter().fold(text, |text, (address, name)| text.replace(&**address, name)))
    }

    pub fn worker(&self, id: WorkerId) -> &str {
        self.workers.get(&id).map_or("(unknown worker)", String::as_str)
    }

    fn client(&self, id: ClientId) -> &str {
        self.clients.get(&id).map_or("(pseudo client)", String::as_str)
    }

    fn located(&self, data: &Located) -> String {
        let place = |(name, _, holders): (&Key, i64, &[Text])| match holders {
            [] => format!("{} nowhere", key(name)),
            holders => format!("{} on {}", key(name), holders.join(" ")),
        };
        data.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    fn to_worker(&self, message: &ToWorker) -> String {
        match message {
            ToWorker::Compute(compute) => {
                let actor = if compute.actor { " as an actor" } else { "" };
                let inputs = match compute.inputs.keys.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", self.located(&compute.inputs)),
                };
                format!("compute {}{actor}{inputs}", key(&compute.key))
            }
            ToWorker::FreeKeys { keys: list } => format!("free-keys {}", keys(list)),
            ToWorker::RemoveReplicas { keys: list } => format!("remove-replicas {}", keys(list)),
            ToWorker::AcquireReplicas { data } => format!("acquire-replicas {}", self.located(data)),
            ToWorker::StealRequest { key: wanted, .. } => format!("steal-request {}", key(wanted)),
            ToWorker::RefreshWhoHas { data } => format!("refresh-who-has {}", self.located(data)),
            ToWorker::Status { status } => format!("worker-status-change {}", status.name()),
            ToWorker::RemoveWorker { address } => format!("remove-worker {address}"),
            ToWorker::Close { reason } => format!("close ({reason})"),
            ToWorker::ShuffleFail { id, run_id, message } => format!("shuffle-fail {id} run {run_id} ({message})"),
        }
    }

    fn answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::Value(it) => value(it),
            Answer::Keys(list) => keys(list),
            Answer::Worker(id) => self.worker(*id).to_owned(),
            Answer::Refused(reason) => format!("refused, {reason}"),
            Answer::Shuffle(run) => {
                let place = |(partition, worker): &(Vec<i64>, Text)| format!("{partition:?} on {worker}");
                let places: Vec<String> = run.worker_for.iter().map(place).collect();
                format!("run {} with {}", run.run_id, places.join(", "))
            }
            Answer::Participants(workers) => format!("tell {}", workers.join(" ")),
            Answer::Error(error) => py_error(error),
        }
    }
}

fn to_client(message: &ToClient) -> String {
    match message {
        ToClient::KeyInMemory { key: done, .. } => format!("key-in-memory {}", key(done)),
        ToClient::TaskErred { key: erred, failure: reason } => {
            format!("task-erred {} ({})", key(erred), failure(reason))
        }
        ToClient::LostData { key: lost } => format!("lost-data {}", key(lost)),
        ToClient::TaskRetried { key: retried } => format!("task-retried {}", key(retried)),
        ToClient::CancelledKeys { keys: list, reason, .. } => match reason {
            Value::Nil => format!("cancelled-keys {}", keys(list)),
            reason => format!("cancelled-keys {} ({})", keys(list), value(reason)),
        },
        ToClient::Restart => "restart".to_owned(),
    }
}
