//! Everything that the appliance serves over HTTP, plain and encrypted.

mod doctor;
mod front;
mod peers;
mod proxy;
mod shell;

pub use doctor::Examine;
pub use front::Front;
pub use peers::document as peers_document;
