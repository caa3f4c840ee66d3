//! Between what peers say and what the core takes: operations become events, effects become bytes.
//!
//! Pure: no sockets, no clock.

pub mod args;
pub mod failures;
pub mod json;
pub mod messages;
pub mod routing;
pub mod signatures;
pub mod versions;
