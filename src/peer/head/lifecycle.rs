//! One joined machine as the head sees it: a state machine of events, time and effects. Pure.
//!
//! Two things put a machine out of use on their own: silence and a broken link. Both are first only news (*late*),
//! because cables are pulled and processes restarted: after [`LATE_US`] of silence its tasks go to others, and its data
//! is waited for. After [`GONE_US`] that is given up too (*gone*). It remains a member until somebody removes it: one
//! that comes back is simply up again.

use crate::base::Now;

/// Silence that makes a machine late: two beats and a bit. Nothing new is placed there, and what runs there starts
/// elsewhere too. Unit: microseconds.
pub const LATE_US: u64 = 4_500_000;

/// Silence that makes it gone. A cut of 5 s ends, for TCP, with a retransmission that comes 6 s after it began; with
/// the beat before it that is 8 s. Shorter, and such a cut would cost all that the machine holds. Unit: microseconds.
pub const GONE_US: u64 = 10_000_000;

/// Longest from the certificate to the first link. Unit: microseconds.
pub const JOINING_US: u64 = 60_000_000;

/// Longest that a machine may take to move its data before it is let go anyway. Unit: microseconds.
pub const DRAIN_US: u64 = 120_000_000;

/// Names one connection of a machine: news from an older one is not news.
pub type LinkId = u64;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has a certificate, and has not said yet what it is.
    Joining {
        /// The connection, once there is one.
        link: Option<LinkId>,
        /// When we stop waiting.
        until: Now,
    },
    /// Beats come.
    Up {
        /// Over this connection.
        link: LinkId,
        /// The last one.
        beat: Now,
    },
    /// Silent, or its link broke, a moment ago. Its workers may well be at work.
    Late {
        /// The connection that is silent; None: it broke.
        link: Option<LinkId>,
        /// Last heard of.
        beat: Now,
        /// For long enough that others do its work. Not yet, if its link broke: its workers may never notice.
        silent: bool,
    },
    /// Silent for long. Its workers were given up.
    Gone {
        /// Last heard of.
        beat: Now,
    },
    /// It gets nothing new, and its data moves elsewhere.
    Draining {
        /// The connection, while there is one.
        link: Option<LinkId>,
        /// Last heard of.
        beat: Now,
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
        beat: Now,
    },
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link of it was opened: it proved to be who it is.
    Linked(LinkId),
    /// It beats.
    Beat(LinkId),
    /// That link is broken.
    Unlinked(LinkId),
    /// Somebody wants it empty.
    Drain,
    /// It wants to leave.
    Leave,
    /// Somebody wants it used again.
    Resume,
    /// Its groups report no workers any more.
    Empty,
    /// Time passes.
    Tick,
}

/// What must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
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
pub struct Member {
    state: State,
    /// Not heard of since this process began: the silence may be ours.
    patient: bool,
}

impl Member {
    /// One that just got its certificate.
    pub const fn joining(now: Now) -> Self {
        Self { state: State::Joining { link: None, until: now.plus_us(JOINING_US) }, patient: false }
    }

    /// One that was a member before this process began: it may be at work, and gets the time to come back.
    pub const fn remembered(now: Now, drained: bool) -> Self {
        let state = if drained {
            State::Drained { link: None, beat: now }
        } else {
            State::Late { link: None, beat: now, silent: false }
        };
        Self { state, patient: true }
    }

    /// May workers be placed on it?
    pub const fn is_usable(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Should others do its work? Not asked of machines whose workers are given up.
    pub const fn is_silent(&self) -> bool {
        matches!(self.state, State::Late { silent: true, .. })
    }

    /// Are its workers still counted on? One that is late keeps what it has.
    pub const fn keeps_workers(&self) -> bool {
        matches!(self.state, State::Up { .. } | State::Late { .. })
    }

    /// For people.
    pub const fn word(&self) -> &'static str {
        match self.state {
            State::Joining { .. } => "joining",
            State::Up { .. } => "up",
            State::Late { .. } => "late",
            State::Gone { .. } => "gone",
            State::Draining { .. } => "draining",
            State::Drained { .. } => "drained",
        }
    }

