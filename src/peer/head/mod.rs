//! The head's side: who joined, who is there, and what each joined machine should run.

mod handle;
mod lifecycle;
mod owner;
mod rate_limit;

pub use handle::{CERTIFICATE_SECS, HeadError, HeadHandle, HeadSettings, LinkEnd, PeerEvent, PeerView, Placed};
