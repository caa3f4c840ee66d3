//! One turn of the loop: messages in, effects out.

pub mod effects;
pub mod streams;
