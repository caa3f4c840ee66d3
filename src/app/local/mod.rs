//! What a rask process finds on its machine: state folder, settings, Python, service manager, log.

pub(crate) mod logging;
pub(crate) mod python_env;
pub(crate) mod sd_notify;
pub(crate) mod settings;
pub(crate) mod state_dir;
