//! What a pickle would build, as inert nodes in one arena. Text and bytes stay where they are in the input.

use bytes::Bytes;

/// A node of one [`Nodes`] arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

/// What a node is. Objects are what calls and NEWOBJ make; their later changes are kept in order beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None, bool, a number, or an old string: copied unchanged.
    Atom,
    /// `str`.
    Text,
    Bytes,
    /// `bytearray`.
    ByteArray,
    /// A name in a module.
    Global,
    Tuple,
    /// `frozenset`.
    FrozenSet,
    List,
    Dict,
    Set,
    /// The result of a call.
    Reduce,
    /// The result of `cls.__new__`.
    NewObj,
    /// The result of `cls.__new__` with named arguments.
    NewObjEx,
    /// An out-of-band buffer.
    Buffer,
    /// A read-only view of a buffer.
    ReadOnly,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Something other than its maker refers to it, so it must be remembered when it is written again.
    pub(super) shared: bool,
    /// First of its changes, plus one; 0 for none.
    pub(super) changes: u32,
    /// Atoms and text: where the opcode starts. Tuples: first child. Pairs: the left node. Buffers: number.
    pub(super) a: usize,
    /// Atoms and text: where it ends. Tuples: how many children. Pairs: the right node.
    pub(super) b: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Append,
    AddItems,
    SetItems,
    Build,
    /// A call whose result was thrown away: it was made for what it does to its first argument.
    Call,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeEntry {
    pub(super) change: Change,
    /// The change after this, plus one; 0 for none.
    pub(super) next: u32,
    /// The last change of the same node; only kept up to date in its first.
    pub(super) tail: u32,
    pub(super) first: usize,
    pub(super) len: usize,
}

/// A pickle that has been read.
#[derive(Clone, Debug)]
pub struct Nodes {
    pub(super) source: Bytes,
    /// Text of nodes that were added after reading; places in it count on from the end of `source`.
    pub(super) added: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) children: Vec<NodeId>,
    pub(super) changes: Vec<ChangeEntry>,
    pub(super) root: NodeId,
}

pub(super) const GONE: Node = Node { kind: Kind::Atom, shared: false, changes: 0, a: 0, b: 0 };

impl Nodes {
    /// The object that the pickle stands for.
    pub const fn root(&self) -> NodeId {
        self.root
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A pickle always has a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every node, in the order they were made.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    pub(super) fn node(&self, id: NodeId) -> Node {
        self.nodes.get(id.0 as usize).copied().unwrap_or(GONE)
    }

    /// What `id` is.
    pub fn kind(&self, id: NodeId) -> Kind {
        self.node(id).kind
    }

    /// Opcode and argument of an atom, text or bytes.
    pub(super) fn raw(&self, node: Node) -> &[u8] {
        self.between(node.a, node.b)
    }

    fn between(&self, start: usize, end: usize) -> &[u8] {
        let len = self.source.len();
        if start < len {
            return self.source.get(start..end).unwrap_or_default();
        }
        self.added.get(start - len..end.saturating_sub(len)).unwrap_or_default()
    }

    /// Bytes that a message can carry without a copy, where they came in one.
    pub(super) fn shared_between(&self, start: usize, end: usize) -> Bytes {
        if end <= self.source.len() { self.source.slice(start..end) } else { self.between(start, end).to_vec().into() }
    }

    /// Where the body of text or bytes starts, and where it ends.
    pub(super) fn body_span(&self, node: Node) -> (usize, usize) {
        let skip = match self.between(node.a, node.a.saturating_add(1)).first() {
            Some(0x8c | b'C') => 2,
            Some(b'X' | b'B') => 5,
            Some(0x8d | 0x8e | 0x96) => 9,
            _ => 0,
        };
        (node.a.saturating_add(skip).min(node.b), node.b)
    }

    fn body(&self, node: Node) -> &[u8] {
        let (start, end) = self.body_span(node);
        self.between(start, end)
    }

    /// The text of a `str` that is UTF-8.
    pub fn text(&self, id: NodeId) -> Option<&str> {
        let node = self.node(id);
        if node.kind == Kind::Text { std::str::from_utf8(self.body(node)).ok() } else { None }
    }

    /// The content of a `bytes`, shared with the input.
    pub fn bytes(&self, id: NodeId) -> Option<Bytes> {
        let node = self.node(id);
        if node.kind != Kind::Bytes {
            return None;
        }
        let (start, end) = self.body_span(node);
        Some(self.shared_between(start, end))
    }

    /// Module and qualified name of a global.
    pub fn global(&self, id: NodeId) -> Option<(&str, &str)> {
        let (module, name) = self.pair(id, Kind::Global)?;
        Some((self.text(module)?, self.text(name)?))
    }

    /// The callable and the tuple of arguments of a call.
    pub fn reduce(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        self.pair(id, Kind::Reduce)
    }

    /// The class and the tuple of arguments of a NEWOBJ.
    pub fn new_obj(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        self.pair(id, Kind::NewObj)
    }

    fn pair(&self, id: NodeId, kind: Kind) -> Option<(NodeId, NodeId)> {
        let node = self.node(id);
        (node.kind == kind).then_some((NodeId(node.a as u32), NodeId(node.b as u32)))
    }

    /// The elements of a tuple or frozenset.
    pub fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        let node = self.node(id);
        match node.kind {
            Kind::Tuple | Kind::FrozenSet => Some(self.span(node.a, node.b)),
            _ => None,
        }
    }

    pub(super) fn span(&self, first: usize, len: usize) -> &[NodeId] {
        self.children.get(first..first.saturating_add(len)).unwrap_or_default()
    }

