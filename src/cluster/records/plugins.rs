//! Plugins: those of workers and nannies, which are kept for newcomers, and those of the scheduler, which live in
//! pyhost and are told what happens here.
//!
//! Data only. Source: `distributed/diagnostics/plugin.py`, `SchedulerPlugin`.

use tokio::sync::mpsc;
use tracing::warn;

use crate::base::{Key, SeededMap, SeededSet, Text, Value};

/// All plugins.
#[derive(Debug, Default)]
pub struct Plugins {
    pub scheduler: SchedulerPlugins,
    pub workers: NamedPlugins,
    pub nannies: NamedPlugins,
}

/// Pickled plugins by name, in the order in which they were registered.
#[derive(Debug, Default)]
pub struct NamedPlugins(Vec<(Text, Value)>);

impl NamedPlugins {
    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| &**known == name)
    }

    /// Is there a plugin of that name?
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Keeps a plugin, instead of the one of that name if there is one.
    pub fn keep(&mut self, name: Text, plugin: Value) {
        match self.position(&name).and_then(|at| self.0.get_mut(at)) {
            Some(entry) => entry.1 = plugin,
            None => self.0.push((name, plugin)),
        }
    }

    /// Forgets a plugin. False: there is none of that name.
    pub fn remove(&mut self, name: &str) -> bool {
        self.position(name).map(|at| self.0.remove(at)).is_some()
    }

    /// `{name: bytes}`.
    pub fn to_value(&self) -> Value {
        Value::Map(self.0.iter().map(|(name, plugin)| (Value::Str(name.clone()), plugin.clone())).collect())
    }
}

/// The scheduler's plugins, and what they want to hear of.
#[derive(Debug, Default)]
pub struct SchedulerPlugins {
    plugins: Vec<(Text, Vec<Text>)>,
    /// Takes news to the task that tells Python.
    queue: Option<mpsc::Sender<Value>>,
    /// What is known of runs that ended in this turn, for those who hear of transitions.
    runs: SeededMap<Key, Vec<(Value, Value)>>,
    /// Requests and items of streams that Python answers.
    operations: SeededSet<Text>,
    stream_operations: SeededSet<Text>,
    /// Steps whose transitions were told.
    pub told_step: u64,
    dropped: u64,
}

impl SchedulerPlugins {
    /// Names of the plugins.
    pub fn names(&self) -> impl Iterator<Item = &Text> {
        self.plugins.iter().map(|(name, _)| name)
    }

    /// Is there a plugin of that name?
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|known| &**known == name)
    }

    /// Does a plugin want to hear of this?
    pub fn wants(&self, hook: &str) -> bool {
        self.plugins.iter().any(|(_, hooks)| hooks.iter().any(|wanted| &**wanted == hook))
    }

    /// Keeps a plugin, instead of the one of that name if there is one.
    pub fn add(&mut self, name: Text, hooks: Vec<Text>) {
        self.remove(&name);
        self.plugins.push((name, hooks));
    }

    /// Forgets a plugin.
    pub fn remove(&mut self, name: &str) {
        self.plugins.retain(|(known, _)| &**known != name);
    }

    /// A run ended: what its transition is told with.
    pub fn on_run(&mut self, key: Key, record: &Value) {
        let fields = record.fields().unwrap_or_default().iter();
        self.runs.insert(key, fields.filter(|(name, _)| name.as_str() != Some("key")).cloned().collect());
    }

    /// What is known of the runs that ended in this turn. None of it is kept.
    pub fn take_runs(&mut self) -> SeededMap<Key, Vec<(Value, Value)>> {
        std::mem::take(&mut self.runs)
    }

    /// User code answers these requests, and these items of streams, from now on.
    pub fn set_operations(&mut self, requests: Vec<Text>, items: Vec<Text>) {
        self.operations = requests.into_iter().collect();
        self.stream_operations = items.into_iter().collect();
    }

    /// Does user code answer this request?
    pub fn answers(&self, op: &str) -> bool {
        self.operations.contains(op)
    }

    /// Takes an item of a stream to user code. False: it knows no such operation.
    pub fn tell_item(&mut self, op: Text, fields: Value) -> bool {
        let known = self.stream_operations.contains(&op);
        if known {
            self.send(Value::Array(vec!["stream".into(), Value::Array(vec![Value::Str(op)]), fields]));
        }
        known
    }

    /// Is there somebody who takes news to Python?
    pub const fn has_queue(&self) -> bool {
        self.queue.is_some()
    }

    /// News go here from now on.
    pub fn set_queue(&mut self, queue: mpsc::Sender<Value>) {
        self.queue = Some(queue);
    }

    /// Tells plugins, if one wants to hear of it.
    pub fn tell(&mut self, hook: &str, args: Vec<Value>, kwargs: Value) {
        if !self.wants(hook) {
            return;
        }
        self.send(Value::Array(vec![hook.into(), Value::Array(args), kwargs]));
    }

    fn send(&mut self, news: Value) {
        if let Some(queue) = &self.queue
            && queue.try_send(news).is_err()
        {
            self.dropped = self.dropped.wrapping_add(1);
            if self.dropped.is_power_of_two() {
                warn!(dropped = self.dropped, "plugins are slower than the scheduler, news for them are dropped");
            }
        }
    }
}
