//! What a cluster, and all clusters of a user, may take. Arithmetic only.
//!
//! Source: `dask_gateway_server/routes.py`, `scale_cluster` and `adapt_cluster`, whose messages users see as warnings.

use std::fmt;

use serde_json::Value;

use super::value::python;
use crate::config::{Auto, GatewayCluster, GatewayUser, show_size};

/// As configured; `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClusterLimits {
    pub cluster: WorkerBounds,
    pub user: WorkerBounds,
    /// Of one user.
    pub clusters: Option<u32>,
}

/// Most workers, and what they may take together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WorkerBounds {
    pub workers: Option<u32>,
    pub cores: Option<f64>,
    /// Their memory. Unit: bytes.
    pub memory_bytes: Option<u64>,
}

/// What one worker takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerSize {
    pub cores: f64,
    /// 0: not limited. Unit: bytes.
    pub memory_bytes: u64,
}

/// A user may not have that much.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LimitError {
    #[error("User {user} has {clusters} clusters, and the limit is {max} (gateway.user.max_clusters)")]
    Clusters { user: String, clusters: u32, max: u32 },
    #[error("A worker of {size} exceeds the limit of a cluster ({limit})")]
    ClusterSize { size: WorkerSize, limit: WorkerBounds },
    #[error("A worker of {size} exceeds the limit of a user ({limit})")]
    UserSize { size: WorkerSize, limit: WorkerBounds },
}

/// What somebody has already.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    pub clusters: u32,
    /// Workers that are there or promised.
    pub workers: u32,
    pub cores: f64,
    /// Their memory. Unit: bytes.
    pub memory_bytes: u64,
}

impl Used {
    /// Adds a cluster with `workers` of a size.
    pub fn add(&mut self, workers: u32, size: WorkerSize) {
        self.clusters = self.clusters.saturating_add(1);
        self.workers = self.workers.saturating_add(workers);
        self.cores += f64::from(workers) * size.cores;
        self.memory_bytes = self.memory_bytes.saturating_add(size.memory_bytes.saturating_mul(u64::from(workers)));
    }
}

impl ClusterLimits {
    /// As configured. On a machine with `cores`, nobody wants more than a multiple of them in workers: a mistyped number
    /// would take the machine down.
    pub fn new(cluster: &GatewayCluster, user: &GatewayUser, cores: u32) -> Self {
        let some = |number: u32| (number > 0).then_some(number);
        let bytes = |size: crate::config::ByteSize| (size.0 > 0).then_some(size.0);
        let workers = match cluster.cluster_max_workers {
            Auto::Auto => Some(cores.saturating_mul(16).max(64)),
            Auto::Set(number) => some(number),
        };
        Self {
            cluster: WorkerBounds {
                workers,
                cores: some(cluster.cluster_max_cores).map(f64::from),
                memory_bytes: bytes(cluster.cluster_max_memory),
            },
            user: WorkerBounds {
                workers: some(user.max_workers),
                cores: some(user.max_cores).map(f64::from),
                memory_bytes: bytes(user.max_memory),
            },
            clusters: some(user.max_clusters),
        }
    }

    /// Is there a limit to what all clusters of a user take?
    pub fn any_of_users(&self) -> bool {
        self.clusters.is_some() || self.user != WorkerBounds::default()
    }

    /// Most workers of this size for one cluster.
    pub fn of_cluster(&self, size: WorkerSize) -> Option<u32> {
        most(self.cluster, Used::default(), size)
    }

    /// Most workers of this size for one cluster of a user who has `others` besides it.
    pub fn of_cluster_and_user(&self, others: Used, size: WorkerSize) -> Option<u32> {
        let (cluster, user) = (self.of_cluster(size), most(self.user, others, size));
        cluster.into_iter().chain(user).min()
    }

    /// May a user who has `used` make another cluster with workers of this size?
    pub fn may_create(&self, user: &str, used: Used, size: WorkerSize) -> Result<(), LimitError> {
        if let Some(max) = self.clusters.filter(|max| used.clusters >= *max) {
            return Err(LimitError::Clusters { user: user.to_owned(), clusters: used.clusters, max });
        }
        if self.of_cluster(size) == Some(0) {
            return Err(LimitError::ClusterSize { size, limit: self.cluster });
        }
        if most(self.user, Used::default(), size) == Some(0) {
            return Err(LimitError::UserSize { size, limit: self.user });
        }
        Ok(())
    }
}

impl fmt::Display for WorkerSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores and {}", self.cores, show_size(self.memory_bytes))
    }
}

impl fmt::Display for WorkerBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.workers.map(|workers| format!("{workers} workers")),
            self.cores.map(|cores| format!("{cores} cores")),
            self.memory_bytes.map(show_size),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// How many workers of a size fit beside what is used.
