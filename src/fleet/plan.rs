//! How many workers a cluster should have, which of them go, and when the cluster itself ends. Pure: what was polled goes in, steps come out.
//!
//! Source: `distributed/deploy/adaptive_core.py`; `dask_gateway/scheduler_preload.py`, which checks idleness.

use std::collections::VecDeque;

use super::placement::{self, Host};
use super::step::{Connected, PlanStep, PoolWorker};
use super::types::{Adapt, AdaptBounds};

/// Number of checks in a row that must want fewer workers before there are fewer.
/// Source: `distributed/distributed.yaml`, `adaptive.wait-count`.
const CHECKS: usize = 3;
/// Idle clusters are warned of in the log this long before their end, or a quarter of the time-out. Unit: seconds.
const IDLE_NOTICE_SECS: f64 = 60.0;
/// Clients are told of the end of a lifetime this long before, or a tenth of it. Unit: seconds.
const LIFETIME_NOTICE_SECS: f64 = 600.0;

/// What is known after one poll.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Unit: seconds, from any beginning; never goes back.
    pub now_secs: f64,
    /// Since the cluster was made, on the wall's clock. Unit: seconds.
    pub age_secs: f64,
    /// Registered clients.
    pub clients: u32,
    /// Tasks wait or run.
    pub busy: bool,
    /// Steps of tasks so far.
    pub transitions: u64,
    /// Workers that the load wants.
    pub load: u32,
    /// Workers at the scheduler.
    pub connected: Vec<Connected>,
    /// Workers of the pool; `None`: it does not run, or did not answer.
    pub pool: Option<Vec<PoolWorker>>,
    /// Other machines, if the cluster may have workers there.
    pub remote: Vec<Host>,
    /// Workers that still fit on this machine, beside others.
    pub more_here: u32,
    /// Workers may be on other machines only.
    pub not_here: bool,
}

impl Seen {
    /// This machine first, then the others.
    fn hosts(&self) -> Vec<Host> {
        let workers = self.pool.clone().unwrap_or_default();
        let usable = !self.not_here;
        let here = Host { name: String::new(), usable, counts: true, more: self.more_here, workers };
        std::iter::once(here).chain(self.remote.iter().cloned()).collect()
    }

    /// Workers of the cluster's pools, wherever they are.
    fn workers(&self) -> impl Iterator<Item = &PoolWorker> {
        self.pool.iter().flatten().chain(self.remote.iter().filter(|host| host.counts).flat_map(|host| &host.workers))
    }
}

/// The limits of a cluster's life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lifetimes {
    /// Without client and work. Unit: seconds. `None`: for ever.
    pub idle_secs: Option<f64>,
    /// In all. Unit: seconds. `None`: for ever.
    pub total_secs: Option<f64>,
}

/// What a cluster is meant to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScalingPlan {
    target: u32,
    adapt: Option<AdaptBounds>,
    lifetimes: Lifetimes,
    /// What the last checks wanted.
    checks: VecDeque<u32>,
    /// When something last happened.
    active_secs: Option<f64>,
    transitions: u64,
    idle_noted: bool,
    lifetime_told: bool,
    without_room: u32,
}

impl ScalingPlan {
    /// A plan that begins now, for a new cluster or one that was found.
    pub fn new(target: u32, adapt: Option<AdaptBounds>, lifetimes: Lifetimes) -> Self {
        Self { target, adapt, lifetimes, ..Self::default() }
    }

    pub const fn target(&self) -> u32 {
        self.target
    }

    /// Of those wanted, how many fit on no machine that may have them, as of the last poll.
    pub const fn without_room(&self) -> u32 {
        self.without_room
    }

    /// Between these it follows the load.
    pub const fn bounds(&self) -> Option<AdaptBounds> {
        self.adapt
    }

    /// Wants this number of workers from now on.
    pub fn scale(&mut self, target: u32) {
        (self.target, self.adapt) = (target, None);
    }

