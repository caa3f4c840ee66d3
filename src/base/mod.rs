//! Value types that any module may name: keys, opaque payloads, time, ids, limits, blame.
//!
//! Arithmetic and data only. Nothing here reads a clock, rolls dice or opens anything.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod blame;
mod failure;
mod graph;
mod id;
mod key;
mod keysplit;
mod limits;
mod printable;
mod seeded;
mod span;
mod units;
mod url;
mod value;

pub use blame::Blame;
pub use failure::{Failure, PyError};
pub use graph::{Annotations, BulkGraph, GraphPart, GraphTask, ShuffleLayout, ShuffleSpec};
pub use id::{CallId, ClientId, Now, RunId, TaskId, TicketId, WorkerId};
pub use key::{Key, KeyError, KeyPart};
pub use keysplit::{key_group, key_prefix};
pub use limits::{COLUMN_CHARS_MAX, Limits};
pub use printable::{bounded, printable, printable_lines};
pub use seeded::{Rng, Seeded, SeededMap, SeededSet};
pub use span::{Action, StartStop};
pub use units::{parse_secs, parse_size, show_size};
pub use url::url_part;
pub use value::{Opaque, PickledPart, Text, Value};

/// Why a function that another room gave failed: only its text, and where it came from, matter.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
