//! The head's side: who joined, who is there, and what each joined machine should run.

mod command;
mod error;
mod handle;
mod lifecycle;
mod owner;
mod rate_limit;
mod view;

pub use command::HeadSettings;
pub use error::{BadToken, HeadError};
pub use handle::{CERTIFICATE_SECS, HeadHandle, LinkEnd};
pub use view::{PeerEvent, PeerView, Placed};
