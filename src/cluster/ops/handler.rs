//! What a handler of a request is, and the rows that name handlers.

use crate::base::Value;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled, Outcome};

/// Parses a request, asks the core, answers. Errors: the exception for the caller.
pub type Handler = fn(&mut State, Call, &Value) -> Handled;

/// The operations of a family, each with its handler.
pub type Operations = &'static [(&'static str, Handler)];

/// The answer to a request that needs no waiting.
pub fn now(outcome: Outcome) -> Handled {
    outcome.map(Done::Now)
}
