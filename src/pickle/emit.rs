//! Writes parts of a read pickle as pickles of their own. No recursion: a deep graph costs memory, not stack.

use bytes::Bytes;

use crate::base::Opaque;
use crate::base::PickledPart;

use super::PickleError;
use super::nodes::Change;
use super::nodes::Kind;
use super::nodes::Node;
use super::nodes::NodeId;
use super::nodes::Nodes;
use super::opcodes::{put_int, put_text};

/// Bytes and text at least this long become shared buffers instead of copies: many tasks may refer to one.
///
/// Unit: bytes. Below it a frame of its own costs more than the copy.
const SHARE_BYTES: usize = 32 << 10;

/// How much longer than its source one part may get before we call it a trick.
///
/// Only tuples inside cycles are written twice, and hardly any exist.
const GROWTH_MAX: usize = 8;

enum Step {
    Node(NodeId),
    /// The parts of this node have been written: make it.
    Close(NodeId),
    /// The changes of a node from this one on.
    Changes(u32),
    Byte(u8),
}

/// Cuts self-contained pickles out of one that was read. Reuse it for all parts: its tables are as large as the whole.
pub struct Splitter<'a> {
    nodes: &'a Nodes,
    buffers: &'a [Bytes],
    /// Per node: in which epoch it was remembered, and under which number.
    memo: Vec<(u32, u32)>,
    epoch: u32,
    steps: Vec<Step>,
    steps_left: usize,
    out: Vec<u8>,
    memo_count: u32,
    used: Vec<Bytes>,
    common: Common,
}

/// What every part begins with: written once, then copied.
#[derive(Default)]
struct Common {
    epoch: u32,
    out: Vec<u8>,
    memo_count: u32,
    used: Vec<Bytes>,
}

/// The tables of a splitter that is not in use: the next one need not make its own.
#[derive(Default)]
pub struct SplitterTables {
    memo: Vec<(u32, u32)>,
    epoch: u32,
}

impl<'a> Splitter<'a> {
    /// A splitter of `nodes`, whose pickle came with `buffers`.
    pub fn new(nodes: &'a Nodes, buffers: &'a [Bytes]) -> Self {
        Self::with_tables(nodes, buffers, SplitterTables::default())
    }

    /// As [`Splitter::new`], with the tables of an earlier splitter of the same nodes, of which there may be more now.
    pub fn with_tables(nodes: &'a Nodes, buffers: &'a [Bytes], tables: SplitterTables) -> Self {
        let epoch = tables.epoch + 1;
        let common = Common { epoch, out: vec![0x80, 5], ..Common::default() };
        let mut memo = tables.memo;
        memo.resize(nodes.len(), (0, 0));
        Self {
            nodes,
            buffers,
            memo,
            epoch,
            steps: Vec::new(),
            steps_left: 0,
            out: vec![0x80, 5],
            memo_count: 0,
            used: Vec::new(),
            common,
        }
    }

    /// Its tables, for the next splitter.
    pub fn into_tables(self) -> SplitterTables {
        SplitterTables { memo: self.memo, epoch: self.epoch }
    }

    /// The pickle of one node. Errors: what it consists of can't be written.
    pub fn part(&mut self, id: NodeId) -> Result<PickledPart, PickleError> {
        self.begin();
        self.node(id)?;
        Ok(self.finish())
    }

    /// The payload of one node, as [`Splitter::part`] makes it.
    pub fn part_wire(&mut self, id: NodeId) -> Result<Opaque, PickleError> {
        self.begin();
        self.node(id)?;
        Ok(self.finish_wire())
    }

    /// Makes everything written so far the beginning of all parts to come.
    pub fn set_common(&mut self) {
        let used = self.used.clone();
        self.common = Common { epoch: self.epoch, out: self.out.clone(), memo_count: self.memo_count, used };
        self.epoch += 1;
    }

    /// Starts a part: what is common is there already.
    pub fn begin(&mut self) {
        self.out.clear();
        self.out.extend_from_slice(&self.common.out);
        self.memo_count = self.common.memo_count;
        self.used.clear();
        self.used.extend_from_slice(&self.common.used);
        self.epoch += 1;
    }

    /// Ends the part.
    pub fn finish(&mut self) -> PickledPart {
        self.out.push(b'.');
        PickledPart { pickle: Bytes::copy_from_slice(&self.out), buffers: self.used.clone() }
    }