    pub(super) fn changes_of(&self, id: NodeId) -> impl Iterator<Item = ChangeEntry> + '_ {
        let mut next = self.node(id).changes;
        std::iter::from_fn(move || {
            let entry = *self.changes.get((next as usize).checked_sub(1)?)?;
            next = entry.next;
            Some(entry)
        })
    }

    /// Does anything but its maker refer to it?
    pub fn is_shared(&self, id: NodeId) -> bool {
        self.node(id).shared
    }

    /// Was it never changed after it was made?
    pub fn is_plain(&self, id: NodeId) -> bool {
        self.node(id).changes == 0
    }

    /// The elements of a list, tuple, set or frozenset; `None` for anything else, or one with a state of its own.
    pub fn items(&self, id: NodeId) -> Option<Vec<NodeId>> {
        let wanted = match self.kind(id) {
            Kind::Tuple | Kind::FrozenSet => return self.tuple(id).map(<[NodeId]>::to_vec),
            Kind::List => Change::Append,
            Kind::Set => Change::AddItems,
            _ => return None,
        };
        let mut items = Vec::new();
        for entry in self.changes_of(id) {
            if entry.change != wanted {
                return None;
            }
            items.extend_from_slice(self.span(entry.first, entry.len));
        }
        Some(items)
    }

    /// Keys and values of a dict in their order.
    pub fn entries(&self, id: NodeId) -> Option<Vec<(NodeId, NodeId)>> {
        if self.kind(id) != Kind::Dict {
            return None;
        }
        let mut entries = Vec::new();
        for entry in self.changes_of(id) {
            if entry.change != Change::SetItems {
                return None;
            }
            let (pairs, _) = self.span(entry.first, entry.len).as_chunks::<2>();
            entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        }
        Some(entries)
    }

    /// The state that BUILD gave the object, if that is the only thing that happened to it.
    pub fn state(&self, id: NodeId) -> Option<NodeId> {
        let mut changes = self.changes_of(id);
        let entry = changes.next()?;
        (entry.change == Change::Build && changes.next().is_none())
            .then(|| self.span(entry.first, 1).first().copied())
            .flatten()
    }

    /// The nodes that one directly consists of, its later changes included.
    pub fn children(&self, id: NodeId) -> Vec<NodeId> {
        let node = self.node(id);
        let pair = [NodeId(node.a as u32), NodeId(node.b as u32)];
        let own = match node.kind {
            Kind::Tuple | Kind::FrozenSet | Kind::NewObjEx => self.span(node.a, node.b),
            Kind::Global | Kind::Reduce | Kind::NewObj => pair.as_slice(),
            Kind::ReadOnly => pair.get(..1).unwrap_or_default(),
            _ => &[],
        };
        let later = self.changes_of(id).flat_map(|entry| self.span(entry.first, entry.len));
        own.iter().chain(later).copied().collect()
    }

    /// A node and everything that belongs to it, each once.
    pub fn below(&self, id: NodeId) -> Vec<NodeId> {
        let mut seen = std::collections::BTreeSet::from([id]);
        let mut found = vec![id];
        let mut at = 0;
        while let Some(&id) = found.get(at) {
            at += 1;
            found.extend(self.children(id).into_iter().filter(|&child| seen.insert(child)));
        }
        found
    }

    /// Whether two texts, byte strings or atoms are equal, numbers however they are written.
    pub fn is_equal_leaf(&self, left: NodeId, right: NodeId) -> bool {
        let (a, b) = (self.node(left), self.node(right));
        match (a.kind, b.kind) {
            (Kind::Text, Kind::Text) | (Kind::Bytes, Kind::Bytes) | (Kind::ByteArray, Kind::ByteArray) => {
                self.body(a) == self.body(b)
            }
            (Kind::Atom, Kind::Atom) => {
                self.raw(a) == self.raw(b) || self.int(left).is_some_and(|int| self.int(right) == Some(int))
            }
            _ => false,
        }
    }

    pub fn is_none(&self, id: NodeId) -> bool {
        self.atom(id).is_some_and(|raw| raw == b"N")
    }

    /// `True` or `False`.
    pub fn bool(&self, id: NodeId) -> Option<bool> {
        match self.atom(id)? {
            [0x88] | b"I01\n" => Some(true),
            [0x89] | b"I00\n" => Some(false),
            _ => None,
        }
    }

    /// An `int` of at most 16 bytes.
    pub fn int(&self, id: NodeId) -> Option<i128> {
        let raw = self.atom(id)?;
        let (opcode, rest) = raw.split_first()?;
        match opcode {
            b'K' | b'M' => little_endian(rest, false),
            b'J' => little_endian(rest, true),
            0x8a => little_endian(rest.get(1..)?, true),
            0x8b => little_endian(rest.get(4..)?, true),
            b'I' if rest != b"00\n" && rest != b"01\n" => std::str::from_utf8(rest).ok()?.trim().parse().ok(),
            b'L' => std::str::from_utf8(rest).ok()?.trim().trim_end_matches('L').parse().ok(),
            _ => None,
        }
    }

    pub fn float(&self, id: NodeId) -> Option<f64> {
        let (opcode, rest) = self.atom(id)?.split_first()?;
        match opcode {
            b'G' => Some(f64::from_be_bytes(rest.try_into().ok()?)),
            b'F' => std::str::from_utf8(rest).ok()?.trim().parse().ok(),
            _ => None,
        }
    }

    fn atom(&self, id: NodeId) -> Option<&[u8]> {
        let node = self.node(id);
        (node.kind == Kind::Atom).then(|| self.raw(node))
    }
}

fn little_endian(bytes: &[u8], signed: bool) -> Option<i128> {
    if bytes.len() > 16 {
        return None;
    }
    let negative = signed && bytes.last().is_some_and(|&top| top >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(wide))
}
