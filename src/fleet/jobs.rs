//! A cluster's workers as jobs of a batch system: asks for as many as have no machine, empties them before their time is
//! over, and sends away those that have nothing to do. What becomes of a job is a machine that joined, reserved for this
//! cluster; its workers are looked after like those of any other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::placement::Host;
use super::types::{ClusterSettings, JobView, JobWish};
use crate::batch::plan::{JobLimits, JobPlan, JobStep, JobsSeen};
use crate::batch::{Backend, BatchJob, JobEnd, JobState, Order, QueueError, join_script};
use crate::clock::unix_ms;
use crate::peer::{HeadHandle, PeerView, Phase};
use crate::supervise::last_lines;

/// An order's token is good for so long; a job that waits longer cannot join any more. Unit: seconds.
const TOKEN_SECS: u64 = 14 * 86_400;
/// A job is emptied so long before its end, or a quarter of its time. Unit: seconds.
const DRAIN_SECS: i64 = 90;
/// A cluster that follows its load keeps a machine without work for so long: it was waited for. Unit: seconds.
const IDLE_SECS: f64 = 60.0;
/// Left to nannies and to rask of a job's memory, beside a tenth. Unit: bytes.
const SPARE_BYTES: u64 = 256 << 20;
/// Longest wait for a batch system when a cluster ends.
const LEAVE: Duration = Duration::from_secs(8);

/// What the jobs of a cluster are made from.
pub(super) struct JobTerms<'a> {
    pub wish: &'a JobWish,
    pub settings: &'a ClusterSettings,
    /// Of the workers.
    pub python: &'a Path,
    /// For what jobs write.
    pub logs: PathBuf,
}

/// What is known of a cluster at one look.
pub(super) struct JobNeeds<'a> {
    pub now_secs: f64,
    /// Workers that have no machine.
    pub without_room: u32,
    /// It follows its load.
    pub adaptive: bool,
    pub hosts: &'a [Host],
    /// Machines of which something is wanted.
    pub wanted: BTreeSet<String>,
}

type Outcome = (u32, Result<Vec<String>, QueueError>);

/// The jobs of one cluster.
pub(super) struct ClusterJobs {
    backend: Backend,
    head: HeadHandle,
    cluster: String,
    plan: JobPlan,
    tell: mpsc::UnboundedSender<Outcome>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    /// Machines with nothing to do: since when.
    idle: BTreeMap<String, f64>,
    /// The last lines of jobs that ended before they joined.
    last_words: BTreeMap<String, String>,
    /// Machines that were sent away, or told to empty themselves.
    leaving: BTreeSet<String>,
}

