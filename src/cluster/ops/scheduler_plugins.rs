//! Scheduler plugins live in pyhost; what happens here is told to those that asked for it, in order.
//!
//! Source: `distributed/diagnostics/plugin.py`, `SchedulerPlugin`.

use tokio::sync::mpsc;
use tracing::warn;

use crate::base::{Text, Value};
use crate::cluster::ops::python;
use crate::cluster::state::Driver;
use crate::cluster::state::handle::Desk;
use crate::pyhost::Pyhost;

/// News that wait for Python. More means that a plugin is slower than the scheduler: then news are dropped, not kept.
const QUEUE_MAX: usize = 100_000;

/// News in one request.
const BATCH_MAX: usize = 1_000;

/// The plugins, and what they want to hear of.
#[derive(Debug, Default)]
pub struct Hooks {
    plugins: Vec<(Text, Vec<Text>)>,
    queue: Option<mpsc::Sender<Value>>,
    /// Steps whose transitions were told.
    told_step: u64,
    dropped: u64,
}

impl Hooks {
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

    /// Forgets a plugin.
    pub fn remove(&mut self, name: &str) {
        self.plugins.retain(|(known, _)| &**known != name);
    }
}

impl Driver {
    /// A plugin started in pyhost.
    pub fn add_hooks(&mut self, pyhost: &Pyhost, name: Text, hooks: Vec<Text>) {
        self.hooks.remove(&name);
        self.hooks.plugins.push((name, hooks));
        if self.hooks.queue.is_none() {
            let (sender, receiver) = mpsc::channel(QUEUE_MAX);
            self.hooks.queue = Some(sender);
            tokio::spawn(tell(self.desk.clone(), pyhost.clone(), receiver));
        }
        self.hooks.told_step = self.stimulus.number;
    }

    /// Tells plugins, if one wants to hear of it.
    pub fn hook(&mut self, hook: &str, args: Vec<Value>, kwargs: Value) {
        if !self.hooks.wants(hook) {
            return;
        }
        let news = Value::Array(vec![hook.into(), Value::Array(args), kwargs]);
        if let Some(queue) = &self.hooks.queue
            && queue.try_send(news).is_err()
        {
            self.hooks.dropped = self.hooks.dropped.wrapping_add(1);
            if self.hooks.dropped.is_power_of_two() {
                warn!(dropped = self.hooks.dropped, "plugins are slower than the scheduler, news for them are dropped");
            }
        }
    }

    /// Tells plugins of the transitions of this turn.
    pub fn hook_transitions(&mut self) {
        if !self.hooks.wants("transition") {
            return;
        }
        let told = self.hooks.told_step;
        self.hooks.told_step = self.stimulus.number;
        let lines: Vec<_> = self.sched.story_since(told).collect();
        for line in lines {
            let stimulus = format!("{}-{}", line.stimulus.0, line.stimulus.1);
            let args = vec![line.key.to_value(), line.start.into(), line.finish.into()];
            self.hook("transition", args, Value::map([("stimulus_id", stimulus.into())]));
        }
    }
}

async fn tell(desk: Desk, pyhost: Pyhost, mut queue: mpsc::Receiver<Value>) {
    let mut events = Vec::new();
    while queue.recv_many(&mut events, BATCH_MAX).await > 0 {
        let Some(snapshot) = desk.ask(|driver| python::snapshot(driver)).await else { return };
        let request = Value::map([("events", Value::Array(std::mem::take(&mut events))), ("snapshot", snapshot)]);
        match pyhost.call("plugin_event", request).await {
            Ok(answer) => python::carry_out(&desk, &answer).await,
            Err(failure) => warn!(?failure, "plugins could not be told what happened"),
        }
    }
}
