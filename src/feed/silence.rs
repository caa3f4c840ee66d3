//! Waiting for an answer of a scheduler, and why there is none.

use std::fmt;

use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The scheduler is gone or stopping.
    Gone,
    /// It did not answer in time.
    Late,
    /// The request failed; the exception's text.
    Failed(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the scheduler is stopping"),
            Self::Late => f.write_str("the scheduler did not answer in time"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// The answer, if it comes in time.
pub(super) async fn within<T>(patience: Duration, answer: oneshot::Receiver<T>) -> Result<T, Silence> {
    match timeout(patience, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Silence::Gone),
        Err(_) => Err(Silence::Late),
    }
}
