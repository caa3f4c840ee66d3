//! Finds and reads the configuration, and turns its sections into what modules take.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::command_error::CommandError;
use crate::base::Limits;
use crate::cluster::{Keep, RebalanceRules};
use crate::config::{self, AmmPolicy, Config, Measure};
use crate::sched::{MemoryMeasure, SchedConfig};

/// A configuration and where it came from.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub config: Config,
    /// None: no file was found.
    pub file: Option<PathBuf>,
}

/// Reads `--config`, `$RASK_CONFIG`, `~/.config/rask/rask.toml` or `/etc/rask/rask.toml`, and the environment.
pub fn load(asked: Option<&Path>) -> Result<Loaded, CommandError> {
    let file = match asked {
        Some(path) => Some(path.to_path_buf()),
        None => usual_places().into_iter().find(|path| path.exists()),
    };
    let text = match &file {
        Some(path) => fs::read_to_string(path).map_err(|why| {
            CommandError::usage(format!("cannot read the configuration {}: {why}", path.display()))
                .remedy("check --config or $RASK_CONFIG")
        })?,
        None => String::new(),
    };
    let name = file.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let source = file.is_some().then_some(config::ConfigFile { name: &name, text: &text });
    let vars: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("RASK_") || name.starts_with("DASK_"))
        .collect();
    let config = Config::load(source, &vars).map_err(|why| CommandError::blame(why.blame(), why))?;
    Ok(Loaded { config, file })
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(home) = home("XDG_CONFIG_HOME", ".config") {
        places.push(home.join("rask").join("rask.toml"));
    }
    places.push(PathBuf::from("/etc/rask/rask.toml"));
    places
}

/// A base folder: the variable if it is set, else below the home folder.
pub(crate) fn home(variable: &str, below: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(variable).or_else(|| set("HOME").map(|home| home.join(below)))
}

/// The core's settings.
pub(crate) fn sched_config(scheduler: &config::SchedulerSection) -> SchedConfig {
    let amm = &scheduler.active_memory_manager;
    SchedConfig {
        allowed_failures: scheduler.allowed_failures,
        bandwidth: scheduler.bandwidth.0 as f64,
        default_data_size: i64::try_from(scheduler.default_data_size.0).unwrap_or(i64::MAX),
        idle_timeout_secs: scheduler.idle_timeout.0,
        no_workers_timeout_secs: scheduler.no_workers_timeout.0,
        work_stealing: scheduler.work_stealing,
        work_stealing_interval_secs: scheduler.work_stealing_interval.0,
        worker_saturation: scheduler.worker_saturation,
        rootish_taskgroup: scheduler.rootish_taskgroup,
        rootish_taskgroup_dependencies: scheduler.rootish_taskgroup_dependencies,
        worker_ttl_secs: scheduler.worker_ttl.0,
        unknown_task_duration_secs: scheduler.unknown_task_duration.0,
        default_task_durations: scheduler
            .default_task_durations
            .iter()
            .map(|(prefix, secs)| (prefix.as_str().into(), secs.0))
            .collect(),
        validate: scheduler.validate,
        lease_validation_interval_secs: scheduler.locks.lease_validation_interval.0,
        lease_timeout_secs: scheduler.locks.lease_timeout.0,
        amm_start: amm.start,
        amm_interval_secs: amm.interval.0,
        amm_reduce_replicas: amm.policies.iter().any(AmmPolicy::is_known),
        amm_measure: measure(amm.measure),
        memory_guard: scheduler.worker_memory_terminate,
        recent_to_old_secs: scheduler.recent_to_old_time.0,
        story_length: scheduler.low_level_log_length.max(STORY_LENGTH_MIN),
    }
}

const fn measure(named: Measure) -> MemoryMeasure {
    match named {
        Measure::Process => MemoryMeasure::Process,
        Measure::Optimistic => MemoryMeasure::Optimistic,
        Measure::Managed => MemoryMeasure::Managed,
        Measure::ManagedTotal => MemoryMeasure::ManagedTotal,
    }
}

/// When `rebalance` moves data.
pub(crate) fn rebalance(scheduler: &config::SchedulerSection) -> RebalanceRules {
    let config::Rebalance { measure: named, sender_min, recipient_max, sender_recipient_gap } = scheduler.rebalance;
    RebalanceRules { measure: measure(named), sender_min, recipient_max, sender_recipient_gap }
}

/// The classes of policies that are asked for and left out.
pub(crate) fn policies_left_out(scheduler: &config::SchedulerSection) -> Vec<&str> {
    let policies = scheduler.active_memory_manager.policies.iter();
    policies.filter(|policy| !policy.is_known()).map(|policy| policy.class.as_str()).collect()
}

/// Plugins are told of transitions from the story, so it has to span what happens between two looks at it.
const STORY_LENGTH_MIN: usize = 10_000;

/// What is kept for people to read later.
pub(crate) fn keep(scheduler: &config::SchedulerSection) -> Keep {
    Keep {
        topic_events: scheduler.low_level_log_length,
        log_lines: scheduler.log_length,
        events_cleanup_secs: scheduler.events_cleanup_delay.0,
        ..Keep::default()
    }
}

/// Settings that only the scheduler's Python reads, by Dask's names. What is not set is left to Python's own files.
pub(crate) fn python_env(scheduler: &config::SchedulerSection) -> Vec<(String, String)> {
    if scheduler.allowed_imports == config::SchedulerSection::default().allowed_imports {
        return Vec::new();
    }
    // A list of texts in Rust's spelling is one in Python's too.
    let modules = format!("{:?}", scheduler.allowed_imports);
    vec![("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_IMPORTS".to_owned(), modules)]
}

/// Bounds for peers.
pub(crate) fn limits(config: &Config) -> Limits {
    Limits::from(&config.limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two sets of defaults are written down apart; the core's tests rely on its own.
    #[test]
    fn the_defaults_of_the_configuration_and_of_the_core_agree() {
        let mut ours = sched_config(&config::SchedulerSection::default());
        let mut cores = SchedConfig::default();
        ours.default_task_durations.sort_by(|a, b| a.0.cmp(&b.0));
        cores.default_task_durations.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(ours, cores);
        assert_eq!(limits(&Config::default()), Limits::default());
        assert_eq!(keep(&config::SchedulerSection::default()), Keep::default());
    }
}
