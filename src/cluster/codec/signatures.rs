//! What each request takes: the arguments of Dask's handlers, and Python's words for calls that do not fit.
//!
//! Pure. Source: `distributed/core.py`, `Server._handle_comm`, which calls `handler(**message)`.

use std::sync::LazyLock;

use crate::base::{Failure, SeededMap, Value};
use crate::cluster::codec::failures::raise;

/// Fields of every request; no handler of Dask's sees them.
const COMMON: [&str; 4] = ["op", "reply", "close", "serializers"];

/// The operation, the function in Dask that handles it, and its parameters: `name=` may be left out, after `*` come
/// those that have no place in Python's order, and with `**` any other is taken. A further row for an operation is how
/// clients since distributed 2025.4 ask it. What workers and nannies say of themselves is not here: those of a later
/// release may say more.
const ROWS: &[(&str, &str, &str)] = &[
    ("adaptive_target", "Scheduler.adaptive_target", "target_duration="),
    ("amm_handler", "ActiveMemoryManagerExtension.amm_handler", "method"),
    ("benchmark_hardware", "Scheduler.benchmark_hardware", ""),
    ("broadcast", "Scheduler.broadcast", "* msg workers= hosts= nanny= serializers= on_error="),
    ("call_stack", "Scheduler.get_call_stack", "keys="),
    ("check_idle", "Scheduler.check_idle", ""),
    ("dump_cluster_state_to_url", "Scheduler.dump_cluster_state_to_url", "url exclude format **"),
    ("echo", "Server.echo", "data="),
    ("event_clear", "EventExtension.event_clear", "name="),
    ("event_is_set", "EventExtension.event_is_set", "name="),
    ("event_set", "EventExtension.event_set", "name="),
    ("event_wait", "EventExtension.event_wait", "name= timeout="),
    ("events", "Scheduler.get_events", "topic="),
    ("gather", "Scheduler.gather", "keys serializers="),
    ("get_cluster_state", "Scheduler.get_cluster_state", "exclude"),
    ("get_error_cause", "ReplayTaskScheduler.get_error_cause", "* keys= **"),
    ("get_logs", "ServerNode.get_logs", "start= n= timestamps="),
    ("get_metadata", "Scheduler.get_metadata", "keys default="),
    ("get_runspec", "ReplayTaskScheduler.get_runspec", "* key= **"),
    ("get_story", "Scheduler.get_story", "keys_or_stimuli"),
    ("get_task_prefix_states", "Scheduler.get_task_prefix_states", ""),
    ("get_task_status", "Scheduler.get_task_status", "keys"),
    ("get_task_stream", "Scheduler.get_task_stream", "start= stop= count= start_index="),
    ("get_task_stream_index", "Scheduler.get_task_stream_index", ""),
    ("has_what", "Scheduler.get_has_what", "workers="),
    ("identity", "Scheduler.identity", "n_workers="),
    ("log_event", "Scheduler.log_event", "topic msg"),
    ("logs", "ServerNode.get_logs", "start= n= timestamps="),
    ("memory_sampler_start", "MemorySamplerExtension.start", "client measure interval"),
    ("memory_sampler_stop", "MemorySamplerExtension.stop", "key"),
    ("multi_lock_acquire", "MultiLockExtension.acquire", "locks= id= timeout= num_locks="),
    ("multi_lock_release", "MultiLockExtension.release", "id="),
    ("nbytes", "Scheduler.get_nbytes", "keys= summary="),
    ("ncores", "Scheduler.get_ncores", "workers="),
    ("ncores_running", "Scheduler.get_ncores_running", "workers="),
    ("performance_report", "Scheduler.performance_report", "start last_count code= mode="),
    ("processing", "Scheduler.get_processing", "workers="),
    ("profile", "Scheduler.get_profile", "workers= scheduler= server= merge_workers= start= stop= key="),
    ("proxy", "Scheduler.proxy", "msg worker serializers="),
    ("publish_delete", "PublishExtension.delete", "names client uid"),
    ("publish_delete", "PublishExtension.delete", "name"),
    ("publish_get", "PublishExtension.get", "names"),
    ("publish_get", "PublishExtension.get", "name client="),
    ("publish_list", "PublishExtension.list", ""),
    ("publish_put", "PublishExtension.put", "names keys data override client uid"),
    ("publish_put", "PublishExtension.put", "keys= data= name override= client="),
    ("queue_create", "QueueExtension.create", "name= client= maxsize="),
    ("queue_get", "QueueExtension.get", "name= client= timeout= batch="),
    ("queue_put", "QueueExtension.put", "name= key= data= client= timeout="),
    ("queue_qsize", "QueueExtension.qsize", "name= client="),
    ("rebalance", "Scheduler.rebalance", "keys= workers= stimulus_id="),
    ("register_nanny_plugin", "Scheduler.register_nanny_plugin", "plugin name idempotent"),
    ("register_nanny_plugin", "Scheduler.register_nanny_plugin", "plugin name"),
    ("register_scheduler_plugin", "Scheduler.register_scheduler_plugin", "plugin name= * idempotent"),
    ("register_scheduler_plugin", "Scheduler.register_scheduler_plugin", "plugin name="),
    ("register_worker_plugin", "Scheduler.register_worker_plugin", "plugin name * idempotent"),
    ("register_worker_plugin", "Scheduler.register_worker_plugin", "plugin name"),
    ("replicate", "Scheduler.replicate", "keys n= workers= branching_factor= delete= stimulus_id="),
    ("restart", "Scheduler.restart", "* client= timeout= wait_for_workers= stimulus_id"),
    (
        "restart_workers",
        "Scheduler.restart_workers",
        "workers= * client= timeout= wait_for_workers= on_error= stimulus_id",
    ),
    ("retire_workers", "Scheduler.retire_workers", "workers= * names= close_workers= remove= stimulus_id= **"),
    ("retry", "Scheduler.stimulus_retry", "keys client="),
    ("run_function", "Scheduler.run_function", "function args= kwargs= wait="),
    ("scatter", "Scheduler.scatter", "data workers client broadcast= timeout="),
    ("semaphore_acquire", "SemaphoreExtension.acquire", "name= timeout= lease_id="),
    ("semaphore_close", "SemaphoreExtension.close", "name="),
    ("semaphore_refresh_leases", "SemaphoreExtension.refresh_leases", "name= lease_ids="),
    ("semaphore_register", "SemaphoreExtension.create", "name max_leases lease_timeout"),
    ("semaphore_release", "SemaphoreExtension.release", "name= lease_id="),
    ("semaphore_value", "SemaphoreExtension.get_value", "name="),
    ("set_metadata", "Scheduler.set_metadata", "keys value="),
    ("set_resources", "Scheduler.add_resources", "worker resources="),
    ("set_restrictions", "Scheduler.set_restrictions", "worker"),
    ("shuffle_barrier", "ShuffleSchedulerPlugin.barrier", "id run_id consistent"),
    ("shuffle_get", "ShuffleSchedulerPlugin.get", "id worker"),
    ("shuffle_get_or_create", "ShuffleSchedulerPlugin.get_or_create", "shuffle_id key worker"),
    ("shuffle_restrict_task", "ShuffleSchedulerPlugin.restrict_task", "id run_id key worker"),
    ("start_task_metadata", "Scheduler.start_task_metadata", "name"),
    ("stop_task_metadata", "Scheduler.stop_task_metadata", "name="),
    ("subscribe_worker_status", "Scheduler.subscribe_worker_status", ""),
    ("terminate", "Scheduler.close", "timeout= reason="),
    ("unregister", "Scheduler.remove_worker", "address * stimulus_id expected= close="),
    ("unregister_nanny_plugin", "Scheduler.unregister_nanny_plugin", "name"),
    ("unregister_scheduler_plugin", "Scheduler.unregister_scheduler_plugin", "name"),
    ("unregister_worker_plugin", "Scheduler.unregister_worker_plugin", "name"),
    ("update_data", "Scheduler.update_data", "* who_has nbytes client="),
    ("variable_get", "VariableExtension.get", "name= client= timeout="),
    ("variable_set", "VariableExtension.set", "name= key= data= client= timeout="),
    ("versions", "ServerNode.versions", "packages="),
    ("who_has", "Scheduler.get_who_has", "keys="),
    ("worker_logs", "Scheduler.get_worker_logs", "n= workers= nanny="),
    ("workers_to_close", "Scheduler.workers_to_close", "memory_ratio= n= key= minimum= target= attribute="),
];

