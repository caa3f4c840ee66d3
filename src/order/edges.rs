//! Adjacency lists of a graph whose nodes are numbered, in two flat arrays.

/// For each node a list of other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// The list of node `n` is `ends[starts[n]..starts[n + 1]]`; empty as long as there is no node.
    starts: Vec<usize>,
    ends: Vec<u32>,
}

impl Edges {
    /// Appends the list of the next node.
    pub fn push(&mut self, list: impl IntoIterator<Item = u32>) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.ends.extend(list);
        self.starts.push(self.ends.len());
    }

    /// Number of nodes that have a list, be it an empty one.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether no node has a list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The list of a node.
    pub(super) fn of(&self, node: u32) -> &[u32] {
        &self.ends[self.starts[node as usize]..self.starts[node as usize + 1]]
    }

    /// The largest node in any list.
    pub(super) fn max_end(&self) -> Option<u32> {
        self.ends.iter().copied().max()
    }

    /// For each of `nodes` nodes those in whose list it is, in ascending order.
    pub(super) fn reversed(&self, nodes: usize) -> Self {
        let mut starts = vec![0; nodes + 1];
        for &end in &self.ends {
            starts[end as usize + 1] += 1;
        }
        for at in 0..nodes {
            starts[at + 1] += starts[at];
        }
        let mut free = starts.clone();
        let mut ends = vec![0; self.ends.len()];
        for node in 0..self.len() as u32 {
            for &end in self.of(node) {
                ends[free[end as usize]] = node;
                free[end as usize] += 1;
            }
        }
        Self { starts, ends }
    }
}
