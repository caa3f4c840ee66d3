//! A request that wants an answer, and how it ends.

use super::handle::ConnId;
use crate::base::{Failure, Key, Value};
use crate::cluster::codec::failures::raise;
use crate::sched::Answer;

/// How a request ends: its value, or the exception for the caller.
pub type Outcome = Result<Value, Failure>;

/// A request that wants an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The connection that the request came on.
    pub conn: ConnId,
    /// `reply`: whether to answer at all.
    pub reply: bool,
    /// `close`: whether to close the connection afterwards.
    pub close: bool,
}

/// What a handler made of a request.
pub enum Done {
    /// The request is answered with this.
    Now(Value),
    /// The answer comes later, through [`super::State::finish`].
    Later,
}

/// What came of a request, or the exception for its caller.
pub type Handled = Result<Done, Failure>;

/// The core's answer as most requests give it to their caller.
pub fn plain(answer: Answer) -> Outcome {
    match answer {
        Answer::Value(value) => Ok(value),
        Answer::Keys(keys) => Ok(Value::Array(keys.iter().map(Key::to_value).collect())),
        Answer::Refused(reason) => Err(raise("ValueError", reason)),
        Answer::Participants(addresses) => Ok(Value::Array(addresses.into_iter().map(Value::Str).collect())),
        Answer::Error(error) => Err(Failure::Raised(error)),
        Answer::Worker(_) | Answer::Shuffle(_) => Ok(Value::Nil),
    }
}
