//! What a rask process finds on its machine: state folder, settings, Python, service manager, log.

pub(crate) mod account;
pub(crate) mod allocation;
pub(crate) mod authority;
pub(crate) mod cli_token;
pub(crate) mod desktop;
pub(crate) mod left_clusters;
pub(crate) mod logging;
pub(crate) mod pid_file;
pub(crate) mod python_env;
pub(crate) mod sd_notify;
pub(crate) mod settings;
pub(crate) mod state_dir;
