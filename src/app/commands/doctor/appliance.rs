//! Configuration, the running appliance, and where Dask's clients would go.

use std::path::PathBuf;

use super::facts::{Dask, DoctorFacts, PeerFacts};
use super::finding::{Finding, show};
use crate::app::command_error::CommandError;
use crate::app::local::state_dir::Running;

/// A clock that is off by more shows in the task stream. Unit: milliseconds.
const SKEW_MS: u64 = 2_000;

pub(super) fn check(facts: &DoctorFacts) -> Vec<Finding> {
    let mut found = vec![config(&facts.config)];
    found.extend(appliance(facts));
    found.extend(clients(&facts.dask, facts.appliance.running.as_ref()));
    found
}

fn config(config: &Result<Option<PathBuf>, CommandError>) -> Finding {
    match config {
        Ok(Some(file)) => Finding::ok("settings", show(file)),
        Ok(None) => Finding::ok("settings", "no rask.toml: the defaults"),
        Err(why) => Finding::problem("settings", why.to_string())
            .why("rask does not start with settings it cannot read")
            .remedy("correct it; `rask sample-config` shows every setting"),
    }
}

fn appliance(facts: &DoctorFacts) -> Vec<Finding> {
    let (appliance, ours) = (&facts.appliance, facts.version);
    let mut found = Vec::new();
    let Some(running) = &appliance.running else {
        found.push(Finding::ok("appliance", "none runs with this state folder (start one: rask up)"));
        if appliance.stale_file {
            found.push(Finding::note(
                "appliance",
                "up.json is left from one that was killed; the next `rask up` replaces it",
            ));
        }
        if !appliance.clusters_alive.is_empty() {
            let names = appliance.clusters_alive.join(", ");
            found.push(
                Finding::note("appliance", format!("clusters that outlived their appliance: {names}"))
                    .remedy("`rask up` takes them over; `rask down` ends them"),
            );
        }
        return found.into_iter().chain(dead_sockets(&appliance.clusters_dead)).collect();
    };
    found.push(match &appliance.health {
        Some(Err(why)) => {
            Finding::problem("appliance", format!("process {} does not answer at {}: {why}", running.pid, running.http))
                .why("the dashboard, the gateway API and new clients wait for it")
                .remedy(format!("`rask logs` may say why; to start anew: kill {} and `rask up`", running.pid))
        }
        Some(Ok(())) | None => Finding::ok("appliance", format!("process {} answers at {}", running.pid, running.http)),
    });
    if running.version != ours {
        found.push(
            Finding::warning("appliance", format!("it is version {}, this program is {ours}", running.version))
                .why("the program was replaced while it ran")
                .remedy("restart it: rask down, then rask up (a service: systemctl restart rask)"),
        );
    }
    found.extend(dead_sockets(&appliance.clusters_dead));
    found.extend(appliance.peers.iter().filter_map(peer));
    found
}

fn peer(peer: &PeerFacts) -> Option<Finding> {
    let (name, secs) = (&peer.name, peer.clock_skew_ms as f64 / 1e3);
    if peer.clock_skew_ms.unsigned_abs() > SKEW_MS {
        let (size, way) = (secs.abs(), if secs > 0.0 { "ahead" } else { "behind" });
        return Some(
            Finding::warning("peers", format!("the clock of {name} is {size:.0} s {way}"))
                .why("times of its tasks are wrong in the task stream; by hours, certificates are not valid there")
                .remedy("on that machine: timedatectl set-ntp true"),
        );
    }
    matches!(peer.state.as_str(), "late" | "gone").then(|| {
        Finding::warning("peers", format!("{name} is {}", peer.state))
            .why("its workers are given up until it comes back, by itself, when it can be reached")
            .remedy("look after it, or forget it: rask peer remove")
    })
}

fn dead_sockets(names: &[String]) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        Finding::note("appliance", format!("sockets of clusters that no longer run: {}", names.join(", ")))
            .remedy("nothing: the next start of each replaces them")
    })
}

/// `Client()` without arguments goes where a variable or a file says.
fn clients(dask: &Dask, running: Option<&Running>) -> Vec<Finding> {
    let ours = running.and_then(|running| running.scheduler.as_deref());
    let mut found = Vec::new();
    if let Some(address) = dask.variable.as_deref().filter(|address| Some(*address) != ours) {
        found.push(
            Finding::warning("clients", format!("$DASK_SCHEDULER_ADDRESS is {address}, which is not this appliance"))
                .why("Client() without arguments connects there")
                .remedy("unset DASK_SCHEDULER_ADDRESS, or: eval \"$(rask env)\""),
        );
    }
    if let Some((path, address)) = dask.file.as_ref().filter(|(_, address)| Some(address.as_str()) != ours) {
        let what = match ours {
            Some(ours) => format!("{} says {address}, the appliance is at {ours}", show(path)),
            None => format!("{} says {address}, and no appliance runs", show(path)),
        };
        let finding = if ours.is_some() { Finding::warning("clients", what) } else { Finding::note("clients", what) };
        found.push(
            finding
                .why("Client() without arguments connects there")
                .remedy("start the appliance and run `rask configure`, or undo it: rask configure --remove"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_peer_is_told_of_when_its_clock_or_itself_is_off() {
        let rate = |state: &str, clock_skew_ms| {
            peer(&PeerFacts { name: "box".to_owned(), state: state.to_owned(), clock_skew_ms })
                .map(|finding| finding.what)
        };
        assert_eq!(rate("up", 50), None);
        assert_eq!(rate("up", -9000).as_deref(), Some("the clock of box is 9 s behind"));
        assert_eq!(rate("gone", 0).as_deref(), Some("box is gone"));
    }

    #[test]
    fn a_variable_that_points_elsewhere_is_a_warning_and_one_that_fits_is_silent() {
        let running = Running {
            pid: 1,
            version: "0".to_owned(),
            http: "http://127.0.0.1:1".to_owned(),
            scheduler: Some("tcp://127.0.0.1:2".to_owned()),
            python: None,
            workers: String::new(),
            log: None,
        };
        let dask = |address: &str| Dask { variable: Some(address.to_owned()), file: None };
        assert_eq!(clients(&dask("tcp://127.0.0.1:2"), Some(&running)), []);
        let found = clients(&dask("tcp://127.0.0.1:3"), Some(&running));
        assert_eq!(found.first().map(|finding| finding.severity), Some(Severity::Warning));
    }
}
