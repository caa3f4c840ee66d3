//! Cores, memory, limits, control group, clock.

use super::facts::TheMachine;
use super::finding::Finding;
use crate::app::text::counted;
use crate::config::show_size;
use crate::host::{GrantedLimits, MemoryState};

/// A worker keeps two connections and a few files; a scheduler one connection per worker and client. Below this a
/// cluster of a large workstation runs out.
const FILES_MIN: u64 = 4096;
/// Each worker has its own threads, those of numerical libraries and those of its nanny.
const PROCESSES_PER_CORE: u64 = 64;
/// A worker with dask and pandas loaded takes about 150 MiB before it does anything. Unit: bytes.
const MEMORY_MIN: u64 = 512 << 20;
/// The first day of 2026: this program is younger. Unit: seconds since the epoch.
const BUILT_AFTER: f64 = 1_767_225_600.0;
/// Files may be a little ahead of the clock on network disks. Unit: seconds.
const AHEAD_MAX: f64 = 300.0;

pub(super) fn check(machine: &TheMachine) -> Vec<Finding> {
    let mut found = vec![cores(machine), memory(machine.memory, machine.machine.memory_bytes)];
    found.extend(limits(machine.granted, machine.machine.cores));
    found.push(clock(machine.now, machine.newest));
    if machine.uid == 0 && machine.group.path.is_empty() {
        // In a container that is the usual way.
        return found;
    }
    if machine.uid == 0 {
        found.push(
            Finding::note("user", "you are root: tasks run as root, and so does everybody's code who may connect")
                .remedy("run it as yourself, or as the service's own user: rask service install --system"),
        );
    }
    found
}

fn cores(machine: &TheMachine) -> Finding {
    let mut what = format!("{} to use", counted(u64::from(machine.machine.cores), "core"));
    if let Some(quota) = machine.group.cores {
        what.push_str(&format!(", by a quota of {quota} of the control group"));
    }
    if machine.group.delegated {
        what.push_str(", in a control group of our own");
    }
    Finding::ok("cores", what)
}

fn memory(memory: MemoryState, usable: u64) -> Finding {
    let show = show_size;
    let what = format!("{} to use, {} available now", show(usable), show(memory.available_bytes));
    if memory.total_bytes == 0 {
        return Finding::warning("memory", "the machine does not tell its memory")
            .why("/proc/meminfo cannot be read")
            .remedy("say it: --memory-limit 4GiB");
    }
    if usable.min(memory.available_bytes) < MEMORY_MIN {
        return Finding::warning("memory", what)
            .why(format!("below {} workers are stopped before they finish anything", show(MEMORY_MIN)))
            .remedy("end other programs, or start fewer workers: --nworkers 1");
    }
    Finding::ok("memory", what)
}

fn limits(granted: GrantedLimits, cores: u32) -> Vec<Finding> {
    let mut found = Vec::new();
    match granted.open_files {
        Some(now) if now < FILES_MIN => found.push(
            Finding::warning("limits", format!("{now} open files per process"))
                .why("each worker and client takes some: large clusters fail with \"too many open files\"")
                .remedy(match granted.open_files_max {
                    Some(most) if most < FILES_MIN => {
                        format!("raise nofile in /etc/security/limits.conf to {FILES_MIN} or more and log in again")
                    }
                    Some(_) | None => format!("ulimit -n {FILES_MIN} before rask up"),
                }),
        ),
        Some(now) => found.push(Finding::ok("limits", format!("{now} open files per process"))),
        None => found.push(Finding::ok("limits", "no limit on open files")),
    }
    let wanted = u64::from(cores).saturating_mul(PROCESSES_PER_CORE);
    if let Some(most) = granted.processes.filter(|most| *most < wanted) {
        found.push(
            Finding::warning("limits", format!("{most} processes and threads for this user"))
                .why(format!("{} of them are wanted for {}", wanted, counted(u64::from(cores), "core")))
                .remedy("raise nproc in /etc/security/limits.conf and log in again"),
        );
    }
    found
}

fn clock(now: f64, newest: Option<f64>) -> Finding {
    if now < BUILT_AFTER {
        return Finding::problem("clock", "the clock says a time before this program was made")
            .why("certificates are not valid yet, or no longer")
            .remedy("set it: timedatectl set-ntp true");
    }
    match newest {
        Some(newest) if newest > now + AHEAD_MAX => {
            let minutes = ((newest - now) / 60.0).round();
            Finding::warning("clock", format!("files of rask are {minutes} minutes younger than the clock"))
                .why("the clock went back; certificates made before are not valid yet")
                .remedy("set it: timedatectl set-ntp true")
        }
        Some(_) | None => Finding::ok("clock", "plausible"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_low_limit_on_files_has_a_remedy_that_fits() {
        let granted = |now, most| GrantedLimits { open_files: Some(now), open_files_max: Some(most), processes: None };
        let first = |granted| limits(granted, 4).into_iter().next().expect("always one");
        assert_eq!(first(granted(8192, 8192)).severity, Severity::Ok);
        assert!(first(granted(1024, 1 << 20)).remedy.starts_with("ulimit"));
        assert!(first(granted(1024, 1024)).remedy.contains("limits.conf"));
    }

    #[test]
    fn too_few_processes_for_many_cores_are_a_warning() {
        let granted = GrantedLimits { open_files: None, open_files_max: None, processes: Some(1000) };
        assert_eq!(limits(granted, 4).len(), 1);
        assert_eq!(limits(granted, 64).len(), 2);
    }

    #[test]
    fn a_clock_that_went_back_is_noticed_by_our_own_files() {
        let now = BUILT_AFTER + 1e6;
        assert_eq!(clock(now, Some(now + 10.0)).severity, Severity::Ok);
        assert_eq!(clock(now, Some(now + 7200.0)).severity, Severity::Warning);
        assert_eq!(clock(0.0, None).severity, Severity::Problem);
    }

    #[test]
    fn little_memory_is_a_warning_and_none_told_too() {
        let memory_of = |available| MemoryState { total_bytes: 8 << 30, available_bytes: available, swap_bytes: 0 };
        assert_eq!(memory(memory_of(4 << 30), 8 << 30).severity, Severity::Ok);
        assert_eq!(memory(memory_of(100 << 20), 8 << 30).severity, Severity::Warning);
        assert_eq!(memory(MemoryState::default(), u64::MAX).severity, Severity::Warning);
    }
}
