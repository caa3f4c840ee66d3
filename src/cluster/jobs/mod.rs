//! What takes several turns: tasks that wait for workers or for Python, and reach the state through its handle.

pub mod benchmark;
pub mod broadcast;
pub mod dump;
pub mod gather;
pub mod memory_sampler;
pub mod prefetch;
pub mod profile;
pub mod progress;
pub mod python;
pub mod rebalance;
pub mod replicate;
pub mod report;
pub mod scatter;