struct Signature {
    function: &'static str,
    /// Each with whether it may be left out.
    positional: Vec<(&'static str, bool)>,
    by_name_only: Vec<(&'static str, bool)>,
    takes_others: bool,
}

static SIGNATURES: LazyLock<SeededMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
    let mut all: SeededMap<&'static str, Vec<Signature>> = SeededMap::default();
    for (op, function, parameters) in ROWS {
        all.entry(*op).or_default().push(Signature::read(function, parameters));
    }
    all
});

/// Holds the arguments of a request against what the operation takes. Errors: the `TypeError` that Python raises.
pub fn check(op: &str, body: &Value) -> Result<(), Failure> {
    let Some(ways) = SIGNATURES.get(op) else { return Ok(()) };
    let mut first = None;
    for way in ways {
        match way.misfit(body) {
            None => return Ok(()),
            Some(text) => first = first.or(Some(text)),
        }
    }
    first.map_or(Ok(()), |text| Err(raise("TypeError", text)))
}

impl Signature {
    fn read(function: &'static str, parameters: &'static str) -> Self {
        let mut read = Self { function, positional: Vec::new(), by_name_only: Vec::new(), takes_others: false };
        let mut starred = false;
        for word in parameters.split_whitespace() {
            let parameter = (word.trim_end_matches('='), word.ends_with('='));
            match word {
                "*" => starred = true,
                "**" => read.takes_others = true,
                _ if starred => read.by_name_only.push(parameter),
                _ => read.positional.push(parameter),
            }
        }
        read
    }

