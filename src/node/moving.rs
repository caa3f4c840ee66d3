//! What is on its way to the disk.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::base::{Key, Now};

/// A value that is being written to a file.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) key: Key,
    pub(super) serial: u64,
    pub(super) path: PathBuf,
}

/// What is moving to the disk.
#[derive(Debug, Default)]
pub(super) struct Spilling {
    /// Orders, by number.
    pub(super) orders: HashMap<u64, Vec<Moving>>,
    /// The memory was above its threshold, and is not below the target yet.
    pub(super) is_on: bool,
    /// The disk was full: not before then.
    pub(super) again: Now,
    /// `max-spill` was reached, and said so.
    pub(super) told_max: bool,
    /// What values took of the memory at the last look. Unit: bytes.
    pub(super) seen_bytes: u64,
    pub(super) files: u64,
}
