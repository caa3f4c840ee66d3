//! What is still to be done in this turn or the next: effects of the core in their order, streams that may go on.

use std::collections::VecDeque;

use super::handle::ConnId;
use crate::base::ClientId;
use crate::cluster::codec::messages::Stimulus;
use crate::sched::{Effect, Event};

/// Effects of one or more steps, in the order in which the core asked for them.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    /// Each step, and how many effects there were after it.
    steps: Vec<(Stimulus, usize)>,
}

impl Effects {
    /// Where a step appends its effects.
    pub const fn list(&mut self) -> &mut Vec<Effect> {
        &mut self.list
    }

    /// What was appended since the last call is of this step.
    pub fn end_step(&mut self, stimulus: Stimulus) {
        if self.steps.last().map_or(0, |(_, end)| *end) < self.list.len() {
            self.steps.push((stimulus, self.list.len()));
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes all of them out, each with its step. The memory stays here for the next ones.
    pub fn drain(&mut self) -> impl Iterator<Item = (Stimulus, Effect)> {
        let mut steps = self.steps.drain(..).peekable();
        self.list.drain(..).enumerate().map(move |(at, effect)| {
            while steps.next_if(|(_, end)| *end <= at).is_some() {}
            (steps.peek().map_or_else(Stimulus::default, |(stimulus, _)| *stimulus), effect)
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Pending {
    /// Effects that are still to be carried out. Only `turn` does.
    pub effects: Effects,
    /// An empty list with room, so that carrying effects out allocates nothing.
    pub spare: Effects,
    /// Events that carrying out an effect led to; stepped once the effects before them are carried out.
    pub events: VecDeque<Event>,
    /// Steps so far.
    pub steps: u64,
    /// The step whose effects are being carried out.
    pub stimulus: Stimulus,
    /// A client's wish to cancel is being carried out: by force?
    pub cancelling: Option<bool>,
    /// Client streams that may go on, because the graph that held them is in.
    pub resume: Vec<(ConnId, ClientId)>,
    /// Client streams with items left for another turn.
    pub unfinished: VecDeque<(ConnId, ClientId)>,
    /// Connections whose request was answered while others waited behind it.
    pub answered: Vec<ConnId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: effects come out in the order of their steps, each with the step that asked for it; a step that asks for
    /// nothing leaves no trace.
    #[test]
    fn effects_keep_their_order_and_their_steps() {
        let mut effects = Effects::default();
        let stimulus = |number| Stimulus { kind: "tick", number };
        effects.list().extend([Effect::IdleTimeout, Effect::ReadGraph { ticket: 1 }]);
        effects.end_step(stimulus(1));
        effects.end_step(stimulus(2));
        effects.list().push(Effect::ReadGraph { ticket: 2 });
        effects.end_step(stimulus(3));
        let drained: Vec<(u64, Effect)> = effects.drain().map(|(step, effect)| (step.number, effect)).collect();
        let expected =
            vec![(1, Effect::IdleTimeout), (1, Effect::ReadGraph { ticket: 1 }), (3, Effect::ReadGraph { ticket: 2 })];
        assert_eq!(drained, expected);
        assert!(effects.is_empty());
    }
}
