//! In which order the tasks of a graph should run, so that little has to be held meanwhile.
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
mod tasks;
#[cfg(test)]
mod tests;
mod walk;

pub use edges::Edges;
pub use priorities::{Cycle, priorities};
pub(super) use tasks::{by_client, by_graph, depth_first};