impl ClusterJobs {
    pub(super) fn new(backend: Backend, head: HeadHandle, cluster: &str) -> Self {
        backend.enter(cluster);
        let site = backend.site();
        let plan = JobPlan::new(JobLimits { jobs: site.max_jobs, waiting: site.max_waiting });
        let (tell, outcomes) = mpsc::unbounded_channel();
        let cluster = cluster.to_owned();
        Self {
            backend,
            head,
            cluster,
            plan,
            tell,
            outcomes,
            idle: BTreeMap::new(),
            last_words: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Somebody wants another number of workers: what failed before is tried again.
    pub(super) fn retry(&mut self) {
        self.plan.retry();
    }

    /// Why there are fewer jobs than wanted.
    pub(super) fn note(&self) -> Option<String> {
        self.plan.note().map(str::to_owned)
    }

    /// Brings the jobs closer to what is wanted.
    pub(super) async fn tend(&mut self, needs: JobNeeds<'_>, terms: &JobTerms<'_>) {
        while let Ok((asked, outcome)) = self.outcomes.try_recv() {
            if let Err(error) = &outcome {
                tracing::warn!(cluster = self.cluster, %error, "jobs could not be submitted");
            }
            self.plan.submitted(asked, outcome, needs.now_secs);
        }
        let mut jobs = self.backend.jobs(&self.cluster);
        self.hear_out(jobs.as_deref_mut().unwrap_or_default(), &terms.logs);
        let machines = self.machines();
        self.give_up_broken(&machines, needs.now_secs).await;
        let joined: BTreeSet<String> = machines.iter().filter_map(|peer| peer.job.clone()).collect();
        let at_work =
            |peer: &&PeerView| needs.hosts.iter().any(|host| host.name == peer.name && !host.workers.is_empty());
        let at_work: BTreeSet<String> = machines.iter().filter(at_work).filter_map(|peer| peer.job.clone()).collect();
        let steps = self.plan.decide(JobsSeen {
            now_secs: needs.now_secs,
            jobs: jobs.as_deref(),
            joined: &joined,
            at_work: &at_work,
            wanted: needs.without_room,
            adaptive: needs.adaptive,
        });
        for step in steps {
            match step {
                JobStep::Submit(count) => self.submit(count, terms),
                JobStep::Cancel(ids) => {
                    tracing::info!(cluster = self.cluster, "cancelling jobs {}", ids.join(", "));
                    let backend = self.backend.clone();
                    tokio::spawn(async move { backend.cancel(&ids).await });
                }
            }
        }
        self.empty_in_time(&machines, jobs.as_deref().unwrap_or_default(), terms.wish).await;
        self.send_away_idle(&machines, &needs).await;
    }

    /// What a job wrote last says more about its early end than the batch system does.
    fn hear_out(&mut self, jobs: &mut [BatchJob], logs: &Path) {
        self.last_words.retain(|id, _| jobs.iter().any(|job| job.id == *id));
        for job in jobs.iter_mut() {
            if self.plan.has_joined(&job.id) || !matches!(job.state, JobState::Ended(JobEnd::Done | JobEnd::Failed)) {
                continue;
            }
            let read = || last_lines(&logs.join(format!("{}.out", job.id)), 0).pop().unwrap_or_default();
            let words = self.last_words.entry(job.id.clone()).or_insert_with(read);
            if !words.is_empty() {
                job.reason = words.trim().to_owned();
            }
        }
    }

    /// Machines that our jobs have become.
    fn machines(&self) -> Vec<PeerView> {
        let peers = self.head.peers();
        let ours = peers.iter().filter(|peer| peer.reserved.as_deref() == Some(self.cluster.as_str()));
        ours.filter(|peer| peer.state != "joining").cloned().collect()
    }

    /// A machine that cannot run workers says why; another one would say the same.
    async fn give_up_broken(&mut self, machines: &[PeerView], now_secs: f64) {
        for peer in machines {
            let ours = |pool: &&crate::peer::PoolState| pool.cluster == self.cluster && pool.phase == Phase::Failed;
            if let (Some(pool), Some(job)) = (peer.pools.iter().find(ours), &peer.job)
                && self.leaving.insert(peer.name.clone())
            {
                self.plan.broken(job, &pool.note, now_secs);
                // One that is gone already is fine.
                let _gone = self.head.remove(&peer.name).await;
            }
        }
    }

    fn submit(&self, count: u32, terms: &JobTerms<'_>) {
        let JobTerms { wish, settings, python, logs } = terms;
        let cores = settings.nthreads.max(settings.worker_cores.ceil() as u32).max(1);
        let bytes = settings.worker_memory_bytes;
        let memory_mib =
            if bytes == 0 { 0 } else { bytes.saturating_add(bytes / 10).saturating_add(SPARE_BYTES) >> 20 };
        let mut args: Vec<String> = ["join", self.head.url(), "--passing", "--token", "-"].map(str::to_owned).into();
        args.extend(["--cores".to_owned(), cores.to_string()]);
        args.extend(["--python".to_owned(), python.to_string_lossy().into_owned()]);
        if bytes > 0 {
            args.extend(["--memory".to_owned(), format!("{bytes} B")]);
        }
        let mut order = Order {
            cluster: self.cluster.clone(),
            count,
            cores,
            memory_mib,
            walltime_secs: wish.walltime_secs,
            partition: wish.partition.clone(),
            account: wish.account.clone(),
            qos: wish.qos.clone(),
            script: String::new(),
            output: logs.clone(),
        };
        let (backend, head, tell) = (self.backend.clone(), self.head.clone(), self.tell.clone());
        tracing::info!(cluster = self.cluster, count, "submitting jobs");
        tokio::spawn(async move {
            let outcome = async {
                let unready = |why: &dyn std::fmt::Display| QueueError::NotNow(why.to_string());
                tokio::fs::create_dir_all(&order.output).await.map_err(|why| unready(&why))?;
                let invited = head.invite_for(&order.cluster, TOKEN_SECS, count).await;
                let (token, _) = invited.map_err(|why| unready(&why))?;
                let rask = executable(&backend.site().rask).map_err(|why| unready(&why))?;
                order.script = join_script(backend.site(), &rask, &args, &token);
                backend.submit(&order).await
            };
            // The cluster may have ended meanwhile; its jobs end with it.
            let _ended = tell.send((count, outcome.await));
        });
    }

    /// What a machine holds is moved while there is time: batch systems wait for nobody.
    async fn empty_in_time(&mut self, machines: &[PeerView], jobs: &[BatchJob], wish: &JobWish) {
        let now = unix_ms() / 1000;
        let quarter = i64::try_from(wish.walltime_secs / 4).unwrap_or(i64::MAX);
        for peer in machines.iter().filter(|peer| peer.usable) {
            let job = jobs.iter().find(|job| Some(&job.id) == peer.job.as_ref());
            let Some(end) = job.and_then(|job| job.ends_secs) else { continue };
            if end.saturating_sub(now) <= DRAIN_SECS.min(quarter) && self.leaving.insert(peer.name.clone()) {
                tracing::info!(
                    cluster = self.cluster,
                    peer = peer.name,
                    "its time is nearly over: its data moves elsewhere"
                );
                let _gone = self.head.drain(&peer.name).await;
            }
        }
        self.leaving.retain(|name| machines.iter().any(|peer| peer.name == *name));
    }

    /// Machines without workers, on which none is wanted: their jobs end.
    async fn send_away_idle(&mut self, machines: &[PeerView], needs: &JobNeeds<'_>) {
        let idle = |peer: &&PeerView| {
            let empty = needs.hosts.iter().any(|host| host.name == peer.name && host.workers.is_empty());
            peer.usable && empty && !needs.wanted.contains(&peer.name) && needs.without_room == 0
        };
        let now: BTreeSet<String> = machines.iter().filter(idle).map(|peer| peer.name.clone()).collect();
        self.idle.retain(|name, _| now.contains(name));
        let patience = if needs.adaptive { IDLE_SECS } else { 0.0 };
        for name in now {
            let since = *self.idle.entry(name.clone()).or_insert(needs.now_secs);
            if needs.now_secs - since >= patience && self.leaving.insert(name.clone()) {
                tracing::info!(cluster = self.cluster, peer = name, "not needed any more: its job ends");
                let _gone = self.head.remove(&name).await;
            }
        }
    }

    /// The jobs as they are, for people: the last ones first.
    pub(super) fn views(&self, hosts: &[Host]) -> Vec<JobView> {
        let machines = self.machines();
        let jobs = self.backend.jobs(&self.cluster).unwrap_or_default();
        let view = |job: &BatchJob| {
            let peer = machines.iter().find(|peer| peer.job.as_ref() == Some(&job.id));
            let host = peer.and_then(|peer| hosts.iter().find(|host| host.name == peer.name));
            let workers = host.map_or(0, |host| u32::try_from(host.workers.len()).unwrap_or(u32::MAX));
            let ms = |secs: Option<i64>| secs.map(|secs| secs.saturating_mul(1000));
            let waits = job.state == JobState::Waiting;
            JobView {
                id: job.id.clone(),
                state: word(job.state, peer),
                reason: job.reason.clone(),
                node: job.node.clone(),
                start_ms: if waits { ms(job.starts_secs) } else { None },
                end_ms: if waits { None } else { ms(job.ends_secs) },
                workers,
            }
        };
        jobs.iter().rev().map(view).collect()
    }

    /// All of its jobs end, and nobody can join with its tokens any more.
    pub(super) async fn end(&mut self) {
        for peer in self.machines() {
            let _gone = self.head.remove(&peer.name).await;
        }
        if let Err(error) = self.head.withdraw_of(&self.cluster).await {
            tracing::warn!(cluster = self.cluster, %error, "the tokens of its jobs could not be withdrawn");
        }
        if timeout(LEAVE, self.backend.leave(&self.cluster)).await.is_err() {
            tracing::warn!(
                cluster = self.cluster,
                "the batch system does not answer; its jobs are cancelled when it does"
            );
        }
    }
}

fn word(state: JobState, machine: Option<&PeerView>) -> &'static str {
    match (state, machine) {
        (JobState::Waiting, _) => "waiting",
        (JobState::Running, None) => "starting",
        (JobState::Running, Some(peer)) if peer.state == "draining" => "ending",
        (JobState::Running, Some(_)) => "running",
        (JobState::Ending, _) => "ending",
        (JobState::Ended(JobEnd::Done | JobEnd::Failed | JobEnd::Taken), _) => "ended",
    }
}

/// Where rask is on nodes; on a shared file system that is where this one is.
fn executable(set: &str) -> std::io::Result<String> {
    match set {
        "" => std::env::current_exe().map(|path| path.to_string_lossy().into_owned()),
        set => Ok(set.to_owned()),
    }
}
