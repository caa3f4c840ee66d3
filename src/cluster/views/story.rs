//! Transitions of tasks, as `get_story` and dumps tell them.

use crate::base::{Key, Value};
use crate::cluster::state::State;
use crate::sched::StoryLine;

/// All transitions that are still remembered.
pub fn story_of_all(state: &State) -> Value {
    story_where(state, |_, _| true)
}

/// The last `count` transitions.
pub fn latest(state: &State, count: usize) -> Value {
    let started = state.clock.started_wall();
    Value::Array(state.sched.story_latest(count).map(|line| told(&line, started)).collect())
}

/// The transitions whose key and stimulus are `wanted`.
pub fn story_where(state: &State, wanted: impl Fn(&Key, &str) -> bool) -> Value {
    let started = state.clock.started_wall();
    let lines = state.sched.story(&[]).into_iter().filter(|line| wanted(&line.key, &stimulus(line)));
    Value::Array(lines.map(|line| told(&line, started)).collect())
}

fn stimulus(line: &StoryLine) -> String {
    let (kind, number) = line.stimulus;
    format!("{kind}-{number}")
}

/// `[key, start, finish, recommendations, stimulus, time]`.
fn told(line: &StoryLine, started: f64) -> Value {
    Value::Array(vec![
        line.key.to_value(),
        line.start.into(),
        line.finish.into(),
        Value::Map(line.recommended.iter().map(|(key, state)| (key.to_value(), (*state).into())).collect()),
        stimulus(line).into(),
        (started + line.at_us as f64 / 1e6).into(),
    ])
}
