//! One joined machine as the head sees it: a state machine of events, time and effects. Pure.
//!
//! Two things put a machine out of use on their own: silence and a broken link. Both are first only news (*late*),
//! because cables are pulled and processes restarted: after [`LATE_US`] of silence its tasks go to others, and its data
//! is waited for. After [`GONE_US`] that is given up too (*gone*). It remains a peer until somebody removes it: one
//! that comes back is simply up again.

use crate::base::Now;

/// Silence that makes a machine late: two heartbeats and a bit. Nothing new is placed there, and what runs there starts
/// elsewhere too. Unit: microseconds.
pub const LATE_US: u64 = 4_500_000;

/// Silence that makes it gone. A partition of 5 s ends, for TCP, with a retransmission that comes 6 s after it began; with
/// the heartbeat before it that is 8 s. If this were shorter, such a partition would cost all that the machine holds. Unit: microseconds.
pub const GONE_US: u64 = 10_000_000;

/// Longest from the certificate to the first link. Unit: microseconds.
pub const JOINING_US: u64 = 60_000_000;

/// Longest that a machine may take to move its data before it is let go anyway. Unit: microseconds.
pub const DRAIN_US: u64 = 120_000_000;

/// The same for one that was told to end: whoever told it waits no longer than this and a bit.
/// Source: `KillWait` of `slurm.conf(5)`, 30 s. Unit: microseconds.
pub const HURRY_US: u64 = 20_000_000;

/// Names one connection of a machine: news from an older one is not news.
pub type LinkId = u64;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleState {
    /// It has a certificate, and has not said yet what it is.
    Joining {
        /// The connection, once there is one.
        link: Option<LinkId>,
        /// When we stop waiting.
        until: Now,
    },
    /// Heartbeats come.
    Up {
        /// Over this connection.
        link: LinkId,
        /// The last one.
        heartbeat: Now,
    },
    /// Silent, or its link broke, a moment ago. Its workers may well be at work.
    Late {
        /// The connection that is silent; None: it broke.
        link: Option<LinkId>,
        /// Last heard of.
        heartbeat: Now,
        /// For long enough that others do its work. Not yet, if its link broke: its workers may never notice.
        silent: bool,
    },
    /// Silent for long. Its workers were given up.
    Gone {
        /// Last heard of.
        heartbeat: Now,
    },
    /// It gets nothing new, and its data moves elsewhere.
    Draining {
        /// The connection, while there is one.
        link: Option<LinkId>,
        /// Last heard of.
        heartbeat: Now,
        /// When it is let go anyway.
        until: Now,
        /// It wants to leave: then it is removed at the end.
        leaving: bool,
    },
    /// Drained: connected, empty, and kept so.
    Drained {
        /// The connection, while there is one.
        link: Option<LinkId>,
        /// Last heard of.
        heartbeat: Now,
    },
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleEvent {
    /// A link of it was opened: it proved to be who it is.
    Linked(LinkId),
    /// A heartbeat came over that link.
    Heartbeat(LinkId),
    /// That link is broken.
    Unlinked(LinkId),
    /// Somebody wants it empty.
    Drain,
    /// It wants to leave.
    Leave,
    /// Somebody wants it used again.
    Resume,
    /// Its pools report no workers any more.
    Empty,
    /// Time passes.
    Tick,
}

/// What must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleEffect {
    /// An older connection is superseded.
    CloseLink(LinkId),
    /// What may be placed on it changed: look at the placement again.
    Place,
    /// Its workers are lost: tell the schedulers.
    GiveUpWorkers,
    /// Its workers should be retired with their data.
    Retire,
    /// It is empty and said goodbye: forget it.
    Forget,
}

/// A machine's state and what happens to it.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: LifecycleState,
    /// Not heard of since this process began: the silence may be ours.
    patient: bool,
    /// It is here for a while only: its end is a matter of course, and it is forgotten then.
    passing: bool,
}

impl Lifecycle {
    /// One that just got its certificate.
    pub const fn joining(now: Now, passing: bool) -> Self {
        Self { state: LifecycleState::Joining { link: None, until: now.plus_us(JOINING_US) }, patient: false, passing }
    }

    /// One that was a peer before this process began: it may be at work, and gets the time to come back.
    pub const fn remembered(now: Now, drained: bool, passing: bool) -> Self {
        let state = if drained {
            LifecycleState::Drained { link: None, heartbeat: now }
        } else {
            LifecycleState::Late { link: None, heartbeat: now, silent: false }
        };
        Self { state, patient: true, passing }
    }

    /// May workers be placed on it?
    pub const fn is_usable(&self) -> bool {
        matches!(self.state, LifecycleState::Up { .. })
    }

