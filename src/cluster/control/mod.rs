//! What others may ask of a running scheduler, and the answers.

pub mod answer;
pub mod ask;
pub mod inbox;
pub mod steer;
