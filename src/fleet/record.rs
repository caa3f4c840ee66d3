//! What the store keeps of a cluster: enough for the next appliance to find it, or to say what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::remote_workers::KeptWant;
use super::types::{AdaptBounds, ClusterSettings};
use crate::supervise::ProcessId;

/// The body of a cluster's record. Fields are added with a default: older and newer rasks read each other's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    /// Options as they are shown.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// What they mean.
    pub settings: ClusterSettings,
    pub target: u32,
    /// It follows its load between these.
    pub adapt: Option<AdaptBounds>,
    /// Where the same user connects without TLS: the cluster of `rask up` itself.
    pub plain_address: Option<String>,
    /// The boot of the machine that it was started in.
    pub boot_id: String,
    pub scheduler: Option<ProcessId>,
    /// Its worker pool.
    #[serde(rename = "group")]
    pub pool: Option<ProcessId>,
    /// Its workers may be on other machines.
    pub spans: bool,
    /// It is as large as the machines that are there, until somebody says otherwise: workers on this one.
    pub grows_from: Option<u32>,
    /// What is wanted on other machines.
    #[serde(rename = "away")]
    pub remote: BTreeMap<String, KeptWant>,
    /// Its scheduler was there once.
    pub ran: bool,
    /// What its scheduler said last, if that explains its end.
    pub last_lines: Vec<String>,
}
