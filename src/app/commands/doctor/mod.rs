//! `rask doctor`: what could go wrong on this machine, and what to do about it.
//!
//! DoctorFacts are gathered first and changed nothing ([`facts`]); checks are functions from facts to findings, so that each
//! can be tried on a machine that does not exist.

mod appliance;
mod certificates;
mod facts;
mod files;
mod finding;
mod machine;
mod network;
mod python;

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::app::command_error::CommandError;
use crate::app::local::state_dir as state;
use crate::app::process::block_on;
use crate::app::text::counted;
use crate::app::text::out;
use crate::app::text::outln;
use facts::DoctorFacts;

pub use facts::DoctorArgs;
pub use finding::{Finding, Severity};

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The worst of the findings.
    pub worst: Severity,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    fn of(facts: &DoctorFacts) -> Self {
        let mut findings = Vec::new();
        findings.extend(appliance::check(facts));
        findings.extend(python::check(&facts.python));
        findings.extend(network::check(&facts.network));
        findings.extend(machine::check(&facts.machine));
        findings.extend(files::check(&facts.files));
        findings.extend(certificates::check(&facts.certificates, facts.machine.now));
        let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
        Self { worst, findings }
    }

    /// For people: a line per finding, reason and remedy below it.
    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let (severity, area, what) = (finding.severity.word(), finding.area, &finding.what);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{severity:<8} {area:<10} {what}");
            for more in [&finding.why, &finding.remedy].into_iter().filter(|more| !more.is_empty()) {
                let mark = if more == &finding.remedy { "-> " } else { "" };
                let _ = writeln!(text, "{:20}{mark}{more}", "");
            }
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
        let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
        let _ = match (problems, warnings) {
            (0, 0) => writeln!(text, "\nAll is well."),
            (_, _) => writeln!(text, "\n{}, {}.", counted(problems, "problem"), counted(warnings, "warning")),
        };
        text
    }
}

/// Looks at everything. Changes nothing; starts Python to ask its versions, which takes most of a second.
///
/// Errors: there is no folder for state.
pub async fn examine(args: &DoctorArgs) -> Result<Diagnosis, CommandError> {
    let state: PathBuf = state::state_dir(args.state_dir.as_deref())?;
    Ok(Diagnosis::of(&DoctorFacts::gather(args, &state).await))
}

/// Examines and prints. Returns the exit code: 1 if there is a problem.
pub fn doctor(args: &DoctorArgs, as_json: bool) -> Result<u8, CommandError> {
    let diagnosis = block_on(examine(args))?;
    if as_json {
        let text = serde_json::to_string_pretty(&diagnosis);
        outln!("{}", text.map_err(|why| CommandError::world(format!("no JSON of the findings: {why}")))?);
    } else {
        out(&diagnosis.text());
    }
    Ok(u8::from(diagnosis.worst == Severity::Problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_why_and_remedy_and_counts_the_bad_ones() {
        let findings = vec![
            Finding::ok("clock", "fine"),
            Finding::problem("ports", "port 1 is taken").why("nobody can connect").remedy("stop it"),
        ];
        let text = Diagnosis { worst: Severity::Problem, findings }.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"ok       clock      fine"));
        assert_eq!(lines.get(3).map(|line| line.trim()), Some("-> stop it"));
        assert_eq!(lines.last(), Some(&"1 problem, 0 warnings."));
    }
}
