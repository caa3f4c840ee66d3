//! What `start_task_metadata` collects: metadata and final state of the tasks of graphs that come meanwhile.
//!
//! Data only. Source: `distributed/scheduler.py`, `CollectTaskMetaDataPlugin`.

use crate::base::{Key, SeededSet, Text, Value};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct TaskMetadata {
    collectors: Vec<(Text, Collector)>,
}

#[derive(Debug, Default)]
struct Collector {
    wanted: SeededSet<Key>,
    metadata: Vec<(Value, Value)>,
    states: Vec<(Value, Value)>,
}

impl TaskMetadata {
    /// Does nobody collect?
    pub fn is_empty(&self) -> bool {
        self.collectors.is_empty()
    }

    /// Collects under this name from now on, and forgets what was collected under it before.
    pub fn start(&mut self, name: Text) {
        self.collectors.retain(|(known, _)| *known != name);
        self.collectors.push((name, Collector::default()));
    }

    /// `{"metadata": {key: metadata}, "state": {key: state}}`; none when nothing is collected under this name.
    pub fn stop(&mut self, name: &str) -> Option<Value> {
        let at = self.collectors.iter().position(|(known, _)| &**known == name)?;
        let (_, collector) = self.collectors.remove(at);
        Some(Value::map([("metadata", Value::Map(collector.metadata)), ("state", Value::Map(collector.states))]))
    }

    /// A graph with these wanted keys came.
    pub fn on_graph(&mut self, keys: &[Key]) {
        for (_, collector) in &mut self.collectors {
            collector.wanted.extend(keys.iter().cloned());
        }
    }

    /// A task is done.
    pub fn on_ended(&mut self, key: &Key, metadata: Value, state: &'static str) {
        for (_, collector) in &mut self.collectors {
            if collector.wanted.remove(key) {
                let metadata = match &metadata {
                    Value::Map(fields) if fields.is_empty() => Value::Nil,
                    other => other.clone(),
                };
                collector.metadata.push((key.to_value(), metadata));
                collector.states.push((key.to_value(), state.into()));
            }
        }
    }

    /// Every task is forgotten.
    pub fn on_restart(&mut self) {
        for (_, collector) in &mut self.collectors {
            collector.wanted.clear();
        }
    }
}
