use super::reachability::reachability;
use super::{Cycle, Edges, priorities};
use crate::base::Rng;

fn edges(needs: &[&[u32]]) -> Edges {
    let mut edges = Edges::default();
    needs.iter().for_each(|list| edges.push(list.iter().copied()));
    edges
}

fn places(needs: &Edges) -> Vec<u32> {
    priorities(needs, &vec![false; needs.len()]).expect("a graph without cycles")
}

/// The most results that are held at a time when the nodes run in this order.
fn pressure(needs: &Edges, places: &[u32]) -> usize {
    let nodes = places.len();
    let mut sequence = vec![0; nodes];
    for (node, &place) in (0..).zip(places) {
        sequence[place as usize] = node;
    }
    let mut users: Vec<usize> = (0..nodes as u32).map(|node| needs.reversed(nodes).of(node).len()).collect();
    let (mut held, mut most) = (0, 0);
    for node in sequence {
        held += usize::from(users[node as usize] > 0);
        most = most.max(held);
        for &need in needs.of(node) {
            users[need as usize] -= 1;
            held -= usize::from(users[need as usize] == 0);
        }
    }
    most
}

/// Inputs, and a tree over them in which each node needs `width` others.
fn tree(inputs: u32, width: usize) -> Edges {
    let mut edges = Edges::default();
    (0..inputs).for_each(|_| edges.push([]));
    let mut level: Vec<u32> = (0..inputs).collect();
    while level.len() > 1 {
        let chunks: Vec<Vec<u32>> = level.chunks(width).map(<[u32]>::to_vec).collect();
        level = (edges.len() as u32..).take(chunks.len()).collect();
        chunks.into_iter().for_each(|chunk| edges.push(chunk));
    }
    edges
}

fn random_graph(seed: u64, nodes: u32, needs_max: usize) -> (Edges, Vec<bool>) {
    let mut rng = Rng::new(seed);
    let mut edges = Edges::default();
    let mut is_data = Vec::new();
    // A few are outside: the numbers past the last node.
    for node in 0..nodes {
        let count = if node == 0 { 0 } else { rng.below(needs_max + 1) };
        let mut list: Vec<u32> = (0..count).map(|_| rng.below(node.max(1) as usize) as u32).collect();
        if rng.below(20) == 0 {
            list.push(nodes + rng.below(5) as u32);
        }
        list.sort_unstable();
        list.dedup();
        is_data.push(if list.is_empty() { rng.below(3) == 0 } else { rng.below(30) == 0 });
        edges.push(list);
    }
    (edges, is_data)
}

/// Goal: whatever the graph, each node has a place of its own, after all it needs. Method: random graphs with data,
/// keys outside.
#[test]
fn every_node_comes_after_what_it_needs() {
    for seed in 0..300 {
        let (needs, is_data) = random_graph(seed, 1 + 7 * (seed as u32 % 40), 1 + seed as usize % 5);
        let places = priorities(&needs, &is_data).expect("nodes only need those before them");
        let mut sorted = places.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..needs.len() as u32).collect::<Vec<_>>(), "seed {seed}");
        for node in 0..needs.len() as u32 {
            for &need in needs.of(node).iter().filter(|&&need| (need as usize) < needs.len()) {
                assert!(places[need as usize] < places[node as usize], "seed {seed}: {node} before {need}");
            }
        }
    }
}

/// Goal: a reduction holds as few results as a walk in depth does: a set of siblings per level.
#[test]
fn a_tree_is_reduced_as_it_is_made() {
    let needs = tree(4_096, 4);
    assert!(pressure(&needs, &places(&needs)) <= 4 * 6 + 1);
}

/// Goal: with nothing else to decide, neighbours stay neighbours.
/// Source: `dask/tests/test_order.py`, `test_break_ties_by_str`.
#[test]
fn equals_are_taken_in_the_order_of_their_numbers() {
    let needs = edges(&[&[], &[], &[], &[], &[0, 1, 2, 3]]);
    assert_eq!(places(&needs), [3, 2, 1, 0, 4]);
}

