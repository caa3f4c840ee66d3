//! What makes rask a service of this machine, and what takes rask away from it.

pub(crate) mod service;
pub(crate) mod uninstall;
