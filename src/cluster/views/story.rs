//! Transitions of tasks, as `get_story` and dumps tell them.

use crate::base::{Key, Value};
use crate::cluster::state::State;

/// All transitions that are still remembered.
pub fn story_of_all(state: &State) -> Value {
    story_where(state, |_, _| true)
}

/// `[key, start, finish, recommendations, stimulus, time]` of each transition.
pub fn story_where(state: &State, wanted: impl Fn(&Key, &str) -> bool) -> Value {
    let started = state.clock.started_wall();
    let line = |line: crate::sched::StoryLine| {
        let (kind, number) = line.stimulus;
        let stimulus = format!("{kind}-{number}");
        wanted(&line.key, &stimulus).then(|| {
            Value::Array(vec![
                line.key.to_value(),
                line.start.into(),
                line.finish.into(),
                Value::Map(line.recommended.iter().map(|(key, state)| (key.to_value(), (*state).into())).collect()),
                stimulus.into(),
                (started + line.at_us as f64 / 1e6).into(),
            ])
        })
    };
    Value::Array(state.sched.story(&[]).into_iter().filter_map(line).collect())
}
