//! In which order the tasks of a graph should run, so that little has to be held meanwhile.
//!
//! Names `base` only, and knows nodes by number: keys and tasks get their numbers in `graph`.
//!
//! [`priorities`] is Dask's static order on numbered nodes, by the same rules as stock's `dask.order.order`. The results
//! of stock's depend on the iteration order of Python's sets and so differ from process to process; these depend on the
//! graph alone. Where stock decides by the text of keys, the numbers of the nodes decide here.
//!
//! Time grows with `n log n`: sets of inputs are bounded (`reachability`), candidates lie in heaps (`targets`), and
//! paths are known by their ends (`walk`).

mod edges;
mod priorities;
mod reachability;
mod simplify;
mod targets;
#[cfg(test)]
mod tests;
mod walk;

pub use edges::Edges;
pub use priorities::{Cycle, priorities};
