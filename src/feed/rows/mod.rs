//! From a snapshot of the scheduler to the rows that pages show. A function is called as the topic whose rows it makes;
//! field names are the contract with the page.

mod coordination;
mod events;
mod format;
mod tasks;
mod timeline;
mod workers;

pub(super) use coordination::{clients, coordination, shuffle};
pub(super) use events::{events, logs, steal_total, stealing};
pub(super) use format::{brief, round};
pub(super) use tasks::{
    STATE_FIELDS, computations, compute_by_key, exceptions, fine, graph_of_groups, graph_of_tasks, groups,
    memory_by_key, prefixes, time_by_action,
};
pub(super) use timeline::{lanes, names};
pub(super) use workers::{HeartbeatMetrics, bandwidth, share, worker_states, workers};
