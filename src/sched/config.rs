//! Settings of one scheduler, checked elsewhere, by Dask's names.

use serde::{Deserialize, Serialize};

use crate::base::Text;

/// `distributed.scheduler.*` and the few other keys that scheduling reads. Durations in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedConfig {
    /// A task that was running on this many dying workers is given up.
    pub allowed_failures: u32,
    /// First guess. Unit: bytes per second.
    pub bandwidth: f64,
    /// Size assumed for a result that does not know its own. Unit: bytes.
    pub default_data_size: i64,
    /// None: never.
    pub idle_timeout_secs: Option<f64>,
    /// None: wait for ever.
    pub no_workers_timeout_secs: Option<f64>,
    /// Move queued-up work to idle workers.
    pub work_stealing: bool,
    /// How often to look for work to move.
    pub work_stealing_interval_secs: f64,
    /// Tasks sent per thread before holding back; infinite: never hold back.
    pub worker_saturation: f64,
    /// Rootish tasks have fewer dependency groups than this.
    pub rootish_taskgroup: usize,
    /// And those groups have fewer tasks than this, together.
    pub rootish_taskgroup_dependencies: usize,
    /// None: silent workers stay.
    pub worker_ttl_secs: Option<f64>,
    /// Assumed for tasks never seen.
    pub unknown_task_duration_secs: f64,
    /// Prefix, seconds.
    pub default_task_durations: Vec<(Text, f64)>,
    /// Run `check` after each step.
    pub validate: bool,
    /// How often semaphore leases are looked over.
    pub lease_validation_interval_secs: f64,
    /// How long an unrefreshed lease lives.
    pub lease_timeout_secs: f64,
    /// `active-memory-manager.start`.
    pub amm_start: bool,
    /// `active-memory-manager.interval`.
    pub amm_interval_secs: f64,
    /// `active-memory-manager.policies` has `ReduceReplicas`.
    pub amm_reduce_replicas: bool,
    /// `active-memory-manager.measure`.
    pub amm_measure: MemoryMeasure,
    /// `distributed.worker.memory.terminate` is set: a task that can't fit is refused.
    pub memory_guard: bool,
    /// `distributed.worker.memory.recent-to-old-time`.
    pub recent_to_old_secs: f64,
    /// Transitions kept for stories (`admin.low-level-log-length`).
    pub story_length: usize,
}

/// Which memory of a worker counts. Source: `distributed/scheduler.py`, `MemoryState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryMeasure {
    /// The process's resident memory.
    Process,
    /// Managed data and unmanaged memory that has been there for a while.
    #[default]
    Optimistic,
    /// Data of tasks in memory.
    Managed,
    /// Data of tasks, in memory and spilled.
    ManagedTotal,
}

impl Default for SchedConfig {
    fn default() -> Self {
        Self {
            allowed_failures: 3,
            bandwidth: 100e6,
            default_data_size: 1024,
            idle_timeout_secs: None,
            no_workers_timeout_secs: None,
            work_stealing: true,
            work_stealing_interval_secs: 1.0,
            worker_saturation: 1.1,
            rootish_taskgroup: 5,
            rootish_taskgroup_dependencies: 5,
            worker_ttl_secs: Some(300.0),
            unknown_task_duration_secs: 0.5,
            default_task_durations: ["rechunk-split", "split-shuffle", "split-taskshuffle", "split-stage"]
                .into_iter()
                .map(|prefix| (prefix.into(), 1e-6))
                .collect(),
            validate: false,
            lease_validation_interval_secs: 10.0,
            lease_timeout_secs: 30.0,
            amm_start: true,
            amm_interval_secs: 2.0,
            amm_reduce_replicas: true,
            amm_measure: MemoryMeasure::Optimistic,
            memory_guard: true,
            recent_to_old_secs: 30.0,
            story_length: 10_000,
        }
    }
}
