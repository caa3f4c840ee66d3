//! How many jobs a cluster submits and cancels, and when it stops asking. Pure: what is wanted and what is there in, steps
//! out.
//!
//! Whatever fails, submissions are bounded: failures make the pause before the next one longer, and an hour has a limit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::job::{BatchJob, JobEnd, JobState, QueueError};

/// Pauses after failures in a row. After one more nothing is submitted until somebody says so. Unit: seconds.
const PAUSES_SECS: [f64; 4] = [10.0, 60.0, 300.0, 900.0];
/// Pause after a refusal that time heals. Unit: seconds.
const LATER_SECS: f64 = 60.0;
/// Longest from a job's start to its machine's joining. Unit: seconds.
const JOIN_SECS: f64 = 120.0;
/// Longest that a submitted job may not be listed. Unit: seconds.
const UNSEEN_SECS: f64 = 60.0;
/// Submissions in an hour, as a multiple of the jobs that a cluster may have: each of them replaced every ten minutes.
const HOURLY: u32 = 6;
/// An hour. Unit: seconds.
const HOUR_SECS: f64 = 3600.0;
/// A cluster that follows its load keeps waiting jobs for so long after it wants them no more. Unit: seconds.
const KEEP_SECS: f64 = 60.0;

/// Reasons of waiting jobs that waiting does not change. Source: man 1 squeue, "JOB REASON CODES".
const NEVER: [&str; 8] = [
    "PartitionTimeLimit",
    "PartitionConfig",
    "PartitionNodeLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "AssocMaxCpuPerJobLimit",
    "AssocMaxWallDurationPerJobLimit",
];

/// What one cluster may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// Waiting and running.
    pub jobs: u32,
    pub waiting: u32,
}

/// What is known at one look.
#[derive(Clone, Copy, Debug)]
pub struct JobsSeen<'a> {
    /// From any beginning; never goes back. Unit: seconds.
    pub now_secs: f64,
    /// The cluster's jobs. `None`: not known, and nothing is decided.
    pub jobs: Option<&'a [BatchJob]>,
    /// Jobs whose machines have joined.
    pub joined: &'a BTreeSet<String>,
    /// Those of them that have workers.
    pub at_work: &'a BTreeSet<String>,
    /// Workers that have no machine.
    pub wanted: u32,
    /// The number wanted follows the load: it may soon be another.
    pub adaptive: bool,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStep {
    Submit(u32),
    Cancel(Vec<String>),
}

/// The jobs of one cluster, as they are meant to be.
#[derive(Clone, Debug)]
pub struct JobPlan {
    limits: JobLimits,
    /// Jobs being submitted.
    in_flight: u32,
    /// Submitted, and not listed yet: since when.
    unseen: BTreeMap<String, f64>,
    /// Running, and not joined yet: since when.
    starting: BTreeMap<String, f64>,
    /// Jobs that joined once.
    joined: BTreeSet<String>,
    /// Jobs whose workers have made good earlier failures.
    proven: BTreeSet<String>,
    /// Jobs whose end was judged, or that we ended ourselves.
    judged: BTreeSet<String>,
    failures: usize,
    /// Not before this is anything submitted.
    after_secs: f64,
    /// Why nothing is submitted any more.
    stopped: bool,
    note: Option<String>,
    /// Submissions of the last hour.
    hour: VecDeque<(f64, u32)>,
    surplus_secs: Option<f64>,
    /// What had ended before the first look is of the past.
    has_looked: bool,
}

impl JobPlan {
    pub fn new(limits: JobLimits) -> Self {
        Self {
            limits,
            in_flight: 0,
            unseen: BTreeMap::new(),
            starting: BTreeMap::new(),
            joined: BTreeSet::new(),
            proven: BTreeSet::new(),
            judged: BTreeSet::new(),
            failures: 0,
            after_secs: 0.0,
            stopped: false,
            note: None,
            hour: VecDeque::new(),
            surplus_secs: None,
            has_looked: false,
        }
    }

    /// Why there are fewer jobs than wanted, for people.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Did a machine come of this job?
    pub fn has_joined(&self, id: &str) -> bool {
        self.joined.contains(id)
    }