    /// Follow the load, or stop doing so. The present number is brought between the bounds at once.
    pub fn adapt(&mut self, wish: Adapt) {
        self.checks.clear();
        if !wish.active {
            self.adapt = None;
            return;
        }
        let bounds = AdaptBounds { minimum: wish.minimum.unwrap_or(0), maximum: wish.maximum };
        self.target = between(self.target, bounds);
        self.adapt = Some(bounds);
    }

    /// Decides after one poll. `check`: the time of an adaptive check has come.
    pub fn decide(&mut self, seen: &Seen, check: bool) -> Vec<PlanStep> {
        let mut steps = Vec::new();
        if let Some(reason) = self.lifetime(seen, &mut steps).or_else(|| self.idle(seen, &mut steps)) {
            return vec![PlanStep::End(reason)];
        }
        if check {
            self.follow(seen.load);
        }
        self.without_room = 0;
        if seen.remote.is_empty() && !seen.not_here {
            self.converge(seen, &mut steps);
        } else {
            let (placed, without_room) = placement::steps(self.target, &seen.hosts(), &seen.connected);
            steps.extend(placed);
            self.without_room = without_room;
        }
        steps
    }

    /// Does the cluster have what it should?
    pub fn is_settled(&self, seen: &Seen) -> bool {
        let workers: Vec<&PoolWorker> = seen.workers().collect();
        let staying = seen.connected.iter().filter(|worker| !worker.retiring);
        let ours = staying.filter(|worker| workers.iter().any(|pooled| pooled.name == worker.name));
        ours.count() == self.target as usize && workers.len() == self.target as usize
    }

    /// Up at once, down to the most that the last checks wanted.
    fn follow(&mut self, load: u32) {
        let Some(bounds) = self.adapt else { return };
        let wanted = between(load, bounds);
        if self.checks.len() >= CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back(wanted);
        let most = self.checks.iter().copied().max().unwrap_or(wanted);
        if wanted > self.target || self.checks.len() >= CHECKS {
            self.target = most;
        }
    }

    fn converge(&self, seen: &Seen, steps: &mut Vec<PlanStep>) {
        let Some(workers) = &seen.pool else {
            if self.target > 0 {
                steps.push(PlanStep::Grow(self.target));
            }
            return;
        };
        let connected = |name: &str| seen.connected.iter().find(|worker| worker.name == name);
        let working: Vec<&PoolWorker> = workers.iter().filter(|pooled| !pooled.stopping).collect();
        let leaving = working.iter().filter(|pooled| connected(&pooled.name).is_some_and(|worker| worker.retiring));
        let leaving = count(leaving.count());
        let staying = count(working.len()).saturating_sub(leaving);
        if staying < self.target {
            // The pool still counts those that leave.
            steps.push(PlanStep::Grow(self.target.saturating_add(leaving)));
            return;
        }
        let surplus = staying.saturating_sub(self.target);
        if surplus == 0 {
            return;
        }
        // The youngest first, of those that are not there yet: they hold nothing.
        let absent = working.iter().rev().filter(|pooled| connected(&pooled.name).is_none());
        let stop: Vec<String> = absent.take(surplus as usize).map(|pooled| pooled.name.clone()).collect();
        let retire = surplus.saturating_sub(count(stop.len()));
        if !stop.is_empty() {
            steps.push(PlanStep::Stop(stop));
        }
        if retire > 0 {
            let present = count(seen.connected.iter().filter(|worker| !worker.retiring).count());
            steps.push(PlanStep::Retire { keep: present.saturating_sub(retire) });
        }
    }