    /// Last heard of; None: never.
    pub const fn last_beat(&self) -> Option<Now> {
        match self.state {
            State::Joining { .. } => None,
            State::Up { beat, .. }
            | State::Late { beat, .. }
            | State::Gone { beat }
            | State::Draining { beat, .. }
            | State::Drained { beat, .. } => Some(beat),
        }
    }

    /// Its connection, if it has one.
    pub const fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Gone { .. } => None,
            State::Up { link, .. } => Some(link),
            State::Joining { link, .. }
            | State::Late { link, .. }
            | State::Draining { link, .. }
            | State::Drained { link, .. } => link,
        }
    }

    /// When [`Event::Tick`] next changes something.
    pub const fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Joining { until, .. } | State::Draining { until, .. } => Some(until),
            State::Up { beat, .. } => Some(beat.plus_us(LATE_US)),
            State::Late { beat, silent: false, .. } if !self.patient => Some(beat.plus_us(LATE_US)),
            State::Late { beat, .. } => Some(beat.plus_us(GONE_US)),
            State::Gone { .. } | State::Drained { .. } => None,
        }
    }

    /// Something happened.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Linked(link) => self.on_linked(link, now),
            Event::Beat(link) => self.on_beat(link, now),
            Event::Unlinked(link) => self.on_unlinked(link),
            Event::Drain => self.on_drain(now, false),
            Event::Leave => self.on_drain(now, true),
            Event::Resume => self.on_resume(now),
            Event::Empty => self.on_empty(),
            Event::Tick => self.on_tick(now),
        }
    }

    /// The newest link counts: a machine that lost one opens another before we notice. It is up with its first beat,
    /// which follows at once: only that tells what there is to use.
    fn on_linked(&mut self, link: LinkId, now: Now) -> Vec<Effect> {
        self.patient = false;
        let mut effects: Vec<Effect> =
            self.link().filter(|old| *old != link).map(Effect::CloseLink).into_iter().collect();
        match &mut self.state {
            State::Joining { link: known, .. } => *known = Some(link),
            State::Up { .. } | State::Late { .. } | State::Gone { .. } => {
                self.state = State::Late { link: Some(link), beat: now, silent: false };
                effects.push(Effect::Place);
            }
            State::Draining { link: known, beat, .. } | State::Drained { link: known, beat } => {
                (*known, *beat) = (Some(link), now);
                effects.push(Effect::Place);
            }
        }
        effects
    }

    fn on_beat(&mut self, from: LinkId, now: Now) -> Vec<Effect> {
        if self.link() != Some(from) {
            return Vec::new();
        }
        match &mut self.state {
            State::Up { beat, .. } | State::Draining { beat, .. } | State::Drained { beat, .. } => {
                *beat = now;
                Vec::new()
            }
            State::Joining { .. } | State::Late { .. } => {
                self.state = State::Up { link: from, beat: now };
                vec![Effect::Place]
            }
            State::Gone { .. } => Vec::new(),
        }
    }

    fn on_unlinked(&mut self, broken: LinkId) -> Vec<Effect> {
        if self.link() != Some(broken) {
            return Vec::new();
        }
        match &mut self.state {
            State::Up { beat, .. } => {
                self.state = State::Late { link: None, beat: *beat, silent: false };
                vec![Effect::Place]
            }
            State::Late { link, .. } => {
                *link = None;
                vec![Effect::Place]
            }
            State::Joining { link, .. } | State::Draining { link, .. } | State::Drained { link, .. } => {
                *link = None;
                Vec::new()
            }
            State::Gone { .. } => Vec::new(),
        }
    }

    fn on_drain(&mut self, now: Now, leave: bool) -> Vec<Effect> {
        let until = now.plus_us(DRAIN_US);
        match &mut self.state {
            State::Up { link, beat } => {
                self.state = State::Draining { link: Some(*link), beat: *beat, until, leaving: leave };
                vec![Effect::Retire, Effect::Place]
            }
            State::Late { link, beat, .. } => {
                self.state = State::Draining { link: *link, beat: *beat, until, leaving: leave };
                vec![Effect::Retire, Effect::Place]
            }
            State::Draining { leaving, .. } => {
                *leaving |= leave;
                Vec::new()
            }
            State::Drained { .. } | State::Gone { .. } | State::Joining { .. } if leave => vec![Effect::Forget],
            State::Gone { beat } => {
                self.state = State::Drained { link: None, beat: *beat };
                vec![Effect::Place]
            }
            State::Joining { link, .. } => {
                self.state = State::Drained { link: *link, beat: now };
                vec![Effect::Place]
            }
            State::Drained { .. } => Vec::new(),
        }
    }

    fn on_resume(&mut self, now: Now) -> Vec<Effect> {
        match self.state {
            State::Draining { link, beat, leaving: false, .. } | State::Drained { link, beat } => {
                self.state = match link {
                    Some(link) => State::Up { link, beat: now },
                    None => State::Late { link: None, beat, silent: false },
                };
                vec![Effect::Place]
            }
            State::Joining { .. }
            | State::Up { .. }
            | State::Late { .. }
            | State::Gone { .. }
            | State::Draining { .. } => Vec::new(),
        }
    }

    fn on_empty(&mut self) -> Vec<Effect> {
        match self.state {
            State::Draining { leaving: true, .. } => vec![Effect::Forget],
            State::Draining { link, beat, .. } => {
                self.state = State::Drained { link, beat };
                Vec::new()
            }
            State::Joining { .. }
            | State::Up { .. }
            | State::Late { .. }
            | State::Gone { .. }
            | State::Drained { .. } => Vec::new(),
        }
    }

    fn on_tick(&mut self, now: Now) -> Vec<Effect> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.state {
            State::Joining { link, .. } => {
                self.state = State::Gone { beat: now };
                link.map(Effect::CloseLink).into_iter().collect()
            }
            State::Up { link, beat } => {
                self.state = State::Late { link: Some(link), beat, silent: true };
                // It may be silent for longer than one look at it.
                let mut effects = vec![Effect::Place];
                effects.extend(self.on_tick(now));
                effects
            }
            State::Late { link, beat, silent: false } if !self.patient => {
                self.state = State::Late { link, beat, silent: true };
                let mut effects = vec![Effect::Place];
                effects.extend(self.on_tick(now));
                effects
            }
            State::Late { link, beat, .. } => {
                self.state = State::Gone { beat };
                let close = link.map(Effect::CloseLink);
                close.into_iter().chain([Effect::GiveUpWorkers, Effect::Place]).collect()
            }
            State::Draining { leaving: true, .. } => vec![Effect::GiveUpWorkers, Effect::Forget],
            State::Draining { link, beat, .. } => {
                self.state = State::Drained { link, beat };
                vec![Effect::GiveUpWorkers, Effect::Place]
            }
            State::Gone { .. } | State::Drained { .. } => Vec::new(),
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

    fn up() -> Member {
        let mut member = Member::joining(at(0));
        assert!(member.step(Event::Linked(1), at(0)).is_empty());
        assert_eq!(member.word(), "joining", "nobody knows yet what it can take");
        assert_eq!(member.step(Event::Beat(1), at(0)), [Effect::Place]);
        member
    }

    /// Goal: a cut of 5 s costs nothing. Method: the last beat 2 s before it, the next one 8.3 s later.
    #[test]
    fn a_short_cut_makes_a_machine_late_and_nothing_else() {
        let mut member = up();
        assert!(member.step(Event::Tick, at(4)).is_empty());
        assert_eq!(member.step(Event::Tick, at(5)), [Effect::Place]);
        assert_eq!((member.word(), member.is_usable(), member.keeps_workers()), ("late", false, true));
        assert!(member.is_silent());
        assert!(member.step(Event::Tick, Now(9_900_000)).is_empty());
        assert_eq!(member.step(Event::Beat(1), Now(8_300_000)), [Effect::Place]);
        assert!(member.is_usable());
    }

    #[test]
    fn a_long_silence_gives_its_workers_up_once_and_it_may_come_back() {
        let mut member = up();
        let effects = member.step(Event::Tick, at(11));
        assert_eq!(effects, [Effect::Place, Effect::CloseLink(1), Effect::GiveUpWorkers, Effect::Place]);
        assert!(member.step(Event::Tick, at(20)).is_empty());
        assert!(member.step(Event::Beat(1), at(21)).is_empty(), "an old connection is no news");
        assert_eq!(member.step(Event::Linked(2), at(22)), [Effect::Place]);
        assert_eq!((member.word(), member.is_silent()), ("late", false));
        assert_eq!(member.step(Event::Beat(2), at(22)), [Effect::Place]);
        assert_eq!(member.word(), "up");
    }

    #[test]
    fn a_newer_connection_supersedes_and_the_end_of_the_older_is_no_news() {
        let mut member = up();
        assert_eq!(member.step(Event::Linked(2), at(1)), [Effect::CloseLink(1), Effect::Place]);
        assert!(member.step(Event::Unlinked(1), at(1)).is_empty());
        assert_eq!(member.step(Event::Unlinked(2), at(2)), [Effect::Place]);
        assert_eq!(member.state, State::Late { link: None, beat: at(1), silent: false });
    }

    /// Goal: the process that keeps the link is replaced, which takes a moment, and its workers are not bothered.
    #[test]
    fn a_broken_link_is_silence_only_after_a_while() {
        let mut member = up();
        assert_eq!(member.step(Event::Unlinked(1), at(1)), [Effect::Place]);
        assert!(!member.is_silent() && !member.is_usable());
        assert!(member.step(Event::Tick, at(4)).is_empty());
        assert_eq!(member.step(Event::Tick, at(5)), [Effect::Place]);
        assert!(member.is_silent());
        member.step(Event::Linked(2), at(6));
        assert!(!member.is_silent() && member.keeps_workers());
        member.step(Event::Beat(2), at(6));
        assert!(member.is_usable());
    }

    /// Goal: after a restart of the head the silence was ours.
    #[test]
    fn one_that_is_remembered_is_waited_for() {
        let mut member = Member::remembered(at(0), false);
        assert!(member.step(Event::Tick, at(9)).is_empty() && !member.is_silent());
        assert!(member.step(Event::Tick, at(10)).contains(&Effect::GiveUpWorkers));
    }

    #[test]
    fn a_machine_that_leaves_is_emptied_first_and_then_forgotten() {
        let mut member = up();
        assert_eq!(member.step(Event::Leave, at(1)), [Effect::Retire, Effect::Place]);
        assert!(!member.is_usable());
        assert_eq!(member.step(Event::Empty, at(2)), [Effect::Forget]);
        let mut stuck = up();
        stuck.step(Event::Leave, at(1));
        assert_eq!(stuck.step(Event::Tick, at(122)), [Effect::GiveUpWorkers, Effect::Forget]);
    }

    #[test]
    fn a_drained_machine_stays_empty_through_reconnects_until_it_is_resumed() {
        let mut member = up();
        member.step(Event::Drain, at(1));
        member.step(Event::Empty, at(2));
        member.step(Event::Linked(2), at(3));
        assert_eq!((member.word(), member.is_usable()), ("drained", false));
        assert_eq!(member.step(Event::Resume, at(4)), [Effect::Place]);
        assert!(member.is_usable());
    }

    /// Goal: whatever comes in whatever order, the machine never gets stuck with a deadline in the past.
    /// Method: every sequence of four events.
    #[test]
    fn no_order_of_events_leaves_a_passed_deadline() {
        let events = [
            Event::Linked(1),
            Event::Linked(2),
            Event::Beat(1),
            Event::Unlinked(1),
            Event::Drain,
            Event::Leave,
            Event::Resume,
            Event::Empty,
        ];
        for code in 0..events.len().pow(4) {
            let mut member = Member::joining(at(0));
            let mut rest = code;
            for round in 1..5 {
                member.step(events[rest % events.len()], at(round * 3));
                rest /= events.len();
            }
            let forgotten = member.step(Event::Tick, at(1000)).contains(&Effect::Forget);
            assert!(forgotten || member.deadline().is_none_or(|deadline| deadline > at(1000)), "{code}: {member:?}");
        }
    }
}