    /// Ends the part as the payload that a message carries, which saves a copy.
    pub fn finish_wire(&mut self) -> Opaque {
        self.out.push(b'.');
        super::wire::pack(&self.out, self.used.clone())
    }

    /// Appends opcodes that are the caller's own.
    pub fn raw(&mut self, opcodes: &[u8]) {
        self.out.extend_from_slice(opcodes);
    }

    /// Appends an `int`.
    pub fn int(&mut self, number: i64) {
        put_int(&mut self.out, number);
    }

    /// Appends a `str`.
    pub fn text(&mut self, text: &str) {
        put_text(&mut self.out, text.as_bytes());
    }

    /// Appends a buffer that is the caller's own.
    pub fn buffer(&mut self, buffer: Bytes) {
        self.out.push(0x97);
        self.used.push(buffer);
    }

    /// How long the pickle of the part has become, buffers excluded.
    ///
    /// Unit: bytes.
    pub fn pickle_bytes(&self) -> usize {
        self.out.len()
    }

    /// How long the part has become, buffers included.
    ///
    /// Unit: bytes.
    pub fn size_bytes(&self) -> usize {
        self.out.len() + self.used.iter().map(Bytes::len).sum::<usize>()
    }

    /// Remembers what was written last; [`Splitter::recall`] brings it back.
    pub fn remember(&mut self) -> u32 {
        self.out.push(0x94);
        self.memo_count += 1;
        self.memo_count - 1
    }

    /// Appends what was remembered under `slot`.
    pub fn recall(&mut self, slot: u32) {
        match u8::try_from(slot) {
            Ok(slot) => self.out.extend_from_slice(&[b'h', slot]),
            Err(_) => {
                self.out.push(b'j');
                self.out.extend_from_slice(&slot.to_le_bytes());
            }
        }
    }

    /// Appends a node and all that belongs to it.
    pub fn node(&mut self, id: NodeId) -> Result<(), PickleError> {
        self.steps_left = self.nodes.len().saturating_add(self.nodes.children.len()).saturating_mul(GROWTH_MAX);
        self.steps.clear();
        self.open(id);
        while let Some(step) = self.steps.pop() {
            self.steps_left = self.steps_left.checked_sub(1).ok_or(PickleError::TooMuch { limit: u32::MAX })?;
            match step {
                Step::Node(id) => self.open(id),
                Step::Close(id) => self.close(id),
                Step::Changes(number) => self.changes(number),
                Step::Byte(byte) => self.out.push(byte),
            }
        }
        Ok(())
    }

    fn remembered(&self, id: NodeId) -> Option<u32> {
        let &(epoch, slot) = self.memo.get(id.0 as usize)?;
        (epoch == self.epoch || epoch == self.common.epoch).then_some(slot)
    }

    /// Only what is referred to again is worth remembering.
    fn put(&mut self, id: NodeId, node: Node) {
        if node.shared {
            let slot = self.remember();
            if let Some(place) = self.memo.get_mut(id.0 as usize) {
                *place = (self.epoch, slot);
            }
        }
    }

    fn open(&mut self, id: NodeId) {
        let node = self.nodes.node(id);
        if node.shared
            && let Some(slot) = self.remembered(id)
        {
            return self.recall(slot);
        }
        match node.kind {
            Kind::Atom => self.out.extend_from_slice(self.nodes.raw(node)),
            Kind::Text | Kind::Bytes | Kind::ByteArray => self.leaf(id, node),
            Kind::List => self.container(id, node, b']'),
            Kind::Dict => self.container(id, node, b'}'),
            Kind::Set => self.container(id, node, 0x8f),
            Kind::Buffer => {
                self.used.push(self.buffers.get(node.a).cloned().unwrap_or_default());
                self.out.push(0x97);
                self.put(id, node);
            }
            Kind::ReadOnly => self.steps.extend([Step::Close(id), Step::Node(NodeId(node.a as u32))]),
            Kind::Global | Kind::Reduce | Kind::NewObj => {
                self.steps.push(Step::Close(id));
                self.steps.push(Step::Node(NodeId(node.b as u32)));
                self.open_left(NodeId(node.a as u32));
            }
            Kind::NewObjEx => self.sequence(id, node, false),
            Kind::Tuple if node.b == 0 => self.out.push(b')'),
            Kind::Tuple => self.sequence(id, node, node.b > 3),
            Kind::FrozenSet => self.sequence(id, node, true),
        }
    }

