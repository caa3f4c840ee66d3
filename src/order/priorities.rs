//! The static order itself: what is known of each node beforehand, then the walk.

use super::edges::Edges;
use super::reachability::{Reachability, reachability};
use super::simplify::{Simple, simplify};
use super::targets::Targets;
use super::walk::Walk;

/// Nodes that need each other in a circle, each needed by the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle(pub Vec<u32>);

/// A place for each node, from 0; each node comes after all it needs.
///
/// `needs` may name nodes past its own length: those exist elsewhere and get no place. `is_data` says of a node that it
/// is a plain value, no work.
///
/// Source: `dask/order.py`, `order`.
pub fn priorities(needs: &Edges, is_data: &[bool]) -> Result<Vec<u32>, Cycle> {
    let nodes = needs.len();
    let graph = simplify(normalized(needs), |node| is_data.get(node as usize) != Some(&false));
    let forward = forward(&graph)?;
    let roots_of = reachability(&graph.needs, &graph.users, forward.iter().copied());
    let by_rank = by_rank(&graph, &forward, &roots_of);
    let mut rank = vec![0; graph.needs.len()];
    for (&node, at) in by_rank.iter().zip(0..) {
        rank[node as usize] = at;
    }
    let mut line: Vec<u32> = by_rank.iter().copied().filter(|&node| graph.users.of(node).is_empty()).collect();
    if !is_longest_first(&graph, &forward) {
        line.reverse();
    }
    let targets = Targets::new(&graph.needs, line, &roots_of, (&rank, &by_rank));
    drop(roots_of);
    let sequence = Walk::new(&graph, &rank, targets).run();
    let mut places = vec![0; nodes];
    for (node, at) in sequence.into_iter().filter(|&node| (node as usize) < nodes).zip(0..) {
        places[node as usize] = at;
    }
    Ok(places)
}

/// Nodes outside become nodes without needs, and lists that come from Python's sets get an order of their own.
fn normalized(needs: &Edges) -> Edges {
    let mut all = Edges::default();
    let mut list = Vec::new();
    for node in 0..needs.len() as u32 {
        list.clear();
        list.extend_from_slice(needs.of(node));
        list.sort_unstable();
        list.dedup();
        all.push(list.iter().copied());
    }
    for _ in needs.len()..needs.max_end().map_or(0, |largest| largest as usize + 1) {
        all.push([]);
    }
    all
}

/// All nodes that were not set aside, each after what it needs.
fn forward(graph: &Simple) -> Result<Vec<u32>, Cycle> {
    let nodes = graph.needs.len() as u32;
    let mut missing: Vec<usize> = (0..nodes).map(|node| graph.needs.of(node).len()).collect();
    let is_live = |node: &u32| !graph.is_aside[*node as usize];
    let mut stack: Vec<u32> = (0..nodes).filter(|node| is_live(node) && missing[*node as usize] == 0).collect();
    let mut forward = Vec::with_capacity(missing.len());
    while let Some(node) = stack.pop() {
        forward.push(node);
        for &user in graph.users.of(node) {
            missing[user as usize] -= 1;
            if missing[user as usize] == 0 {
                stack.push(user);
            }
        }
    }
    match (0..nodes).filter(is_live).find(|&node| missing[node as usize] > 0) {
        Some(stuck) => Err(cycle(graph, &missing, stuck)),
        None => Ok(forward),
    }
}

/// A cycle below a node that never became ready: what keeps it waiting waits itself.
fn cycle(graph: &Simple, missing: &[usize], stuck: u32) -> Cycle {
    let mut seen_at = vec![usize::MAX; missing.len()];
    let mut path = Vec::new();
    let mut node = stuck;
    while seen_at[node as usize] == usize::MAX {
        seen_at[node as usize] = path.len();
        path.push(node);
        let waits = |need: &&u32| missing[**need as usize] > 0;
        node = graph.needs.of(node).iter().find(waits).copied().unwrap_or(node);
    }
    let mut nodes = path.split_off(seen_at[node as usize]);
    nodes.push(node);
    Cycle(nodes)
}

/// The nodes in the order of how much stands behind them: paths to inputs, needs, inputs, and few users of those.
fn by_rank(graph: &Simple, forward: &[u32], roots_of: &Reachability) -> Vec<u32> {
    // Paths may outnumber all integers; as soon as they do, their exact number does not matter any more.
    let mut paths = vec![0f64; graph.needs.len()];
    let mut keyed = Vec::with_capacity(forward.len());
    for &node in forward {
        let at = node as usize;
        let needs = graph.needs.of(node);
        paths[at] = 1.0 + needs.iter().map(|&need| paths[need as usize]).sum::<f64>();
        let roots = if needs.is_empty() { 0 } else { roots_of.sample_len(roots_of.set_of[at]) };
        // Numbers that are positive compare as their bits do.
        let weight = (paths[at].to_bits(), needs.len() as u32, roots, u32::MAX - roots_of.widest[at]);
        keyed.push((weight, node));
    }
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, node)| node).collect()
}

/// Whether to begin with the output that most stands behind: in all graphs but those that have about as many outputs as
/// inputs and are not regular.
fn is_longest_first(graph: &Simple, forward: &[u32]) -> bool {
    let roots: Vec<u32> = forward.iter().copied().filter(|&node| graph.needs.of(node).is_empty()).collect();
    let leaves = forward.iter().filter(|&&node| graph.users.of(node).is_empty()).count();
    if roots.len().abs_diff(leaves) as f64 / roots.len() as f64 >= 0.8 {
        return true;
    }
    let leaves_of = reachability(&graph.users, &graph.needs, forward.iter().rev().copied());
    let count = |root: u32| {
        let is_leaf = graph.users.of(root).is_empty();
        if is_leaf { 0 } else { leaves_of.sample_len(leaves_of.set_of[root as usize]) }
    };
    roots.windows(2).all(|pair| count(pair[0]) == count(pair[1]))
}
