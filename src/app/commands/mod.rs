//! The commands that ask something of this machine or of a running rask and print the answer.

pub(crate) mod api;
pub(crate) mod certs;
pub(crate) mod cluster;
pub(crate) mod configure;
pub(crate) mod deploy;
pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod explain;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod open;
pub(crate) mod pages;
pub(crate) mod peers;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod run_in_job;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod top;