    /// Idle: no client, no work, nothing that moved, no worker on its way.
    fn idle(&mut self, seen: &Seen, steps: &mut Vec<PlanStep>) -> Option<String> {
        let moved = std::mem::replace(&mut self.transitions, seen.transitions) != seen.transitions;
        let absent = |pooled: &PoolWorker| !seen.connected.iter().any(|worker| worker.name == pooled.name);
        let on_their_way = seen.workers().any(|pooled| !pooled.again && !pooled.stopping && absent(pooled));
        let since = match self.active_secs {
            Some(since) if seen.clients == 0 && !seen.busy && !moved && !on_their_way => since,
            Some(_) | None => {
                self.idle_noted = false;
                *self.active_secs.insert(seen.now_secs)
            }
        };
        let limit = self.lifetimes.idle_secs?;
        let (idle, notice) = (seen.now_secs - since, IDLE_NOTICE_SECS.min(limit / 4.0));
        if idle >= limit {
            return Some(format!("idle for {} without client and work", duration(limit)));
        }
        if idle >= limit - notice && !std::mem::replace(&mut self.idle_noted, true) {
            steps
                .push(PlanStep::Note(format!("no client and no work: the cluster ends in {}", duration(limit - idle))));
        }
        None
    }

    fn lifetime(&mut self, seen: &Seen, steps: &mut Vec<PlanStep>) -> Option<String> {
        let limit = self.lifetimes.total_secs?;
        let left = limit - seen.age_secs;
        if left <= 0.0 {
            return Some(format!("its lifetime of {} is over", duration(limit)));
        }
        if left <= LIFETIME_NOTICE_SECS.min(limit / 10.0) && !std::mem::replace(&mut self.lifetime_told, true) {
            let text = format!("this cluster ends in {}: its lifetime is {}", duration(left), duration(limit));
            steps.push(PlanStep::Warn(text));
        }
        None
    }
}

