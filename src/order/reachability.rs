//! Which inputs of a graph each node stems from.
//!
//! Exact sets grow with the square of the graph where each output stems from all inputs before it (a running sum). So a
//! set holds a sample of at most [`SAMPLE_MAX`] inputs: those with the smallest *tickets*, which are the numbers of the
//! inputs, scattered. Two samples of one set are the same, the sample of a union follows from the samples of its parts,
//! and the largest ticket of a sample tells how large the whole set is. Up to [`SAMPLE_MAX`] inputs all is exact.
//!
//! Source: `dask/order.py`, `_connecting_to_roots`; samples by smallest ticket: E. Cohen, "Size-Estimation Framework
//! with Applications to Transitive Closure and Reachability", 1997.

use std::hash::BuildHasher;

use super::edges::Edges;
use crate::base::Seeded;
use crate::base::SeededMap;

/// Most inputs in a sample.
///
/// With more, graphs in which each node has a set of its own take longer: about 1 us per node for 64 more.
const SAMPLE_MAX: usize = 64;

/// Odd, so that multiplying by it maps 32-bit numbers one to one; and its inverse.
const SCATTER: u32 = 0x9E37_79B1;
const GATHER: u32 = 0x0E8B_2F51;
const _: () = assert!(SCATTER.wrapping_mul(GATHER) == 1);

/// The inputs that each node stems from.
pub(super) struct Reachability {
    /// Place in `sets` per node. That of a node that was set aside means nothing.
    pub(super) set_of: Vec<u32>,
    /// The largest number of users that any of these inputs has, per node.
    pub(super) widest: Vec<u32>,
    /// Ascending tickets; each set is there once.
    sets: Edges,
}

impl Reachability {
    /// Number of different sets.
    pub(super) fn set_count(&self) -> usize {
        self.sets.len()
    }

    /// The inputs in the sample of a set.
    pub(super) fn sample(&self, set: u32) -> impl Iterator<Item = u32> {
        self.sets.of(set).iter().map(|ticket| ticket.wrapping_mul(GATHER))
    }

    /// How many inputs the sample of a set holds.
    pub(super) fn sample_len(&self, set: u32) -> u32 {
        self.sets.of(set).len() as u32
    }

    /// How many inputs are in the whole set; an estimate where the sample is full.
    pub(super) fn estimate(&self, set: u32) -> u32 {
        let sample = self.sets.of(set);
        let (Some(&largest), true) = (sample.last(), sample.len() >= SAMPLE_MAX) else {
            return sample.len() as u32;
        };
        let tickets = f64::from(u32::MAX) + 1.0;
        let inputs = (sample.len() - 1) as f64 * tickets / f64::from(largest);
        inputs.clamp(sample.len() as f64, f64::from(self.set_of.len() as u32)) as u32
    }
}

/// The inputs that each node stems from; with `needs` and `users` exchanged, the outputs that it leads to.
///
/// `forward` holds all nodes that count, each after what it needs.
pub(super) fn reachability(needs: &Edges, users: &Edges, forward: impl Iterator<Item = u32>) -> Reachability {
    let mut known = Sets::default();
    let mut found = Reachability { set_of: vec![0; needs.len()], widest: vec![0; needs.len()], sets: Edges::default() };
    for node in forward {
        let own = needs.of(node);
        if own.is_empty() {
            found.set_of[node as usize] = known.add([node.wrapping_mul(SCATTER)]);
            found.widest[node as usize] = users.of(node).len() as u32;
            continue;
        }
        let widest = own.iter().map(|&need| found.widest[need as usize]).max();
        found.widest[node as usize] = widest.unwrap_or(0);
        found.set_of[node as usize] = known.union(own.iter().map(|&need| found.set_of[need as usize]));
    }
    found.sets = known.sets;
    found
}

/// Samples of sets, each only once.
#[derive(Default)]
struct Sets {
    sets: Edges,
    /// By the hash of their tickets. Two sets of one hash would be kept apart: only the first is found here.
    by_hash: SeededMap<u64, u32>,
    /// The last union each set went into, so that none goes into one twice.
    used_in: Vec<u32>,
    unions: u32,
    parts: Vec<u32>,
    tickets: Vec<u32>,
}

impl Sets {
    fn add(&mut self, tickets: impl IntoIterator<Item = u32>) -> u32 {
        self.sets.push(tickets);
        self.used_in.push(0);
        self.sets.len() as u32 - 1
    }

    fn union(&mut self, sets: impl Iterator<Item = u32>) -> u32 {
        self.unions += 1;
        self.parts.clear();
        for set in sets {
            if std::mem::replace(&mut self.used_in[set as usize], self.unions) != self.unions {
                self.parts.push(set);
            }
        }
        let largest = self.parts.iter().copied().max_by_key(|&set| self.sets.of(set).len()).unwrap_or(0);
        if self.parts.len() == 1 {
            return largest;
        }
        self.tickets.clear();
        for &part in &self.parts {
            self.tickets.extend_from_slice(self.sets.of(part));
        }
        self.tickets.sort_unstable();
        self.tickets.dedup();
        self.tickets.truncate(SAMPLE_MAX);
        // Often one part holds all the others.
        if self.tickets == self.sets.of(largest) {
            return largest;
        }
        let hash = Seeded.hash_one(&self.tickets);
        if let Some(&same) = self.by_hash.get(&hash)
            && self.tickets == self.sets.of(same)
        {
            return same;
        }
        let tickets = std::mem::take(&mut self.tickets);
        let union = self.add(tickets.iter().copied());
        self.tickets = tickets;
        self.by_hash.entry(hash).or_insert(union);
        union
    }
}
