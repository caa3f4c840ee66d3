//! Child processes on this machine: start, watch, log, restart, stop. Knows processes, not what they are for.
//!
//! No child outlives us by accident (one that should is a [`DetachedProcess`]): children are started through `rask exec-child`, which asks the kernel for a
//! signal at our death before it becomes the program (see [`exec_child`]). Start children from the main thread: the kernel
//! binds that signal to the thread that forked.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod child;
pub mod exec_child;
mod output;
pub mod policy;
mod process;
#[cfg(test)]
mod tests;

pub use child::{Child, ExitCause, OWN, ParentDeath, Report, Spec, Story, start, tied};
pub use output::{LineSink, Output, Printed, last_lines, open_log};
pub use process::{DetachedProcess, ProcessId, boot_id};