fn between(wanted: u32, bounds: AdaptBounds) -> u32 {
    wanted.max(bounds.minimum).min(bounds.maximum.unwrap_or(u32::MAX))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `90 s`, `5 min`, `1 day` for people.
fn duration(secs: f64) -> String {
    let whole = secs.ceil().max(0.0) as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole.div_ceil(60)),
        7200..172_800 => format!("{} h", whole.div_ceil(3600)),
        _ => format!("{} days", whole.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adaptive(minimum: u32, maximum: Option<u32>) -> ScalingPlan {
        let mut plan = ScalingPlan::default();
        plan.adapt(Adapt { minimum: Some(minimum), maximum, active: true });
        plan
    }

    fn workers(names: &[&str]) -> Option<Vec<PoolWorker>> {
        Some(names.iter().map(|name| PoolWorker { name: (*name).to_owned(), ..PoolWorker::default() }).collect())
    }

    fn at(names: &[&str], retiring: &[&str]) -> Vec<Connected> {
        let worker = |name: &&str| Connected { name: (*name).to_owned(), retiring: retiring.contains(name) };
        names.iter().map(worker).collect()
    }

    #[test]
    fn the_load_is_followed_up_at_once_and_down_after_three_checks() {
        let mut plan = adaptive(1, Some(10));
        assert_eq!(plan.target(), 1);
        let targets: Vec<u32> = [4, 2, 20, 3, 2, 1, 1, 0, 0]
            .into_iter()
            .map(|load| {
                plan.decide(&Seen { load, ..Seen::default() }, true);
                plan.target()
            })
            .collect();
        assert_eq!(targets, [4, 4, 10, 10, 10, 3, 2, 1, 1]);
    }

    #[test]
    fn bounds_hold_at_once_and_stay_off_when_switched_off() {
        let mut plan = ScalingPlan::new(7, None, Lifetimes::default());
        plan.adapt(Adapt { minimum: Some(2), maximum: Some(4), active: true });
        assert_eq!((plan.target(), plan.bounds()), (4, Some(AdaptBounds { minimum: 2, maximum: Some(4) })));
        plan.adapt(Adapt { minimum: None, maximum: None, active: false });
        plan.decide(&Seen { load: 100, ..Seen::default() }, true);
        assert_eq!((plan.target(), plan.bounds()), (4, None));
        plan.scale(9);
        assert_eq!(plan.target(), 9);
    }

    #[test]
    fn missing_workers_are_started_beside_those_that_leave() {
        let mut plan = ScalingPlan::new(2, None, Lifetimes::default());
        assert_eq!(plan.decide(&Seen::default(), false), [PlanStep::Grow(2)]);
        let seen = Seen { pool: workers(&["a", "b"]), connected: at(&["a", "b"], &["b"]), ..Seen::default() };
        assert_eq!(plan.decide(&seen, false), [PlanStep::Grow(3)]);
        let seen = Seen { pool: workers(&["a", "b"]), connected: at(&["a"], &[]), ..Seen::default() };
        assert_eq!(plan.decide(&seen, false), []);
    }

    /// Goal: who is not there yet goes first; who may hold data is left to the scheduler's choice.
    #[test]
    fn surplus_workers_are_stopped_while_starting_and_retired_afterwards() {
        let mut plan = ScalingPlan::new(1, None, Lifetimes::default());
        let seen =
            Seen { pool: workers(&["a", "b", "c", "d"]), connected: at(&["a", "b", "x"], &[]), ..Seen::default() };
        let stop = PlanStep::Stop(vec!["d".to_owned(), "c".to_owned()]);
        assert_eq!(plan.decide(&seen, false), [stop, PlanStep::Retire { keep: 2 }]);
        // One is on its way out already: nothing more to do.
        let seen = Seen { pool: workers(&["a", "b"]), connected: at(&["a", "b"], &["a"]), ..Seen::default() };
        assert_eq!(plan.decide(&seen, false), []);
    }

    #[test]
    fn a_cluster_without_client_and_work_is_warned_of_and_ended() {
        let mut plan = ScalingPlan::new(0, None, Lifetimes { idle_secs: Some(100.0), total_secs: None });
        let seen = |now_secs: f64, transitions| Seen { now_secs, transitions, ..Seen::default() };
        assert_eq!(plan.decide(&Seen { clients: 1, ..seen(0.0, 0) }, false), []);
        assert_eq!(plan.decide(&seen(70.0, 0), false), []);
        // A task came and went between two polls.
        assert_eq!(plan.decide(&seen(80.0, 5), false), []);
        assert_eq!(plan.decide(&seen(150.0, 5), false), []);
        assert!(matches!(plan.decide(&seen(155.0, 5), false).as_slice(), [PlanStep::Note(_)]));
        assert_eq!(plan.decide(&seen(160.0, 5), false), []);
        assert!(matches!(plan.decide(&seen(180.0, 5), false).as_slice(), [PlanStep::End(_)]));
        assert_eq!(plan.decide(&Seen { busy: true, ..seen(181.0, 5) }, false), []);
    }

    #[test]
    fn the_end_of_a_lifetime_is_told_once_before() {
        let mut plan = ScalingPlan::new(0, None, Lifetimes { idle_secs: None, total_secs: Some(1000.0) });
        let seen = |age_secs| Seen { age_secs, clients: 1, ..Seen::default() };
        assert_eq!(plan.decide(&seen(899.0), false), []);
        assert!(matches!(plan.decide(&seen(900.0), false).as_slice(), [PlanStep::Warn(_)]));
        assert_eq!(plan.decide(&seen(999.0), false), []);
        assert!(matches!(plan.decide(&seen(1000.0), false).as_slice(), [PlanStep::End(_)]));
    }

    #[test]
    fn a_plan_is_settled_when_all_that_it_wants_are_there_and_no_more() {
        let plan = ScalingPlan::new(1, None, Lifetimes::default());
        let seen = |pool: &[&str], connected: &[&str]| Seen {
            pool: workers(pool),
            connected: at(connected, &[]),
            ..Seen::default()
        };
        assert!(plan.is_settled(&seen(&["a"], &["a", "foreign"])));
        assert!(!plan.is_settled(&seen(&["a"], &[])));
        assert!(!plan.is_settled(&seen(&["a", "b"], &["a"])));
    }
}
