//! The commands that ask something of this machine or of a running rask and print the answer.

pub(crate) mod background;
pub(crate) mod certs;
pub(crate) mod deploy;
pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod pages;
pub(crate) mod peers;
pub(crate) mod remote;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod top;