    /// Should others do its work? Not asked of machines whose workers are given up.
    pub const fn is_silent(&self) -> bool {
        matches!(self.state, LifecycleState::Late { silent: true, .. })
    }

    /// Are its workers still counted on? One that is late keeps what it has.
    pub const fn keeps_workers(&self) -> bool {
        matches!(self.state, LifecycleState::Up { .. } | LifecycleState::Late { .. })
    }

    /// For people.
    pub const fn word(&self) -> &'static str {
        match self.state {
            LifecycleState::Joining { .. } => "joining",
            LifecycleState::Up { .. } => "up",
            LifecycleState::Late { .. } => "late",
            LifecycleState::Gone { .. } => "gone",
            LifecycleState::Draining { .. } => "draining",
            LifecycleState::Drained { .. } => "drained",
        }
    }

    /// Last heard of; None: never.
    pub const fn last_heartbeat(&self) -> Option<Now> {
        match self.state {
            LifecycleState::Joining { .. } => None,
            LifecycleState::Up { heartbeat, .. }
            | LifecycleState::Late { heartbeat, .. }
            | LifecycleState::Gone { heartbeat }
            | LifecycleState::Draining { heartbeat, .. }
            | LifecycleState::Drained { heartbeat, .. } => Some(heartbeat),
        }
    }

    /// Its connection, if it has one.
    pub const fn link(&self) -> Option<LinkId> {
        match self.state {
            LifecycleState::Gone { .. } => None,
            LifecycleState::Up { link, .. } => Some(link),
            LifecycleState::Joining { link, .. }
            | LifecycleState::Late { link, .. }
            | LifecycleState::Draining { link, .. }
            | LifecycleState::Drained { link, .. } => link,
        }
    }

    /// When [`LifecycleEvent::Tick`] next changes something.
    pub const fn deadline(&self) -> Option<Now> {
        match self.state {
            LifecycleState::Joining { until, .. } | LifecycleState::Draining { until, .. } => Some(until),
            LifecycleState::Up { heartbeat, .. } => Some(heartbeat.plus_us(LATE_US)),
            LifecycleState::Late { heartbeat, silent: false, .. } if !self.patient => Some(heartbeat.plus_us(LATE_US)),
            LifecycleState::Late { heartbeat, .. } => Some(heartbeat.plus_us(GONE_US)),
            LifecycleState::Gone { .. } | LifecycleState::Drained { .. } => None,
        }
    }

    /// Something happened.
    pub fn step(&mut self, event: LifecycleEvent, now: Now) -> Vec<LifecycleEffect> {
        match event {
            LifecycleEvent::Linked(link) => self.on_linked(link, now),
            LifecycleEvent::Heartbeat(link) => self.on_beat(link, now),
            LifecycleEvent::Unlinked(link) => self.on_unlinked(link),
            // Emptied, it is of no more use.
            LifecycleEvent::Drain => self.on_drain(now.plus_us(DRAIN_US), now, self.passing),
            LifecycleEvent::Leave if self.passing => self.on_drain(now.plus_us(HURRY_US), now, true),
            LifecycleEvent::Leave => self.on_drain(now.plus_us(DRAIN_US), now, true),
            LifecycleEvent::Resume => self.on_resume(now),
            LifecycleEvent::Empty => self.on_empty(),
            LifecycleEvent::Tick => self.on_tick(now),
        }
    }

    /// The newest link counts: a machine that lost one opens another before we notice. It is up with its first heartbeat,
    /// which follows at once: only that tells what there is to use.
    fn on_linked(&mut self, link: LinkId, now: Now) -> Vec<LifecycleEffect> {
        self.patient = false;
        let mut effects: Vec<LifecycleEffect> =
            self.link().filter(|old| *old != link).map(LifecycleEffect::CloseLink).into_iter().collect();
        match &mut self.state {
            LifecycleState::Joining { link: known, .. } => *known = Some(link),
            LifecycleState::Up { .. } | LifecycleState::Late { .. } | LifecycleState::Gone { .. } => {
                self.state = LifecycleState::Late { link: Some(link), heartbeat: now, silent: false };
                effects.push(LifecycleEffect::Place);
            }
            LifecycleState::Draining { link: known, heartbeat, .. }
            | LifecycleState::Drained { link: known, heartbeat } => {
                (*known, *heartbeat) = (Some(link), now);
                effects.push(LifecycleEffect::Place);
            }
        }
        effects
    }

    fn on_beat(&mut self, from: LinkId, now: Now) -> Vec<LifecycleEffect> {
        if self.link() != Some(from) {
            return Vec::new();
        }
        match &mut self.state {
            LifecycleState::Up { heartbeat, .. }
            | LifecycleState::Draining { heartbeat, .. }
            | LifecycleState::Drained { heartbeat, .. } => {
                *heartbeat = now;
                Vec::new()
            }
            LifecycleState::Joining { .. } | LifecycleState::Late { .. } => {
                self.state = LifecycleState::Up { link: from, heartbeat: now };
                vec![LifecycleEffect::Place]
            }
            LifecycleState::Gone { .. } => Vec::new(),
        }
    }

    fn on_unlinked(&mut self, broken: LinkId) -> Vec<LifecycleEffect> {
        if self.link() != Some(broken) {
            return Vec::new();
        }
        match &mut self.state {
            LifecycleState::Up { heartbeat, .. } => {
                self.state = LifecycleState::Late { link: None, heartbeat: *heartbeat, silent: false };
                vec![LifecycleEffect::Place]
            }
            LifecycleState::Late { link, .. } => {
                *link = None;
                vec![LifecycleEffect::Place]
            }
            LifecycleState::Joining { link, .. }
            | LifecycleState::Draining { link, .. }
            | LifecycleState::Drained { link, .. } => {
                *link = None;
                Vec::new()
            }
            LifecycleState::Gone { .. } => Vec::new(),
        }
    }

    fn on_drain(&mut self, until: Now, now: Now, leave: bool) -> Vec<LifecycleEffect> {
        match &mut self.state {
            LifecycleState::Up { link, heartbeat } => {
                self.state =
                    LifecycleState::Draining { link: Some(*link), heartbeat: *heartbeat, until, leaving: leave };
                vec![LifecycleEffect::Retire, LifecycleEffect::Place]
            }
            LifecycleState::Late { link, heartbeat, .. } => {
                self.state = LifecycleState::Draining { link: *link, heartbeat: *heartbeat, until, leaving: leave };
                vec![LifecycleEffect::Retire, LifecycleEffect::Place]
            }
            LifecycleState::Draining { leaving, until: end, .. } => {
                *leaving |= leave;
                *end = until.min(*end);
                Vec::new()
            }
            LifecycleState::Drained { .. } | LifecycleState::Gone { .. } | LifecycleState::Joining { .. } if leave => {
                vec![LifecycleEffect::Forget]
            }
            LifecycleState::Gone { heartbeat } => {
                self.state = LifecycleState::Drained { link: None, heartbeat: *heartbeat };
                vec![LifecycleEffect::Place]
            }
            LifecycleState::Joining { link, .. } => {
                self.state = LifecycleState::Drained { link: *link, heartbeat: now };
                vec![LifecycleEffect::Place]
            }
            LifecycleState::Drained { .. } => Vec::new(),
        }
    }

    fn on_resume(&mut self, now: Now) -> Vec<LifecycleEffect> {
        match self.state {
            LifecycleState::Draining { link, heartbeat, leaving: false, .. }
            | LifecycleState::Drained { link, heartbeat } => {
                self.state = match link {
                    Some(link) => LifecycleState::Up { link, heartbeat: now },
                    None => LifecycleState::Late { link: None, heartbeat, silent: false },
                };
                vec![LifecycleEffect::Place]
            }
            LifecycleState::Joining { .. }
            | LifecycleState::Up { .. }
            | LifecycleState::Late { .. }
            | LifecycleState::Gone { .. }
            | LifecycleState::Draining { .. } => Vec::new(),
        }
    }

    fn on_empty(&mut self) -> Vec<LifecycleEffect> {
        match self.state {
            LifecycleState::Draining { leaving: true, .. } => vec![LifecycleEffect::Forget],
            LifecycleState::Draining { link, heartbeat, .. } => {
                self.state = LifecycleState::Drained { link, heartbeat };
                Vec::new()
            }
            LifecycleState::Joining { .. }
            | LifecycleState::Up { .. }
            | LifecycleState::Late { .. }
            | LifecycleState::Gone { .. }
            | LifecycleState::Drained { .. } => Vec::new(),
        }
    }

    fn on_tick(&mut self, now: Now) -> Vec<LifecycleEffect> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.state {
            LifecycleState::Joining { link, .. } => {
                self.state = LifecycleState::Gone { heartbeat: now };
                let close = link.map(LifecycleEffect::CloseLink);
                close.into_iter().chain(self.passing.then_some(LifecycleEffect::Forget)).collect()
            }
            LifecycleState::Up { link, heartbeat } => {
                self.state = LifecycleState::Late { link: Some(link), heartbeat, silent: true };
                // It may be silent for longer than one look at it.
                let mut effects = vec![LifecycleEffect::Place];
                effects.extend(self.on_tick(now));
                effects
            }
            LifecycleState::Late { link, heartbeat, silent: false } if !self.patient => {
                self.state = LifecycleState::Late { link, heartbeat, silent: true };
                let mut effects = vec![LifecycleEffect::Place];
                effects.extend(self.on_tick(now));
                effects
            }
            LifecycleState::Late { link, heartbeat, .. } => {
                self.state = LifecycleState::Gone { heartbeat };
                let close = link.map(LifecycleEffect::CloseLink);
                let given_up = [LifecycleEffect::GiveUpWorkers, LifecycleEffect::Place];
                let last = self.passing.then_some(LifecycleEffect::Forget);
                close.into_iter().chain(given_up).chain(last).collect()
            }
            LifecycleState::Draining { leaving: true, .. } => {
                vec![LifecycleEffect::GiveUpWorkers, LifecycleEffect::Forget]
            }
            LifecycleState::Draining { link, heartbeat, .. } => {
                self.state = LifecycleState::Drained { link, heartbeat };
                vec![LifecycleEffect::GiveUpWorkers, LifecycleEffect::Place]
            }
            LifecycleState::Gone { .. } | LifecycleState::Drained { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: u64 = 1_000_000;

    fn at(secs: u64) -> Now {
        Now(secs * SEC)
    }

    fn up() -> Lifecycle {
        let mut peer = Lifecycle::joining(at(0), false);
        assert!(peer.step(LifecycleEvent::Linked(1), at(0)).is_empty());
        assert_eq!(peer.word(), "joining", "nobody knows yet what it can take");
        assert_eq!(peer.step(LifecycleEvent::Heartbeat(1), at(0)), [LifecycleEffect::Place]);
        peer
    }

    /// Goal: a partition of 5 s costs nothing. Method: the last heartbeat 2 s before it, the next one 8.3 s later.
    #[test]
    fn a_short_cut_makes_a_machine_late_and_nothing_else() {
        let mut peer = up();
        assert!(peer.step(LifecycleEvent::Tick, at(4)).is_empty());
        assert_eq!(peer.step(LifecycleEvent::Tick, at(5)), [LifecycleEffect::Place]);
        assert_eq!((peer.word(), peer.is_usable(), peer.keeps_workers()), ("late", false, true));
        assert!(peer.is_silent());
        assert!(peer.step(LifecycleEvent::Tick, Now(9_900_000)).is_empty());
        assert_eq!(peer.step(LifecycleEvent::Heartbeat(1), Now(8_300_000)), [LifecycleEffect::Place]);
        assert!(peer.is_usable());
    }

    #[test]
    fn a_long_silence_gives_its_workers_up_once_and_it_may_come_back() {
        let mut peer = up();
        let effects = peer.step(LifecycleEvent::Tick, at(11));
        assert_eq!(
            effects,
            [
                LifecycleEffect::Place,
                LifecycleEffect::CloseLink(1),
                LifecycleEffect::GiveUpWorkers,
                LifecycleEffect::Place
            ]
        );
        assert!(peer.step(LifecycleEvent::Tick, at(20)).is_empty());
        assert!(peer.step(LifecycleEvent::Heartbeat(1), at(21)).is_empty(), "an old connection is no news");
        assert_eq!(peer.step(LifecycleEvent::Linked(2), at(22)), [LifecycleEffect::Place]);
        assert_eq!((peer.word(), peer.is_silent()), ("late", false));
        assert_eq!(peer.step(LifecycleEvent::Heartbeat(2), at(22)), [LifecycleEffect::Place]);
        assert_eq!(peer.word(), "up");
    }

    #[test]
    fn a_newer_connection_supersedes_and_the_end_of_the_older_is_no_news() {
        let mut peer = up();
        assert_eq!(
            peer.step(LifecycleEvent::Linked(2), at(1)),
            [LifecycleEffect::CloseLink(1), LifecycleEffect::Place]
        );
        assert!(peer.step(LifecycleEvent::Unlinked(1), at(1)).is_empty());
        assert_eq!(peer.step(LifecycleEvent::Unlinked(2), at(2)), [LifecycleEffect::Place]);
        assert_eq!(peer.state, LifecycleState::Late { link: None, heartbeat: at(1), silent: false });
    }

    /// Goal: the process that keeps the link is replaced, which takes a moment, and its workers are not bothered.
    #[test]
    fn a_broken_link_is_silence_only_after_a_while() {
        let mut peer = up();
        assert_eq!(peer.step(LifecycleEvent::Unlinked(1), at(1)), [LifecycleEffect::Place]);
        assert!(!peer.is_silent() && !peer.is_usable());
        assert!(peer.step(LifecycleEvent::Tick, at(4)).is_empty());
        assert_eq!(peer.step(LifecycleEvent::Tick, at(5)), [LifecycleEffect::Place]);
        assert!(peer.is_silent());
        peer.step(LifecycleEvent::Linked(2), at(6));
        assert!(!peer.is_silent() && peer.keeps_workers());
        peer.step(LifecycleEvent::Heartbeat(2), at(6));
        assert!(peer.is_usable());
    }

    /// Goal: after a restart of the head the silence was ours.
    #[test]
    fn one_that_is_remembered_is_waited_for() {
        let mut peer = Lifecycle::remembered(at(0), false, false);
        assert!(peer.step(LifecycleEvent::Tick, at(9)).is_empty() && !peer.is_silent());
        assert!(peer.step(LifecycleEvent::Tick, at(10)).contains(&LifecycleEffect::GiveUpWorkers));
    }

    #[test]
    fn a_machine_that_leaves_is_emptied_first_and_then_forgotten() {
        let mut peer = up();
        assert_eq!(peer.step(LifecycleEvent::Leave, at(1)), [LifecycleEffect::Retire, LifecycleEffect::Place]);
        assert!(!peer.is_usable());
        assert_eq!(peer.step(LifecycleEvent::Empty, at(2)), [LifecycleEffect::Forget]);
        let mut stuck = up();
        stuck.step(LifecycleEvent::Leave, at(1));
        assert_eq!(
            stuck.step(LifecycleEvent::Tick, at(122)),
            [LifecycleEffect::GiveUpWorkers, LifecycleEffect::Forget]
        );
    }

    /// Goal: jobs of a batch system come and go, and no list of machines grows with them.
    #[test]
    fn one_that_passes_is_forgotten_at_its_end_however_it_ends() {
        let passing = || {
            let mut peer = Lifecycle::joining(at(0), true);
            peer.step(LifecycleEvent::Linked(1), at(0));
            peer.step(LifecycleEvent::Heartbeat(1), at(0));
            peer
        };
        assert!(passing().step(LifecycleEvent::Tick, at(11)).contains(&LifecycleEffect::Forget));
        let mut emptied = passing();
        emptied.step(LifecycleEvent::Drain, at(1));
        assert_eq!(emptied.step(LifecycleEvent::Empty, at(2)), [LifecycleEffect::Forget]);
        let mut told = passing();
        told.step(LifecycleEvent::Drain, at(1));
        told.step(LifecycleEvent::Leave, at(2));
        assert_eq!(told.step(LifecycleEvent::Tick, at(22)), [LifecycleEffect::GiveUpWorkers, LifecycleEffect::Forget]);
        let mut never_linked = Lifecycle::joining(at(0), true);
        assert_eq!(never_linked.step(LifecycleEvent::Tick, at(61)), [LifecycleEffect::Forget]);
    }

    #[test]
    fn a_drained_machine_stays_empty_through_reconnects_until_it_is_resumed() {
        let mut peer = up();
        peer.step(LifecycleEvent::Drain, at(1));
        peer.step(LifecycleEvent::Empty, at(2));
        peer.step(LifecycleEvent::Linked(2), at(3));
        assert_eq!((peer.word(), peer.is_usable()), ("drained", false));
        assert_eq!(peer.step(LifecycleEvent::Resume, at(4)), [LifecycleEffect::Place]);
        assert!(peer.is_usable());
    }

    /// Goal: whatever comes in whatever order, the machine never gets stuck with a deadline in the past.
    /// Method: every sequence of four events.
    #[test]
    fn no_order_of_events_leaves_a_passed_deadline() {
        let events = [
            LifecycleEvent::Linked(1),
            LifecycleEvent::Linked(2),
            LifecycleEvent::Heartbeat(1),
            LifecycleEvent::Unlinked(1),
            LifecycleEvent::Drain,
            LifecycleEvent::Leave,
            LifecycleEvent::Resume,
            LifecycleEvent::Empty,
        ];
        for code in 0..events.len().pow(4) * 2 {
            let mut peer = Lifecycle::joining(at(0), code % 2 == 0);
            let mut rest = code / 2;
            for round in 1..5 {
                peer.step(events[rest % events.len()], at(round * 3));
                rest /= events.len();
            }
            let forgotten = peer.step(LifecycleEvent::Tick, at(1000)).contains(&LifecycleEffect::Forget);
            assert!(forgotten || peer.deadline().is_none_or(|deadline| deadline > at(1000)), "{code}: {peer:?}");
        }
    }
}
