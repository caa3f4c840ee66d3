//! Failures as peers take them: the reply to a request, and the text for people.
//!
//! Pure.

use crate::base::{Failure, Key, PyError, Text, Value};
use crate::pickle;

/// The reply to a request that failed. `status` is `uncaught-error` (the caller raises) or `error`.
///
/// Source: `distributed/core.py`, `error_message`.
pub fn failure_reply(status: &str, failure: &Failure) -> Value {
    let (exception, traceback, exception_text, traceback_text) = match failure {
        Failure::Remote { exception, traceback, exception_text, traceback_text } => {
            (exception.clone(), traceback.clone(), exception_text.clone(), traceback_text.clone())
        }
        Failure::Raised(error) => {
            (Value::Bin(pickle::error(error)), Value::Nil, Text::from(error_text(error)), Text::from(""))
        }
    };
    Value::map([
        ("status", status.into()),
        ("exception", exception),
        ("traceback", traceback),
        ("exception_text", exception_text.into()),
        ("traceback_text", traceback_text.into()),
    ])
}

/// What Python's `repr` of the exception would about be.
pub fn error_text(error: &PyError) -> String {
    match error {
        PyError::Builtin { class, message } => format!("{class}({})", quoted(message)),
        PyError::MissingKey(key) => match key.as_key() {
            Some(key) => format!("KeyError({})", key.part()),
            None => "KeyError()".to_owned(),
        },
        PyError::KilledWorker { key, worker, allowed_failures, .. } => {
            format!("KilledWorker({}, {}, {allowed_failures})", key.part(), quoted(worker))
        }
        PyError::NoWorker { key, timeout_secs } => format!("NoWorkerError({}, {timeout_secs})", key.part()),
        PyError::NoValidWorker { key, timeout_secs, .. } => {
            format!("NoValidWorkerError({}, {timeout_secs})", key.part())
        }
        PyError::P2pConsistency(message) => format!("P2PConsistencyError({})", quoted(message)),
    }
}

fn quoted(text: &str) -> String {
    Key::text(text).part().to_string()
}

/// A Python exception of `builtins`, as the outcome of a request.
pub fn raise(class: &str, message: impl Into<Text>) -> Failure {
    Failure::Raised(PyError::builtin(class, message))
}

/// What people read of a failure.
pub fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::Remote { exception_text, .. } => exception_text.to_string(),
        Failure::Raised(error) => error_text(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every failure has a text, because servers that don't unpickle have nothing else.
    #[test]
    fn failures_always_carry_a_text() {
        let reply = failure_reply("error", &raise("ValueError", "it's bad"));
        assert_eq!(reply.get("exception_text"), Some(&Value::str("ValueError(\"it's bad\")")));
        assert_eq!(reply.get("status"), Some(&Value::str("error")));
    }
}