    /// Why a call does not fit, in Python's words and in the order in which Python looks.
    fn misfit(&self, body: &Value) -> Option<String> {
        let known = |name: &str| self.positional.iter().chain(&self.by_name_only).any(|(known, _)| *known == name);
        let given = body.fields().unwrap_or_default().iter();
        // One that says nothing is passed over: clients of a later release may have it.
        let said = given.filter(|(_, value)| !value.is_nil()).filter_map(|(name, _)| name.as_str());
        if let Some(other) = said.filter(|name| !COMMON.contains(name)).find(|name| !self.takes_others && !known(name))
        {
            return Some(format!("{}() got an unexpected keyword argument '{other}'", self.function));
        }
        let missing = |parameters: &[(&'static str, bool)], kind: &str| {
            let absent = parameters.iter().filter(|(name, optional)| !optional && body.get(name).is_none());
            let names: Vec<String> = absent.map(|(name, _)| format!("'{name}'")).collect();
            let plural = if names.len() == 1 { "" } else { "s" };
            let count = names.len();
            let listed = listed(&names)?;
            Some(format!("{}() missing {count} required {kind} argument{plural}: {listed}", self.function))
        };
        missing(&self.positional, "positional").or_else(|| missing(&self.by_name_only, "keyword-only"))
    }
}

/// `a`, `a and b`, `a, b, and c`. None: nothing to list.
fn listed(names: &[String]) -> Option<String> {
    match names {
        [] => None,
        [one] => Some(one.clone()),
        [one, other] => Some(format!("{one} and {other}")),
        [most @ .., last] => Some(format!("{}, and {last}", most.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::codec::failures::failure_text;

    /// What is said of a call with these arguments, each of them 1.
    fn told(op: &str, names: &[&str]) -> String {
        let fields = names.iter().map(|name| (Value::from(*name), Value::Int(1))).collect();
        check(op, &Value::Map(fields)).map_or_else(|failure| failure_text(&failure), |()| String::new())
    }

    /// Goal: calls that do not fit are refused as Python does.
    #[test]
    fn a_call_that_does_not_fit_is_refused_in_pythons_words() {
        let all = told("scatter", &["op", "reply"]);
        assert!(all.contains("missing 3 required positional arguments: 'data', 'workers', and 'client'"), "{all}");
        let one = told("scatter", &["data", "client"]);
        assert!(one.contains("Scheduler.scatter() missing 1 required positional argument: 'workers'"), "{one}");
        let by_name = told("update_data", &[]);
        assert!(by_name.contains("missing 2 required keyword-only arguments: 'who_has' and 'nbytes'"), "{by_name}");
        let unknown = told("who_has", &["what"]);
        assert!(unknown.contains("Scheduler.get_who_has() got an unexpected keyword argument 'what'"), "{unknown}");
        let newest = told("publish_get", &[]);
        assert!(newest.contains("missing 1 required positional argument: 'names'"), "{newest}");
    }

    /// Goal: what some client of Dask asks is not refused.
    #[test]
    fn calls_of_older_and_later_clients_fit() {
        let fitting: [(&str, &[&str]); 4] = [
            ("who_has", &["keys", "serializers"]),
            ("retire_workers", &["anything"]),
            ("publish_get", &["name"]),
            ("heartbeat_worker", &["anything"]),
        ];
        for (op, names) in fitting {
            assert_eq!(told(op, names), "", "{op}");
        }
        let says_nothing = Value::map([("keys", Value::Int(1)), ("of_a_later_release", Value::Nil)]);
        assert!(check("gather", &says_nothing).is_ok());
    }
}