    /// Somebody wants something new: try again, whatever failed before.
    pub fn retry(&mut self) {
        (self.failures, self.after_secs, self.stopped, self.note) = (0, 0.0, false, None);
    }

    /// Decides after one look.
    pub fn decide(&mut self, seen: JobsSeen<'_>) -> Vec<JobStep> {
        let Some(jobs) = seen.jobs else { return Vec::new() };
        let mut steps = Vec::new();
        if !std::mem::replace(&mut self.has_looked, true) {
            let ended = jobs.iter().filter(|job| matches!(job.state, JobState::Ended(_)));
            self.judged.extend(ended.map(|job| job.id.clone()));
        }
        self.judge_ends(jobs, seen);
        let hopeless = self.hopeless(jobs, seen);
        if !hopeless.is_empty() {
            steps.push(JobStep::Cancel(hopeless));
        }
        let promised: Vec<&BatchJob> = jobs
            .iter()
            .filter(|job| job.state.is_alive() && !seen.joined.contains(&job.id) && !self.judged.contains(&job.id))
            .collect();
        let on_their_way =
            count(promised.len()).saturating_add(count(self.unseen.len())).saturating_add(self.in_flight);
        if seen.wanted > on_their_way {
            self.surplus_secs = None;
            let missing = seen.wanted.saturating_sub(on_their_way);
            let submit = self.allowed(missing, jobs, seen.now_secs);
            if submit > 0 {
                self.in_flight = self.in_flight.saturating_add(submit);
                self.hour.push_back((seen.now_secs, submit));
                steps.push(JobStep::Submit(submit));
            }
        } else {
            steps.extend(self.cancel_surplus(on_their_way.saturating_sub(seen.wanted), &promised, seen));
        }
        steps
    }

    /// What became of a submission.
    pub fn submitted(&mut self, asked: u32, outcome: Result<Vec<String>, QueueError>, now_secs: f64) {
        self.in_flight = self.in_flight.saturating_sub(asked);
        match outcome {
            Ok(ids) => {
                self.unseen.extend(ids.into_iter().map(|id| (id, now_secs)));
                if self.failures == 0 {
                    self.note = None;
                }
            }
            Err(QueueError::NotNow(why)) => {
                self.after_secs = now_secs + LATER_SECS;
                self.note = Some(format!("the batch system takes no jobs now, and is asked again in a minute: {why}"));
            }
            Err(QueueError::Refused(why)) => self.stop(format!("the batch system refuses its jobs: {why}")),
        }
    }

    /// The machine of a job joined, and cannot run workers.
    pub fn broken(&mut self, id: &str, why: &str, now_secs: f64) {
        if self.judged.insert(id.to_owned()) {
            self.failed(&format!("job {id} joined and cannot run workers: {why}"), now_secs);
        }
    }

    fn stop(&mut self, why: String) {
        (self.stopped, self.note) = (true, Some(why));
    }

    /// Jobs that ended before their machines joined are failures; that others are taken away is the queue's business.
    fn judge_ends(&mut self, jobs: &[BatchJob], seen: JobsSeen<'_>) {
        self.unseen.retain(|id, since| !jobs.iter().any(|job| job.id == *id) && seen.now_secs - *since < UNSEEN_SECS);
        self.joined.extend(seen.joined.iter().cloned());
        // Only workers prove that all is well: a machine may join and be of no use.
        if self.failures > 0 && !self.stopped && seen.at_work.iter().any(|id| self.proven.insert(id.clone())) {
            (self.failures, self.note) = (0, None);
        }
        for job in jobs {
            let JobState::Ended(end) = job.state else { continue };
            self.starting.remove(&job.id);
            if self.judged.insert(job.id.clone()) && !self.joined.contains(&job.id) && end != JobEnd::Taken {
                self.failed(&format!("job {} ended before its machine joined ({})", job.id, job.reason), seen.now_secs);
            }
        }
        let listed = |id: &String| jobs.iter().any(|job| job.id == *id);
        self.judged.retain(listed);
        self.joined.retain(|id| listed(id) || seen.joined.contains(id));
        self.proven.retain(|id| listed(id) || seen.at_work.contains(id));
        self.starting.retain(|id, _| listed(id));
    }

