//! How reading a graph ends when it does not end in tasks.

use std::fmt;

use crate::base::Blame;
use crate::base::Failure;
use crate::base::Key;
use crate::base::PyError;
use crate::base::Text;
use crate::pickle::PickleError;

use super::vouch::GraphQuestion;

/// Why a graph is no graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphError {
    /// The whole-graph pickle from pyhost does not read.
    Pickle(PickleError),
    /// A reply of pyhost that contradicts itself; says how.
    Reply(&'static str),
    /// An annotation whose value can't be used.
    Annotation {
        name: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// Tasks that need each other in a circle; the first is also the last.
    Cycle(Vec<Key>),
}

impl GraphError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Pickle(_) | Self::Reply(_) => Blame::Ours,
            Self::Annotation { .. } | Self::Cycle(_) => Blame::Caller,
        }
    }

    /// As the user sees it, on every key of the graph.
    pub fn failure(&self) -> Failure {
        let class = match self {
            Self::Pickle(_) | Self::Reply(_) | Self::Cycle(_) => "RuntimeError",
            Self::Annotation { .. } => "TypeError",
        };
        Failure::Raised(PyError::builtin(class, self.to_string()))
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pickle(error) => write!(f, "the task graph could not be split: {error}"),
            Self::Reply(what) => write!(f, "the task graph could not be split: {what}"),
            Self::Cycle(keys) => {
                // The words of `dask.order.order`.
                f.write_str("Cycle detected between the following keys:")?;
                keys.iter().try_for_each(|key| write!(f, "\n  -> {key}"))
            }
            Self::Annotation { name, wanted } => write!(f, "annotation {name:?} must be {wanted}"),
        }
    }
}

impl From<PickleError> for GraphError {
    fn from(error: PickleError) -> Self {
        Self::Pickle(error)
    }
}

/// Why the fast path stops.
pub(super) enum Stop {
    NeedsPython(Text),
    /// Nothing is known yet of what this names.
    Ask(GraphQuestion),
    /// Python has to outline it.
    Outline,
    Refused(GraphError),
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self::NeedsPython(why.into())
    }
}

/// Python gets its turn with whatever we can't read, and gives the better message if it can't either.
impl From<PickleError> for Stop {
    fn from(error: PickleError) -> Self {
        Self::NeedsPython(error.to_string().into())
    }
}

impl From<GraphError> for Stop {
    fn from(error: GraphError) -> Self {
        Self::Refused(error)
    }
}