fn most(bounds: WorkerBounds, used: Used, size: WorkerSize) -> Option<u32> {
    let whole = |number: f64| if number >= 0.0 { number.min(f64::from(u32::MAX)) as u32 } else { 0 };
    let workers = bounds.workers.map(|max| max.saturating_sub(used.workers));
    // A hair more than exact: 0.1 + 0.2 cores must fit into 0.3.
    let cores = bounds.cores.filter(|_| size.cores > 0.0).map(|max| whole((max - used.cores) / size.cores + 1e-9));
    let memory = bounds
        .memory_bytes
        .filter(|_| size.memory_bytes > 0)
        .map(|max| max.saturating_sub(used.memory_bytes) / size.memory_bytes)
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    workers.into_iter().chain(cores).chain(memory).min()
}

/// What is granted, and what to tell if it is less than asked.
pub fn clip_scale(count: u32, limit: Option<u32>) -> (u32, Option<String>) {
    match limit.filter(|limit| count > *limit) {
        None => (count, None),
        Some(limit) => {
            let told = format!(
                "Scale request of {count} workers would exceed resource limit of {limit} workers. Scaling to {limit} instead."
            );
            (limit, Some(told))
        }
    }
}

/// The same for the bounds of an adaptive cluster. With a limit, a missing maximum is the limit.
pub fn clip_adapt(
    minimum: Option<u32>,
    maximum: Option<u32>,
    limit: Option<u32>,
) -> (Option<u32>, Option<u32>, Option<String>) {
    let Some(limit) = limit else { return (minimum, maximum, None) };
    let (asked_min, asked_max) = (minimum.unwrap_or(0), maximum.unwrap_or(limit));
    let (least, most) = (asked_min.min(limit), asked_max.min(limit));
    let told = (asked_min > limit || asked_max > limit).then(|| {
        let (asked_max, asked_min) = (python(&Value::from(asked_max)), python(&Value::from(asked_min)));
        format!(
            "Adapt with `maximum={asked_max}, minimum={asked_min}` workers would exceed resource limit of {limit} workers. \
             Using `maximum={most}, minimum={least}` instead."
        )
    });
    (Some(least), Some(most), told)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn limits() -> ClusterLimits {
        ClusterLimits {
            cluster: WorkerBounds { workers: Some(10), cores: Some(4.0), memory_bytes: Some(16 * GIB) },
            user: WorkerBounds { workers: None, cores: Some(6.0), memory_bytes: None },
            clusters: Some(2),
        }
    }

    fn refused(user: &str, used: Used, size: WorkerSize) -> Option<String> {
        limits().may_create(user, used, size).err().map(|why| why.to_string())
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        let size = |cores, gib| WorkerSize { cores, memory_bytes: gib * GIB };
        assert_eq!(limits().of_cluster(size(1.0, 1)), Some(4));
        assert_eq!(limits().of_cluster(size(0.1, 1)), Some(10));
        assert_eq!(limits().of_cluster(size(1.0, 6)), Some(2));
        assert_eq!(limits().of_cluster(size(5.0, 1)), Some(0));
        let mut used = Used::default();
        used.add(4, size(1.0, 1));
        assert_eq!(limits().of_cluster_and_user(used, size(1.0, 1)), Some(2));
        assert_eq!(ClusterLimits::default().of_cluster_and_user(used, size(1.0, 1)), None);
    }

    #[test]
    fn creation_is_refused_with_the_limit_what_is_used_and_what_was_asked() {
        let size = WorkerSize { cores: 1.0, memory_bytes: GIB };
        let mut used = Used::default();
        assert_eq!(limits().may_create("a", used, size), Ok(()));
        used.add(1, size);
        used.add(1, size);
        let why = "User a has 2 clusters, and the limit is 2 (gateway.user.max_clusters)";
        assert_eq!(refused("a", used, size).as_deref(), Some(why));
        let why = "A worker of 5 cores and 1 GiB exceeds the limit of a cluster (10 workers, 4 cores, 16 GiB)";
        let large = WorkerSize { cores: 5.0, ..size };
        assert_eq!(refused("a", Used::default(), large).as_deref(), Some(why));
    }

    #[test]
    fn clipping_is_told_in_the_words_that_users_know() {
        assert_eq!(clip_scale(2, Some(2)), (2, None));
        let told = "Scale request of 4 workers would exceed resource limit of 2 workers. Scaling to 2 instead.";
        assert_eq!(clip_scale(4, Some(2)), (2, Some(told.to_owned())));
        assert_eq!(clip_adapt(None, None, None), (None, None, None));
        assert_eq!(clip_adapt(None, None, Some(2)), (Some(0), Some(2), None));
        let told = "Adapt with `maximum=4, minimum=0` workers would exceed resource limit of 2 workers. Using `maximum=2, minimum=0` instead.";
        assert_eq!(clip_adapt(None, Some(4), Some(2)), (Some(0), Some(2), Some(told.to_owned())));
        let (least, most, told) = clip_adapt(Some(4), Some(6), Some(2));
        assert_eq!((least, most), (Some(2), Some(2)));
        assert!(told.is_some_and(|told| told.ends_with("Using `maximum=2, minimum=2` instead.")));
    }
}
