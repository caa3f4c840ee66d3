//! New nodes beside those that were read: what a graph becomes is written out of the same arena.
//!
//! A node refers to any other, read or new, so nothing of what was read is copied.

use super::nodes::{Change, ChangeEntry, GONE, Kind, Node, NodeId, Nodes};
use super::opcodes::{put_float, put_int, put_text};

impl Nodes {
    fn add(&mut self, kind: Kind, a: usize, b: usize) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { kind, a, b, ..GONE });
        id
    }

    fn add_bytes(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> NodeId {
        let start = self.source.len() + self.added.len();
        write(&mut self.added);
        let end = self.source.len() + self.added.len();
        self.add(kind, start, end)
    }

    fn add_children(&mut self, children: &[NodeId]) -> usize {
        let first = self.children.len();
        self.children.extend_from_slice(children);
        first
    }

    fn add_change(&mut self, of: NodeId, change: Change, children: &[NodeId]) {
        let first = self.add_children(children);
        let number = self.changes.len() as u32 + 1;
        self.changes.push(ChangeEntry { change, next: 0, tail: number, first, len: children.len() });
        if let Some(node) = self.nodes.get_mut(of.0 as usize) {
            node.changes = number;
        }
    }

    /// Whether there is room for `more` nodes.
    pub fn has_room(&self, more: usize) -> bool {
        self.nodes.len().saturating_add(more) < u32::MAX as usize
    }

    /// Says that a node is referred to more than once in what will be written, so that it is written once.
    pub fn share(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            node.shared = true;
        }
    }

    pub fn add_none(&mut self) -> NodeId {
        self.add_bytes(Kind::Atom, |out| out.push(b'N'))
    }

    pub fn add_bool(&mut self, truth: bool) -> NodeId {
        self.add_bytes(Kind::Atom, |out| out.push(if truth { 0x88 } else { 0x89 }))
    }

    pub fn add_float(&mut self, number: f64) -> NodeId {
        self.add_bytes(Kind::Atom, |out| put_float(out, number))
    }

    pub fn add_int(&mut self, number: i64) -> NodeId {
        self.add_bytes(Kind::Atom, |out| put_int(out, number))
    }

    pub fn add_text(&mut self, text: &str) -> NodeId {
        self.add_bytes(Kind::Text, |out| put_text(out, text.as_bytes()))
    }

    /// A name in a module, both remembered where they are written.
    pub fn add_global(&mut self, module: NodeId, name: &str) -> NodeId {
        let name = self.add_text(name);
        let id = self.add(Kind::Global, module.0 as usize, name.0 as usize);
        self.share(id);
        id
    }

    pub fn add_tuple(&mut self, items: &[NodeId]) -> NodeId {
        let first = self.add_children(items);
        self.add(Kind::Tuple, first, items.len())
    }

    pub fn add_frozenset(&mut self, items: &[NodeId]) -> NodeId {
        let first = self.add_children(items);
        self.add(Kind::FrozenSet, first, items.len())
    }

    pub fn add_list(&mut self, items: &[NodeId]) -> NodeId {
        let id = self.add(Kind::List, 0, 0);
        if !items.is_empty() {
            self.add_change(id, Change::Append, items);
        }
        id
    }

    /// A dict of keys and values in turn.
    pub fn add_dict(&mut self, pairs: &[NodeId]) -> NodeId {
        let id = self.add(Kind::Dict, 0, 0);
        if !pairs.is_empty() {
            self.add_change(id, Change::SetItems, pairs);
        }
        id
    }

    /// The result of calling `function` with a tuple.
    pub fn add_reduce(&mut self, function: NodeId, args: NodeId) -> NodeId {
        self.add(Kind::Reduce, function.0 as usize, args.0 as usize)
    }

    /// An object of `class`, made without arguments, that is given `state`.
    pub fn add_object(&mut self, class: NodeId, no_args: NodeId, state: NodeId) -> NodeId {
        let id = self.add(Kind::NewObj, class.0 as usize, no_args.0 as usize);
        self.add_change(id, Change::Build, &[state]);
        id
    }
}
