//! The walk that gives each node its place: down from an output to an input, and back up again.
//!
//! Source: `dask/order.py`, `order`: `add_to_result`, `process_runnables` and the loop at its end.

use std::collections::VecDeque;

use super::simplify::Simple;
use super::targets::Targets;
use crate::base::SeededMap;

/// A way along which all can run once its first node can: from `first` to `last`, where each node but the first needs
/// only the one before it.
#[derive(Clone, Copy)]
struct Path {
    first: u32,
    last: u32,
}

/// A way that is being followed: how often it forked, and where it stands.
struct Branch {
    forks: u32,
    path: Path,
    at: u32,
}

pub(super) struct Walk<'a> {
    graph: &'a Simple,
    rank: &'a [u32],
    targets: Targets<'a>,
    /// How many needs of each node have no place yet.
    missing: Vec<u32>,
    is_placed: Vec<bool>,
    /// All nodes that have a place, in order.
    sequence: Vec<u32>,
    /// Nodes that can run, and that were not looked at yet.
    runnable: Vec<u32>,
    /// Nodes that a followed path leads through: they can run without more input.
    followed: Vec<bool>,
    /// Paths to a node with several needs, remembered until all its needs can run.
    paths: SeededMap<u32, Vec<Path>>,
    /// Only used inside of functions; here, so that their memory is used again.
    following: Vec<u32>,
    chain: Vec<u32>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(graph: &'a Simple, rank: &'a [u32], targets: Targets<'a>) -> Self {
        let nodes = graph.needs.len();
        Self {
            graph,
            rank,
            targets,
            missing: (0..nodes as u32).map(|node| graph.needs.of(node).len() as u32).collect(),
            is_placed: vec![false; nodes],
            sequence: Vec::with_capacity(nodes),
            runnable: Vec::new(),
            followed: vec![false; nodes],
            paths: SeededMap::default(),
            following: Vec::new(),
            chain: Vec::new(),
        }
    }

    /// All nodes, in the order in which they should run.
    pub(super) fn run(mut self) -> Vec<u32> {
        let mut path = Vec::new();
        while let Some(target) = self.targets.next(&self.is_placed) {
            self.walk_down(target, &mut path);
            self.walk_up(&mut path);
            self.run_free();
        }
        self.sequence
    }

    /// From an output to an input, always to the need of the largest rank. The other needs are put beside the path, by
    /// rank: the largest is taken first on the way up, too.
    fn walk_down(&self, target: u32, path: &mut Vec<u32>) {
        path.push(target);
        let is_open = |node: &u32| !self.is_placed[*node as usize];
        let mut next = self.graph.needs.of(target).iter().max_by_key(|&&need| self.rank[need as usize]);
        while let Some(&node) = next {
            path.push(node);
            let needs = self.graph.needs.of(node).iter().filter(|need| is_open(need));
            next = needs.clone().max_by_key(|&&need| self.rank[need as usize]);
            let before = path.len();
            path.extend(needs);
            path[before..].sort_unstable_by_key(|&need| self.rank[need as usize]);
        }
    }

    /// Places what is on the path, from its end. What needs more first gets that put on the path.
    fn walk_up(&mut self, path: &mut Vec<u32>) {
        let mut walked_back = false;
        let mut needs = Vec::new();
        while let Some(node) = path.pop() {
            if self.is_placed[node as usize] {
                continue;
            }
            if self.missing[node as usize] == 0 {
                if walked_back && self.runnable.len() < path.len() {
                    self.run_free();
                }
                self.place(node);
                continue;
            }
            path.push(node);
            needs.clear();
            needs.extend(self.graph.needs.of(node).iter().copied().filter(|&need| !self.is_placed[need as usize]));
            needs.sort_unstable_by_key(|&need| self.rank[need as usize]);
            let unknown = needs.iter().copied().filter(|need| !self.paths.contains_key(need));
            let before = path.len();
            path.extend(unknown);
            walked_back |= path.len() - before > 1;
            for &need in &needs {
                for known in self.paths.remove(&need).unwrap_or_default() {
                    path.push(need);
                    self.trace(known, path);
                }
            }
        }
    }

    /// Appends the nodes of a path that have no place yet, the last one first.
    fn trace(&self, path: Path, to: &mut Vec<u32>) {
        let mut node = path.last;
        while !self.is_placed[node as usize] {
            to.push(node);
            match self.graph.needs.of(node) {
                [before] if node != path.first => node = *before,
                _ => break,
            }
        }
    }

    /// Gives a node that can run the next place, and so on to its user, if it has one alone and that can run then.
    fn place(&mut self, node: u32) {
        let mut following = std::mem::take(&mut self.following);
        following.push(node);
        while let Some(node) = following.pop() {
            self.followed[node as usize] = false;
            if self.is_placed[node as usize] || self.missing[node as usize] > 0 {
                continue;
            }
            self.place_alone(node);
            let users = self.graph.users.of(node);
            for &user in users {
                self.missing[user as usize] -= 1;
                self.targets.reach(user);
                if self.missing[user as usize] > 0 {
                    continue;
                }
                match users {
                    [_] => following.push(user),
                    _ => self.runnable.push(user),
                }
            }
        }
        self.following = following;
    }

    fn place_alone(&mut self, node: u32) {
        let graph = self.graph;
        let (needs, all_needs) = (graph.needs.of(node), graph.all_needs.of(node));
        if all_needs.len() > needs.len() {
            // Data that was set aside comes just before its first user.
            for &data in all_needs.iter().filter(|&&need| graph.is_aside[need as usize]) {
                if !std::mem::replace(&mut self.is_placed[data as usize], true) {
                    self.sequence.push(data);
                }
            }
        }
        self.is_placed[node as usize] = true;
        self.sequence.push(node);
        self.targets.leave(node, needs.is_empty());
    }

    /// Follows what can run. Where that leads to an output, or to a node all whose needs can run, it is placed: it lets
    /// go of more than it makes. Else it is remembered, and done when it is needed.
    fn run_free(&mut self) {
        while !self.runnable.is_empty() {
            let mut candidates = std::mem::take(&mut self.runnable);
            while let Some(node) = candidates.pop() {
                if self.followed[node as usize] || self.is_placed[node as usize] {
                    continue;
                }
                if self.graph.users.of(node).is_empty() {
                    self.place(node);
                } else {
                    self.follow(node);
                }
            }
        }
    }

    fn follow(&mut self, first: u32) {
        let mut branches = VecDeque::from([Branch { forks: 0, path: Path { first, last: first }, at: first }]);
        while let Some(mut branch) = branches.pop_front() {
            loop {
                let at = branch.at;
                self.followed[at as usize] = true;
                let (needs, users) = (self.graph.needs.of(at), self.graph.users.of(at));
                if users.is_empty() {
                    self.finish(&branch);
                } else if at == first || needs.len() == 1 {
                    branch.path.last = at;
                    if let &[user] = users {
                        branch.at = user;
                        continue;
                    }
                    // Only what needs nothing else goes on from here.
                    let mut own: Vec<u32> =
                        users.iter().copied().filter(|&user| self.graph.needs.of(user).len() == 1).collect();
                    own.sort_unstable_by_key(|&user| self.rank[user as usize]);
                    let (forks, path) = (branch.forks + 1, branch.path);
                    branches.extend(own.into_iter().map(|at| Branch { forks, path, at }));
                } else {
                    self.meet(&branch);
                }
                break;
            }
        }
    }

    /// A path has come to its end at a node that no other path has to wait for.
    fn finish(&mut self, branch: &Branch) {
        if self.missing[branch.at as usize] > 1 {
            self.followed[branch.at as usize] = false;
            return;
        }
        self.place_path(branch.path);
        self.place(branch.at);
    }

    /// A path has come to a node with several needs.
    fn meet(&mut self, branch: &Branch) {
        let (at, missing) = (branch.at, self.missing[branch.at as usize] as usize);
        if !self.paths.contains_key(&at) && missing <= 1 {
            return self.finish(branch);
        }
        self.followed[at as usize] = false;
        let paths = self.paths.entry(at).or_default();
        paths.push(branch.path);
        if paths.len() < 2 || paths.len() < missing {
            return;
        }
        paths.retain(|path| !self.is_placed[path.last as usize]);
        // The outer fork decides about what comes from inner ones.
        if paths.len() < missing || branch.forks > 1 {
            return;
        }
        for path in self.paths.remove(&at).unwrap_or_default() {
            self.place_path(path);
        }
        self.place(at);
    }

    fn place_path(&mut self, path: Path) {
        let mut chain = std::mem::take(&mut self.chain);
        self.trace(path, &mut chain);
        while let Some(node) = chain.pop() {
            self.place(node);
        }
        self.chain = chain;
    }
}
