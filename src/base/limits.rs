//! Every bound that keeps a peer from taking more than its share.

use serde::{Deserialize, Serialize};

/// Bounds on what others may send or make us hold. Set under `[limits]` in `rask.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest single frame. Unit: bytes. Dask itself sends graphs unsplit, so this is large.
    pub frame_bytes: u64,
    /// Longest message, all frames together. Unit: bytes.
    pub message_bytes: u64,
    /// Longest frame 0 (the msgpack part). Unit: bytes. A map of 10 M keys is about this big.
    pub head_bytes: u64,
    /// Most frames in one message. A gather of a million values needs two each.
    pub frames: u64,
    /// Deepest nesting of arrays and maps. Python's own msgpack stops at 511.
    pub depth: u32,
    /// Longest a peer may take for its handshake. Unit: milliseconds. Dask's connect timeout is 30 s.
    pub handshake_ms: u64,
    /// Most connections at once; a Dask client or worker uses a handful each.
    pub connections: u32,
    /// Bytes waiting for a peer that does not read, before it is disconnected. Unit: bytes.
    pub outbox_bytes: u64,
    /// Messages read ahead of the scheduler from one connection.
    pub inbox_messages: u32,
    /// Most tasks that enter the core in one step.
    pub graph_part_tasks: u32,
    /// Longest a pyhost may work on one request. Unit: milliseconds.
    pub pyhost_ms: u64,
    /// Longest HTTP request body. Unit: bytes.
    pub request_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 << 30,
            message_bytes: 64 << 30,
            head_bytes: 1 << 30,
            frames: 8_000_000,
            depth: 512,
            handshake_ms: 30_000,
            connections: 20_000,
            outbox_bytes: 4 << 30,
            inbox_messages: 4096,
            graph_part_tasks: 4_000,
            pyhost_ms: 600_000,
            request_bytes: 16 << 20,
        }
    }
}

/// A column of a table for people is at most this wide; a longer cell sticks out. Padding past 65,535 is a panic in
/// Rust's formatting, and widths come from texts that peers chose.
///
/// Unit: characters.
pub const COLUMN_CHARS_MAX: usize = 200;
