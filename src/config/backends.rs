//! `[[backends]]`: batch systems whose jobs may be workers.

use serde::{Deserialize, Serialize};

use super::units::Secs;

/// One of `[[backends]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendSection {
    /// What users call it.
    pub name: String,
    pub kind: BackendKind,
    /// Empty: the site's default. So are the next three.
    pub partition: String,
    pub account: String,
    pub qos: String,
    pub constraint: String,
    /// Until the batch system ends a job; it is emptied before.
    pub walltime: Secs,
    /// Of each cluster, waiting and running.
    pub max_jobs: u32,
    /// Of each cluster.
    pub max_waiting: u32,
    /// More arguments of `sbatch`.
    pub extra: Vec<String>,
    /// Lines of a shell, before rask starts.
    pub prologue: String,
    /// The executable on nodes. Empty: where this one is.
    pub rask: String,
    /// Local disk of nodes, as a shell expands it there.
    pub scratch: String,
    /// Between two looks at the jobs.
    pub look: Secs,
}

impl Default for BackendSection {
    fn default() -> Self {
        Self {
            name: "slurm".to_owned(),
            kind: BackendKind::Slurm,
            partition: String::new(),
            account: String::new(),
            qos: String::new(),
            constraint: String::new(),
            walltime: Secs(7200.0),
            max_jobs: 100,
            max_waiting: 20,
            extra: Vec::new(),
            prologue: String::new(),
            rask: String::new(),
            scratch: "${TMPDIR:-/tmp}".to_owned(),
            look: Secs(15.0),
        }
    }
}

/// Which batch system it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    #[default]
    Slurm,
}