/// Goal: one half is finished before the other is begun.
/// Source: `dask/tests/test_order.py`, `test_terminal_node_backtrack`.
#[test]
fn halves_that_only_meet_at_the_end_are_done_one_after_the_other() {
    let needs: [&[u32]; 15] =
        [&[], &[], &[], &[0, 1], &[1, 2], &[3], &[4], &[], &[], &[], &[7, 8], &[8, 9], &[10], &[11], &[5, 6, 12, 13]];
    let places = places(&edges(&needs));
    let (left, right) = (&places[..7], &places[7..14]);
    assert!(left.iter().max() < right.iter().min() || right.iter().max() < left.iter().min(), "{places:?}");
}

/// Goal: data that several tasks need comes just before the first of them, and those are no neighbours because of it.
#[test]
fn shared_data_does_not_get_in_the_way() {
    // 3: data of three chains of two.
    let needs = edges(&[&[3], &[3], &[3], &[], &[0], &[1], &[2]]);
    let places = priorities(&needs, &[false, false, false, true, false, false, false]).expect("no cycle");
    assert_eq!(places[3], 0);
    for task in 0..3 {
        assert_eq!(places[task + 4], places[task] + 1, "{places:?}");
    }
}

/// Goal: the lists come from sets, whose order differs from process to process; that of the nodes does not.
#[test]
fn the_order_of_needs_does_not_matter() {
    for seed in 0..50 {
        let (needs, is_data) = random_graph(seed, 200, 4);
        let mut turned = Edges::default();
        (0..200).for_each(|node| turned.push(needs.of(node).iter().rev().copied()));
        assert_eq!(priorities(&needs, &is_data), priorities(&turned, &is_data), "seed {seed}");
    }
}

/// Goal: keys that exist elsewhere get no place.
/// Source: `dask/tests/test_order.py`, `test_handle_out_of_graph_dependencies`.
#[test]
fn what_is_outside_has_no_place() {
    assert_eq!(places(&edges(&[&[9], &[0, 7]])), [0, 1]);
    assert!(places(&Edges::default()).is_empty());
}

/// Goal: a cycle is named, without what only leads to it.
#[test]
fn a_cycle_is_found() {
    assert_eq!(priorities(&edges(&[&[0]]), &[false]), Err(Cycle(vec![0, 0])));
    let needs = edges(&[&[], &[2, 0], &[3], &[1], &[1]]);
    let Err(Cycle(nodes)) = priorities(&needs, &[false; 5]) else { panic!("1, 2 and 3 need each other") };
    assert_eq!((nodes.len(), nodes.first()), (4, nodes.last()));
    assert!(nodes.windows(2).all(|pair| needs.of(pair[0]).contains(&pair[1])), "{nodes:?}");
}

/// Goal: small sets of inputs are exact, large ones are about right, and what stems from the same shares one.
#[test]
fn inputs_are_counted() {
    for inputs in [2, 50, 1_000, 30_000] {
        let needs = tree(inputs, 7);
        let nodes = needs.len() as u32;
        let found = reachability(&needs, &needs.reversed(nodes as usize), 0..nodes);
        let counted = f64::from(found.estimate(found.set_of[nodes as usize - 1]));
        let error = (counted - f64::from(inputs)).abs() / f64::from(inputs);
        assert!(error <= if inputs <= 50 { 0.0 } else { 0.4 }, "{counted} for {inputs}");
    }
    // Two outputs of the same two inputs, of which one needs them through other nodes.
    let needs = edges(&[&[], &[], &[0], &[1], &[2, 3], &[0, 1]]);
    let found = reachability(&needs, &needs.reversed(6), 0..6);
    assert_eq!(found.set_of[4], found.set_of[5]);
    assert_eq!(found.sample(found.set_of[4]).collect::<std::collections::BTreeSet<_>>(), [0, 1].into());
}

/// Goal: an output that needs more inputs than a sample holds still comes after those that need fewer. Method: a
/// running sum, whose output `n` needs all inputs up to `n`.
#[test]
fn running_sums_are_finished_one_by_one() {
    let inputs = 2_000;
    let mut needs = Edges::default();
    (0..inputs).for_each(|_| needs.push([]));
    needs.push([0]);
    (1..inputs).for_each(|at| needs.push([at, inputs + at - 1]));
    let places = places(&needs);
    assert!(pressure(&needs, &places) <= 3);
}