    fn failed(&mut self, why: &str, now_secs: f64) {
        match PAUSES_SECS.get(self.failures) {
            Some(pause) => {
                self.after_secs = self.after_secs.max(now_secs + pause);
                self.note = Some(format!("{why}; the next one is tried in {pause} s"));
            }
            None => self
                .stop(format!("{why}, and {} before it did not do better; scale or adapt tries again", self.failures)),
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// Jobs that will never be of use: they cannot start, or run and do not join.
    fn hopeless(&mut self, jobs: &[BatchJob], seen: JobsSeen<'_>) -> Vec<String> {
        let mut ids = Vec::new();
        for job in jobs {
            if seen.joined.contains(&job.id) || self.joined.contains(&job.id) {
                continue;
            }
            let never = job.state == JobState::Waiting && NEVER.contains(&job.reason.as_str());
            if never && self.judged.insert(job.id.clone()) {
                self.stop(format!("job {} would never start: {}", job.id, job.reason));
                ids.push(job.id.clone());
            }
            if job.state == JobState::Running {
                let since = *self.starting.entry(job.id.clone()).or_insert(seen.now_secs);
                if seen.now_secs - since >= JOIN_SECS && self.judged.insert(job.id.clone()) {
                    let why = format!("job {} ran for {JOIN_SECS} s on {} and did not join", job.id, job.node);
                    self.failed(&why, seen.now_secs);
                    ids.push(job.id.clone());
                }
            }
        }
        ids
    }

    fn allowed(&mut self, missing: u32, jobs: &[BatchJob], now_secs: f64) -> u32 {
        if self.stopped || now_secs < self.after_secs {
            return 0;
        }
        while self.hour.front().is_some_and(|(at, _)| now_secs - at >= HOUR_SECS) {
            self.hour.pop_front();
        }
        let of_the_hour = self.hour.iter().fold(0u32, |sum, (_, jobs)| sum.saturating_add(*jobs));
        let new = self.in_flight.saturating_add(count(self.unseen.len()));
        let alive = count(jobs.iter().filter(|job| job.state.is_alive()).count()).saturating_add(new);
        let waiting = count(jobs.iter().filter(|job| job.state == JobState::Waiting).count()).saturating_add(new);
        let hourly = self.limits.jobs.saturating_mul(HOURLY).saturating_sub(of_the_hour);
        // After a failure one is enough to see whether the next does better.
        let careful = if self.failures > 0 { 1u32.saturating_sub(new) } else { u32::MAX };
        missing
            .min(self.limits.jobs.saturating_sub(alive))
            .min(self.limits.waiting.saturating_sub(waiting))
            .min(hourly)
            .min(careful)
    }

    /// The newest of those that wait: the oldest are nearest to their start.
    fn cancel_surplus(&mut self, surplus: u32, promised: &[&BatchJob], seen: JobsSeen<'_>) -> Option<JobStep> {
        let mut waiting: Vec<&&BatchJob> = promised.iter().filter(|job| job.state == JobState::Waiting).collect();
        if surplus == 0 || waiting.is_empty() {
            self.surplus_secs = None;
            return None;
        }
        let since = *self.surplus_secs.get_or_insert(seen.now_secs);
        if seen.adaptive && seen.now_secs - since < KEEP_SECS {
            return None;
        }
        waiting.sort_by_key(|job| (job.submitted_secs, order_of(&job.id)));
        let ids: Vec<String> = waiting.iter().rev().take(surplus as usize).map(|job| job.id.clone()).collect();
        self.judged.extend(ids.iter().cloned());
        Some(JobStep::Cancel(ids))
    }
}

/// `12_3` comes after `12_2` and before `13`.
fn order_of(id: &str) -> (u64, u64) {
    let (job, task) = id.split_once('_').unwrap_or((id, "0"));
    (job.parse().unwrap_or(0), task.parse().unwrap_or(0))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const LIMITS: JobLimits = JobLimits { jobs: 10, waiting: 4 };

    fn job(id: &str, state: JobState) -> BatchJob {
        BatchJob {
            id: id.to_owned(),
            cluster: "c".to_owned(),
            state,
            reason: "Priority".to_owned(),
            node: String::new(),
            submitted_secs: Some(1),
            starts_secs: None,
            ends_secs: None,
        }
    }

    struct Case {
        plan: JobPlan,
        jobs: Vec<BatchJob>,
        joined: BTreeSet<String>,
    }

    impl Case {
        fn new() -> Self {
            Self { plan: JobPlan::new(LIMITS), jobs: Vec::new(), joined: BTreeSet::new() }
        }

        fn decide(&mut self, now_secs: f64, wanted: u32) -> Vec<JobStep> {
            let (jobs, joined) = (Some(self.jobs.as_slice()), &self.joined);
            self.plan.decide(JobsSeen { now_secs, jobs, joined, at_work: joined, wanted, adaptive: false })
        }
    }

    #[test]
    fn what_is_promised_is_not_asked_for_twice() {
        let mut case = Case::new();
        assert_eq!(case.decide(0.0, 2), [JobStep::Submit(2)]);
        assert_eq!(case.decide(0.1, 2), [], "being submitted");
        case.plan.submitted(2, Ok(vec!["1".to_owned(), "2".to_owned()]), 0.2);
        assert_eq!(case.decide(0.3, 2), [], "not listed yet");
        case.jobs = vec![job("1", JobState::Waiting), job("2", JobState::Running)];
        assert_eq!(case.decide(1.0, 2), []);
        case.joined.insert("2".to_owned());
        assert_eq!(case.decide(2.0, 1), [], "one has a machine, the other waits");
        assert_eq!(case.decide(3.0, 2), [JobStep::Submit(1)]);
    }

    #[test]
    fn nothing_is_decided_on_a_look_that_failed() {
        let joined = BTreeSet::new();
        let seen =
            JobsSeen { now_secs: 0.0, jobs: None, joined: &joined, at_work: &joined, wanted: 3, adaptive: false };
        assert_eq!(JobPlan::new(LIMITS).decide(seen), []);
    }

    #[test]
    fn the_newest_waiting_jobs_are_cancelled_and_running_ones_never() {
        let mut case = Case::new();
        case.jobs = vec![job("9", JobState::Waiting), job("10_1", JobState::Waiting), job("10_0", JobState::Waiting)];
        case.jobs.push(job("8", JobState::Running));
        assert_eq!(case.decide(0.0, 2), [JobStep::Cancel(vec!["10_1".to_owned(), "10_0".to_owned()])]);
        assert_eq!(case.decide(1.0, 2), [], "cancelled ones are not counted on, whatever is listed");
        let (jobs, joined) = (Some(case.jobs.as_slice()), &case.joined);
        let seen = |now_secs| JobsSeen { now_secs, jobs, joined, at_work: joined, wanted: 0, adaptive: true };
        assert_eq!(case.plan.decide(seen(2.0)), []);
        assert_eq!(case.plan.decide(seen(61.9)), [], "the load may come back");
        assert_eq!(case.plan.decide(seen(62.1)), [JobStep::Cancel(vec!["9".to_owned()])]);
    }

    #[test]
    fn what_will_never_start_is_told_and_not_waited_for() {
        let mut case = Case::new();
        case.jobs = vec![BatchJob { reason: "PartitionTimeLimit".to_owned(), ..job("1", JobState::Waiting) }];
        assert_eq!(case.decide(0.0, 1), [JobStep::Cancel(vec!["1".to_owned()])]);
        assert!(case.plan.note().is_some_and(|note| note.contains("PartitionTimeLimit")));
        assert_eq!(case.decide(5000.0, 1), []);
        case.plan.retry();
        assert_eq!(case.decide(5001.0, 1), [JobStep::Submit(1)]);
    }

    #[test]
    fn a_job_that_runs_and_does_not_join_is_a_failure_and_one_that_was_taken_is_not() {
        let mut case = Case::new();
        case.jobs = vec![job("1", JobState::Running), job("2", JobState::Ended(JobEnd::Taken))];
        assert_eq!(case.decide(0.0, 1), []);
        assert_eq!(case.decide(120.0, 1), [JobStep::Cancel(vec!["1".to_owned()])]);
        assert_eq!(case.decide(129.0, 1), []);
        assert_eq!(case.decide(131.0, 1), [JobStep::Submit(1)]);
    }

    /// Goal: whatever a queue does, there are never more jobs than allowed, submissions are bounded, a queue that works
    /// brings all workers, and nothing is left when nothing is wanted. Method: seeded queues that delay, refuse, lose,
    /// preempt and fail jobs for a while, and work then.
    #[test]
    fn no_queue_makes_a_storm_and_a_good_one_brings_all_that_is_wanted() {
        for seed in 0..60 {
            let mut dice = Rng::new(seed);
            let mut case = Case::new();
            let (mut next, mut submissions, mut now) = (1u32, Vec::<(f64, u32)>::new(), 0.0);
            let roll = |dice: &mut Rng, sides: u64| dice.next_u64() % sides;
            for round in 0..3000u32 {
                let good = round > 1500;
                if round == 1501 {
                    case.plan.retry();
                    case.plan.hour.clear();
                }
                let wanted = if round > 2900 { 0 } else { 5 };
                let without = wanted - wanted.min(count(case.joined.len()));
                for step in case.decide(now, without) {
                    match step {
                        JobStep::Submit(asked) => {
                            submissions.push((now, asked));
                            let outcome = match roll(&mut dice, if good { 1 } else { 4 }) {
                                1 => Err(QueueError::NotNow("busy".to_owned())),
                                2 if roll(&mut dice, 20) == 0 => Err(QueueError::Refused("no".to_owned())),
                                _ => Ok((0..asked).map(|n| (next + n).to_string()).collect::<Vec<_>>()),
                            };
                            if let Ok(ids) = &outcome {
                                next += asked;
                                case.jobs.extend(ids.iter().map(|id| job(id, JobState::Waiting)));
                            }
                            case.plan.submitted(asked, outcome, now);
                        }
                        JobStep::Cancel(ids) => {
                            let hit = |job: &&mut BatchJob| ids.contains(&job.id);
                            case.jobs.iter_mut().filter(hit).for_each(|job| job.state = JobState::Ended(JobEnd::Taken));
                        }
                    }
                }
                for job in &mut case.jobs {
                    let fate = roll(&mut dice, if good { 20 } else { 60 });
                    job.state = match (job.state, fate) {
                        (JobState::Waiting, 0..10) => JobState::Running,
                        (JobState::Running, 40) => JobState::Ended(JobEnd::Failed),
                        (JobState::Running, 41) => JobState::Ended(JobEnd::Taken),
                        (state, _) => state,
                    };
                    match job.state {
                        JobState::Running if fate < 15 => drop(case.joined.insert(job.id.clone())),
                        JobState::Ended(_) => drop(case.joined.remove(&job.id)),
                        JobState::Running | JobState::Waiting | JobState::Ending => {}
                    }
                }
                // Ended jobs are forgotten by and by.
                case.jobs.retain(|job| job.state.is_alive() || roll(&mut dice, 50) > 0);
                let alive = case.jobs.iter().filter(|job| job.state.is_alive()).count();
                assert!(alive <= LIMITS.jobs as usize, "seed {seed}, round {round}: {alive} jobs");
                if round == 2900 {
                    assert!(case.joined.len() >= 5, "seed {seed}: {} of 5, {:?}", case.joined.len(), case.plan);
                }
                now += 5.0;
            }
            let waiting = case.jobs.iter().filter(|job| job.state == JobState::Waiting).count();
            assert_eq!(waiting, 0, "seed {seed}");
            for (at, _) in &submissions {
                let hour = submissions.iter().filter(|(other, _)| (*at..at + HOUR_SECS).contains(other));
                let jobs: u32 = hour.map(|(_, asked)| asked).sum();
                // The hour in which somebody said `retry` begins anew.
                assert!(jobs <= LIMITS.jobs * HOURLY * 2, "seed {seed}: {jobs} in an hour");
            }
        }
    }
}
