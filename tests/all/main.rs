//! All tests that need nothing but the library: one program, because linking is what costs time.

mod cli;
mod script;
mod sim;
