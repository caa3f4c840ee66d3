//! `[gateway]`: who may use dask-gateway's API, what clusters may take, which options there are.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::units::{Auto, ByteSize, MaybeSecs, Secs};

/// `[gateway]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySection {
    /// Who may use it.
    pub auth: GatewayAuth,
    /// Each cluster.
    pub cluster: GatewayCluster,
    /// Each user.
    pub user: GatewayUser,
    /// What users may choose; empty: the built-in list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<GatewayOption>,
}

/// `[gateway.auth]`
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayAuth {
    /// How users say who they are.
    #[serde(rename = "type")]
    pub kind: AuthType,
    /// Of `basic`.
    pub password: String,
    /// Of `jupyterhub`.
    pub hub_api_url: String,
    /// Of `jupyterhub`: a scope that users need.
    pub service_name: String,
    /// Users who see and stop everybody's clusters.
    pub admin_users: Vec<String>,
}

/// The password is not for logs.
impl std::fmt::Debug for GatewayAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayAuth").field("kind", &self.kind).field("hub_api_url", &self.hub_api_url).finish()
    }
}

/// How users say who they are. Tokens work with all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthType {
    /// Programs of this user, on this machine, need not.
    #[default]
    Local,
    /// Any name, one password.
    Basic,
    /// Tokens only.
    Token,
    /// A hub knows.
    Jupyterhub,
}

/// `[gateway.cluster]`. Limits: 0 is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayCluster {
    /// The scheduler must be there by then.
    pub start_timeout: Secs,
    /// Without client and work.
    pub idle_timeout: MaybeSecs,
    /// From its creation.
    pub max_lifetime: MaybeSecs,
    /// Pause between two checks of adaptive clusters.
    pub adaptive_period: Secs,
    /// Workers of one cluster.
    pub cluster_max_workers: Auto<u32>,
    /// Cores of one cluster's workers.
    pub cluster_max_cores: u32,
    /// Memory of one cluster's workers.
    pub cluster_max_memory: ByteSize,
}

impl Default for GatewayCluster {
    fn default() -> Self {
        Self {
            start_timeout: Secs(120.0),
            idle_timeout: MaybeSecs(Some(300.0)),
            max_lifetime: MaybeSecs(Some(86400.0)),
            adaptive_period: Secs(3.0),
            cluster_max_workers: Auto::Auto,
            cluster_max_cores: 0,
            cluster_max_memory: ByteSize(0),
        }
    }
}

/// `[gateway.user]`: all clusters of a user together. 0 is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayUser {
    /// Clusters that run or start.
    pub max_clusters: u32,
    /// Their workers.
    pub max_workers: u32,
    /// Cores of their workers.
    pub max_cores: u32,
    /// Memory of their workers.
    pub max_memory: ByteSize,
}

impl Default for GatewayUser {
    fn default() -> Self {
        Self { max_clusters: 0, max_workers: 0, max_cores: 0, max_memory: ByteSize(0) }
    }
}

/// `[[gateway.options]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayOption {
    pub field: String,
    /// For people; the name if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: OptionType,
    /// When nothing is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<toml::Value>,
    /// Smallest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Of `select`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Choices>,
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptionType {
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    String,
    /// Yes or no.
    Bool,
    /// One of a list.
    Select,
    /// Names and values.
    Mapping,
}

/// What a `select` offers: names, or names with the settings that each stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a list of names, or a table of names with the settings that each stands for")]
pub enum Choices {
    Names(Vec<String>),
    /// Names, and values of other fields.
    Settings(BTreeMap<String, toml::Table>),
}
