//! One batch system: asked by one caller at a time, looked at for all clusters together.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::job::{BatchJob, JobState, Order, QueueError};
use super::slurm;
use crate::config::BackendSection;

/// Pause after a look that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// A handle on a batch system. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    site: BackendSection,
    /// Marks our jobs among those of this user.
    appliance: String,
    /// One program of the batch system at a time.
    turn: tokio::sync::Mutex<()>,
    /// As of the last look that did not fail. `None`: none was made.
    jobs: watch::Sender<Option<Arc<Vec<BatchJob>>>>,
    clusters: Mutex<Clusters>,
    wake: Notify,
}

#[derive(Default)]
struct Clusters {
    live: BTreeSet<String>,
    /// They ended, and may have left jobs.
    ended: BTreeSet<String>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backend({})", self.shared.site.name)
    }
}

impl Backend {
    /// Starts looking after the jobs of an appliance, as soon as a cluster has some. `appliance`: letters and digits that no
    /// other one of this user has.
    pub fn start(site: BackendSection, appliance: String) -> Self {
        let shared = Arc::new(Shared {
            site,
            appliance,
            turn: tokio::sync::Mutex::default(),
            jobs: watch::Sender::new(None),
            clusters: Mutex::default(),
            wake: Notify::new(),
        });
        tokio::spawn(Arc::clone(&shared).look_always());
        Self { shared }
    }

    pub fn site(&self) -> &BackendSection {
        &self.shared.site
    }

    /// A cluster may have jobs from now on.
    pub fn enter(&self, cluster: &str) {
        let mut clusters = self.shared.clusters();
        clusters.live.insert(cluster.to_owned());
        // Of one of that name before it: its jobs could not join any more.
        clusters.ended.remove(cluster);
        drop(clusters);
        self.shared.wake.notify_one();
    }

    /// Jobs of a cluster, ended ones for a while too. `None`: not known yet.
    pub fn jobs(&self, cluster: &str) -> Option<Vec<BatchJob>> {
        let all = self.shared.jobs.borrow().clone()?;
        Some(all.iter().filter(|job| job.cluster == cluster).cloned().collect())
    }

    /// Submits jobs. Returns their ids.
    pub async fn submit(&self, order: &Order) -> Result<Vec<String>, QueueError> {
        let _turn = self.shared.turn.lock().await;
        if !self.shared.clusters().live.contains(&order.cluster) {
            return Err(QueueError::NotNow("the cluster has ended".to_owned()));
        }
        let told = slurm::submit(order, &self.shared.appliance, &self.shared.site).await;
        self.shared.wake.notify_one();
        told
    }

    /// Cancels jobs. What fails is tried again for clusters that ended, and said for others.
    pub async fn cancel(&self, ids: &[String]) {
        let _turn = self.shared.turn.lock().await;
        if let Err(error) = slurm::cancel(ids).await {
            tracing::warn!(backend = self.shared.site.name, %error, "jobs could not be cancelled: {}", ids.join(", "));
        }
        self.shared.wake.notify_one();
    }

    /// A cluster ended: all its jobs do, those too that are just being submitted. Returns when they are on their way, or
    /// the batch system does not answer; then it is asked again later.
    pub async fn leave(&self, cluster: &str) {
        {
            let mut clusters = self.shared.clusters();
            clusters.live.remove(cluster);
            clusters.ended.insert(cluster.to_owned());
        }
        self.shared.look().await;
    }

    /// Jobs of clusters that nobody knows are left behind by an appliance that died: they are cancelled. To be called when
    /// all clusters that live have entered.
    pub async fn sweep(&self) {
        let mut known = self.shared.jobs.subscribe();
        let found = match known.wait_for(Option::is_some).await {
            Ok(jobs) => jobs.clone().unwrap_or_default(),
            Err(_) => return,
        };
        {
            let mut clusters = self.shared.clusters();
            let strange: Vec<String> =
                found.iter().map(|job| job.cluster.clone()).filter(|name| !clusters.live.contains(name)).collect();
            clusters.ended.extend(strange);
        }
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn clusters(&self) -> std::sync::MutexGuard<'_, Clusters> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once at the start, then while there is somebody to look for.
    async fn look_always(self: Arc<Self>) {
        let pause = Duration::from_secs_f64(self.site.look.0.clamp(0.2, 3600.0));
        loop {
            let answered = self.look().await;
            let idle = {
                let clusters = self.clusters();
                answered && clusters.live.is_empty() && clusters.ended.is_empty()
            };
            match (idle, answered) {
                (true, _) => self.wake.notified().await,
                (false, true) => drop(timeout(pause, self.wake.notified()).await),
                (false, false) => sleep(AGAIN.min(pause)).await,
            }
        }
    }

    /// One look, and the end of what clusters that ended have left. `false`: the batch system did not answer.
    async fn look(&self) -> bool {
        let _turn = self.turn.lock().await;
        let jobs = match slurm::look(&self.appliance).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::warn!(backend = self.site.name, %error, "its jobs are not known now");
                return false;
            }
        };
        let (left, done) = self.left_behind(&jobs);
        if !left.is_empty() {
            tracing::info!(backend = self.site.name, "cancelling jobs of clusters that ended: {}", left.join(", "));
            if let Err(error) = slurm::cancel(&left).await {
                tracing::warn!(backend = self.site.name, %error, "they could not be cancelled, and are tried again");
            }
        }
        for cluster in done {
            self.clusters().ended.remove(&cluster);
        }
        self.jobs.send_replace(Some(Arc::new(jobs)));
        true
    }

    /// Jobs that should not be there, and ended clusters that have none.
    fn left_behind(&self, jobs: &[BatchJob]) -> (Vec<String>, Vec<String>) {
        let clusters = self.clusters();
        let is_there = |job: &&BatchJob| job.state.is_alive() || job.state == JobState::Ending;
        let left: Vec<&BatchJob> =
            jobs.iter().filter(is_there).filter(|job| clusters.ended.contains(&job.cluster)).collect();
        let done =
            clusters.ended.iter().filter(|name| !left.iter().any(|job| job.cluster == **name)).cloned().collect();
        (left.iter().filter(|job| job.state.is_alive()).map(|job| job.id.clone()).collect(), done)
    }
}
