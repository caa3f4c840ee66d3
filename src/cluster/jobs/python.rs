//! The Python side, for jobs that need it, and what user code asks of the scheduler from there.

use crate::base::{Failure, Value};
use crate::cluster::codec::args::topic_names;
use crate::cluster::codec::failures::raise;
use crate::cluster::options::NO_PYTHON;
use crate::cluster::state::{Handle, State};
use crate::pyhost::Pyhost;

/// The Python side, or the error that says that there is none.
pub fn python_side(state: &State) -> Result<Pyhost, Failure> {
    state.python.pyhost.clone().ok_or_else(|| raise("RuntimeError", NO_PYTHON))
}

/// What user code asked the real scheduler to do meanwhile.
pub async fn carry_out(handle: &Handle, answer: &Value) {
    let actions = answer.get("actions").and_then(Value::items).unwrap_or_default().to_vec();
    if actions.is_empty() {
        return;
    }
    handle
        .tell(move |state| {
            for action in &actions {
                let Some([name, topic, message]) = action.items() else { continue };
                if name.as_str() == Some("log_event") {
                    state.log_event(&topic_names(topic), message);
                }
            }
        })
        .await;
}