    /// Text is written at once, which saves a round through the steps for every global.
    fn open_left(&mut self, id: NodeId) {
        if self.nodes.kind(id) == Kind::Text { self.open(id) } else { self.steps.push(Step::Node(id)) }
    }

    fn sequence(&mut self, id: NodeId, node: Node, mark: bool) {
        if mark {
            self.out.push(b'(');
        }
        self.steps.push(Step::Close(id));
        self.steps.extend(self.nodes.span(node.a, node.b).iter().rev().map(|&child| Step::Node(child)));
    }

    fn container(&mut self, id: NodeId, node: Node, opcode: u8) {
        self.out.push(opcode);
        self.put(id, node);
        if node.changes != 0 {
            self.steps.push(Step::Changes(node.changes));
        }
    }

    fn leaf(&mut self, id: NodeId, node: Node) {
        let (start, end) = self.nodes.body_span(node);
        if end - start >= SHARE_BYTES {
            self.large_leaf(node.kind, self.nodes.shared_between(start, end));
        } else if start == node.a {
            // The names of a GLOBAL opcode: lines without an opcode of their own.
            put_text(&mut self.out, self.nodes.raw(node));
        } else {
            self.out.extend_from_slice(self.nodes.raw(node));
        }
        self.put(id, node);
    }

    /// `bytes(buffer)`, `bytearray(buffer)` or `str(buffer, "utf-8", "surrogatepass")`.
    fn large_leaf(&mut self, kind: Kind, body: Bytes) {
        let (name, rest): (&str, &[u8]) = match kind {
            Kind::Text => ("str", b"\x8c\x05utf-8\x8c\x0dsurrogatepass\x87R"),
            Kind::ByteArray => ("bytearray", b"\x85R"),
            _ => ("bytes", b"\x85R"),
        };
        put_text(&mut self.out, b"builtins");
        put_text(&mut self.out, name.as_bytes());
        self.out.extend_from_slice(&[0x93, 0x97]);
        self.out.extend_from_slice(rest);
        self.used.push(body);
    }

    fn close(&mut self, id: NodeId) {
        let node = self.nodes.node(id);
        // A cycle led back here and made the node meanwhile: forget these parts, take that one.
        if node.shared
            && let Some(slot) = self.remembered(id)
        {
            self.discard(node);
            return self.recall(slot);
        }
        self.out.push(match (node.kind, node.b) {
            (Kind::Tuple, 1) => 0x85,
            (Kind::Tuple, 2) => 0x86,
            (Kind::Tuple, 3) => 0x87,
            (Kind::Tuple, _) => b't',
            (Kind::FrozenSet, _) => 0x91,
            (Kind::Global, _) => 0x93,
            (Kind::Reduce, _) => b'R',
            (Kind::NewObj, _) => 0x81,
            (Kind::NewObjEx, _) => 0x92,
            _ => 0x98,
        });
        self.put(id, node);
        if node.changes != 0 {
            self.steps.push(Step::Changes(node.changes));
        }
    }

    fn discard(&mut self, node: Node) {
        let count = match node.kind {
            Kind::Tuple if node.b > 3 => return self.out.push(b'1'),
            Kind::FrozenSet => return self.out.push(b'1'),
            Kind::Tuple => node.b,
            Kind::NewObjEx => 3,
            Kind::Global | Kind::Reduce | Kind::NewObj => 2,
            _ => 1,
        };
        self.out.extend(std::iter::repeat_n(b'0', count));
    }

    fn changes(&mut self, number: u32) {
        let Some(&entry) = self.nodes.changes.get((number as usize).wrapping_sub(1)) else { return };
        if entry.next != 0 {
            self.steps.push(Step::Changes(entry.next));
        }
        let one = entry.len == 1;
        let opcode = match entry.change {
            Change::Append if one => b'a',
            Change::Append => b'e',
            Change::SetItems if entry.len == 2 => b's',
            Change::SetItems => b'u',
            Change::AddItems => 0x90,
            Change::Build => b'b',
            Change::Call => b'0',
        };
        if matches!(opcode, b'e' | b'u' | 0x90) {
            self.out.push(b'(');
        }
        self.steps.push(Step::Byte(opcode));
        self.steps.extend(self.nodes.span(entry.first, entry.len).iter().rev().map(|&child| Step::Node(child)));
    }
}
