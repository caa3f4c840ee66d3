//! What is taken out of a graph before it is ordered, because it is no work and would blur the shape of what is.
//!
//! Stock also sets aside outputs that are no tasks and only collect others. No graph has these any more: since Dask's
//! lists and tuples of results are tasks, what is no task needs nothing.
//!
//! Source: `dask/order.py`, `order`, the part before `ndependencies`.

use super::edges::Edges;

/// A graph without the plain values that several tasks need.
pub(super) struct Simple {
    /// What each node needs, data that was set aside included.
    pub(super) all_needs: Edges,
    /// What each node needs, without what was set aside.
    pub(super) needs: Edges,
    /// Who needs each node, without what was set aside.
    pub(super) users: Edges,
    /// Whether a node was set aside.
    pub(super) is_aside: Vec<bool>,
}

/// Sets plain values with several users aside.
pub(super) fn simplify(all_needs: Edges, is_data: impl Fn(u32) -> bool) -> Simple {
    let nodes = all_needs.len();
    let users = all_needs.reversed(nodes);
    let is_shared = |node| all_needs.of(node).is_empty() && users.of(node).len() > 1;
    let is_aside: Vec<bool> = (0..nodes as u32).map(|node| is_data(node) && is_shared(node)).collect();
    if !is_aside.contains(&true) {
        return Simple { needs: all_needs.clone(), all_needs, users, is_aside };
    }
    let mut needs = Edges::default();
    for node in 0..nodes as u32 {
        needs.push(all_needs.of(node).iter().copied().filter(|&need| !is_aside[need as usize]));
    }
    let users = needs.reversed(nodes);
    Simple { all_needs, needs, users, is_aside }
}
