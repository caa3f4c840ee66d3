//! Who asks: the same user on this machine, a token, a password, a JupyterHub's word, or a session begun with one.
//!
//! Source: `dask_gateway/auth.py`: the client sends nothing at first, and credentials after a 401.

mod credential;
mod hub;
mod identify;
mod sessions;
mod setup;
#[cfg(test)]
mod tests;
mod token;
mod user;

pub use identify::Auth;
pub use sessions::SessionsHandle;
pub use setup::AuthSetupError;
pub use token::{Minted, TokenRole, random_secret};
pub use user::{Caller, User};
