//! Which output to work towards next.
//!
//! Outputs that stem from the same inputs form a *class*. The *degree* of a class is the number of its inputs that have no
//! place yet: what it still costs to get at its outputs. The next target is in the class of the lowest degree; there,
//! one that needs something that has a place already comes before others.
//!
//! Source: `dask/order.py`, `order`: `leafs_per_degree`, `get_target`, `add_to_result`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::edges::Edges;
use super::reachability::Reachability;

/// Smallest first: degree, rank of an output, class. An entry is out of date when its class has another degree by now.
type Candidates = BinaryHeap<Reverse<(u32, u32, u32)>>;

/// No class: the node is no output, or needs nothing.
const NONE: u32 = u32::MAX;

/// The outputs that have no place yet, and what decides between them.
pub(super) struct Targets<'a> {
    rank: &'a [u32],
    by_rank: &'a [u32],
    /// All outputs; the last is the one to take when nothing else decides.
    line: Vec<u32>,
    classes: Vec<Class>,
    class_of: Vec<u32>,
    /// The classes that stem from each input.
    of_input: Edges,
    any: Candidates,
    near: Candidates,
    /// Nodes that need something that has a place, and have none themselves.
    reached: Vec<bool>,
    reached_count: usize,
}

struct Class {
    /// Ranks of its outputs, descending; those with a place are dropped from the end.
    ranks: Vec<u32>,
    /// Ranks of those that are reached.
    near: BinaryHeap<Reverse<u32>>,
    /// How many inputs of the sample have no place yet.
    left: u32,
    /// Inputs in the sample, and in all.
    sample: u32,
    inputs: u32,
}

impl Class {
    /// Inputs that have no place yet; 0 only if that is certain. An estimate is rounded up to a power of two, so that it
    /// does not change with each input.
    fn degree(&self) -> u32 {
        if self.sample == self.inputs {
            return self.left;
        }
        let share = u64::from(self.inputs) * u64::from(self.left) / u64::from(self.sample.max(1));
        (share as u32).next_power_of_two()
    }
}

impl<'a> Targets<'a> {
    /// `line` holds all outputs, the preferred one last; `reachability` tells which inputs each stems from.
    pub(super) fn new(
        needs: &Edges,
        line: Vec<u32>,
        reachability: &Reachability,
        (rank, by_rank): (&'a [u32], &'a [u32]),
    ) -> Self {
        let nodes = needs.len();
        let mut class_of_set = vec![NONE; reachability.set_count()];
        let mut class_of = vec![NONE; nodes];
        let mut classes: Vec<Class> = Vec::new();
        let mut inputs = Edges::default();
        let mut outputs: Vec<u32> = line.iter().copied().filter(|&leaf| !needs.of(leaf).is_empty()).collect();
        outputs.sort_unstable_by_key(|&leaf| Reverse(rank[leaf as usize]));
        for leaf in outputs {
            let set = reachability.set_of[leaf as usize];
            let class = &mut class_of_set[set as usize];
            if *class == NONE {
                *class = classes.len() as u32;
                let sample = reachability.sample_len(set);
                inputs.push(reachability.sample(set));
                classes.push(Class {
                    ranks: Vec::new(),
                    near: BinaryHeap::new(),
                    left: sample,
                    sample,
                    inputs: reachability.estimate(set),
                });
            }
            class_of[leaf as usize] = *class;
            classes[*class as usize].ranks.push(rank[leaf as usize]);
        }
        let mut any = Candidates::new();
        for (class, at) in classes.iter().zip(0..) {
            any.extend(class.ranks.last().map(|&first| Reverse((class.degree(), first, at))));
        }
        Self {
            rank,
            by_rank,
            line,
            classes,
            class_of,
            of_input: inputs.reversed(nodes),
            any,
            near: Candidates::new(),
            reached: vec![false; nodes],
            reached_count: 0,
        }
    }

    /// A node needs something that has got a place.
    pub(super) fn reach(&mut self, node: u32) {
        if std::mem::replace(&mut self.reached[node as usize], true) {
            return;
        }
        self.reached_count += 1;
        let at = self.class_of[node as usize];
        let Some(class) = self.classes.get_mut(at as usize) else { return };
        class.near.push(Reverse(self.rank[node as usize]));
        if class.degree() > 0 {
            self.near.push(Reverse((class.degree(), self.rank[node as usize], at)));
        }
    }

    /// A node has got its place; `is_input`: it needs nothing.
    pub(super) fn leave(&mut self, node: u32, is_input: bool) {
        if std::mem::replace(&mut self.reached[node as usize], false) {
            self.reached_count -= 1;
        }
        if !is_input {
            return;
        }
        for &at in self.of_input.of(node) {
            let class = &mut self.classes[at as usize];
            let before = class.degree();
            class.left = class.left.saturating_sub(1);
            let degree = class.degree();
            if degree == 0 || degree == before {
                continue;
            }
            self.any.extend(class.ranks.last().map(|&first| Reverse((degree, first, at))));
            self.near.extend(class.near.peek().map(|&Reverse(first)| Reverse((degree, first, at))));
        }
    }

    /// The next output to work towards; `None` once all have a place.
    pub(super) fn next(&mut self, is_placed: &[bool]) -> Option<u32> {
        let placed = |rank: u32| is_placed[self.by_rank[rank as usize] as usize];
        if self.reached_count > 0
            && let Some((degree, rank)) = first(&mut self.any, &mut self.classes, |class| {
                while class.ranks.pop_if(|rank| placed(*rank)).is_some() {}
                class.ranks.last().copied()
            })
        {
            let near = first(&mut self.near, &mut self.classes, |class| {
                while class.near.peek().is_some_and(|&Reverse(rank)| placed(rank)) {
                    class.near.pop();
                }
                class.near.peek().map(|&Reverse(rank)| rank)
            });
            let best = near.filter(|&(near, _)| near == degree).map_or(rank, |(_, rank)| rank);
            return Some(self.by_rank[best as usize]);
        }
        while let Some(leaf) = self.line.pop() {
            if !is_placed[leaf as usize] {
                return Some(leaf);
            }
        }
        None
    }
}

/// Degree and rank of the first candidate that is up to date. `first_of` tells which output of a class is first now.
fn first(
    candidates: &mut Candidates,
    classes: &mut [Class],
    first_of: impl Fn(&mut Class) -> Option<u32>,
) -> Option<(u32, u32)> {
    while let Some(&Reverse((degree, rank, at))) = candidates.peek() {
        let class = &mut classes[at as usize];
        if class.degree() == degree {
            match first_of(class) {
                Some(now) if now == rank => return Some((degree, rank)),
                Some(now) => candidates.push(Reverse((degree, now, at))),
                None => (),
            }
        }
        // The entry that is out of date may not be the first any more; it will be found again.
        if candidates.peek() == Some(&Reverse((degree, rank, at))) {
            candidates.pop();
        }
    }
    None
}
