//! The inert reader: carries out a pickle's stack machine on nodes. One pass, no recursion, nothing resolved.

use bytes::Bytes;

use super::PickleError;
use super::nodes::Change;
use super::nodes::ChangeEntry;
use super::nodes::GONE;
use super::nodes::Kind;
use super::nodes::Node;
use super::nodes::NodeId;
use super::nodes::Nodes;

/// Reads `pickle`, which may ask for up to `buffers` out-of-band buffers.
///
/// Work and memory are linear in the length of the input. Errors: cut, broken, or an opcode that needs Python
/// (persistent ids, the extension registry, instances of protocol 0).
pub fn read(pickle: &Bytes, buffers: usize) -> Result<Nodes, PickleError> {
    Reader::new(pickle, buffers).run()
}

/// No node, in the memo.
const NOBODY: u32 = u32::MAX;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    into: Nodes,
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: Vec<u32>,
    memo_count: usize,
    buffers: usize,
    next_buffer: usize,
    /// The opcode before this one was REDUCE: a POP now means that the call was made for its effect.
    after_call: bool,
}

impl<'a> Reader<'a> {
    fn new(pickle: &'a Bytes, buffers: usize) -> Self {
        // A guess that saves most of the growing: about one node for nine bytes in the graphs that were measured.
        let guess = (pickle.len() / 9).min(1 << 22);
        let into = Nodes {
            source: pickle.clone(),
            added: Vec::new(),
            nodes: Vec::with_capacity(guess),
            children: Vec::with_capacity(guess),
            changes: Vec::new(),
            root: NodeId(0),
        };
        Self {
            bytes: pickle,
            at: 0,
            into,
            stack: Vec::with_capacity(64),
            marks: Vec::new(),
            memo: Vec::with_capacity(guess),
            memo_count: 0,
            buffers,
            next_buffer: 0,
            after_call: false,
        }
    }

    fn run(mut self) -> Result<Nodes, PickleError> {
        loop {
            let start = self.at;
            let Some(&opcode) = self.bytes.get(start) else {
                return Err(PickleError::Cut { at: start });
            };
            self.at = start + 1;
            if opcode == b'.' {
                self.into.root = self.pop()?;
                return Ok(self.into);
            }
            let after_call = std::mem::replace(&mut self.after_call, opcode == b'R');
            self.step(opcode, start, after_call)?;
        }
    }

    fn step(&mut self, opcode: u8, start: usize, after_call: bool) -> Result<(), PickleError> {
        match opcode {
            0x8c => self.counted(Kind::Text, start, 1),
            0x94 => self.memoize(self.memo_count),
            b'h' => self.get_memo(1),
            b'j' => self.get_memo(4),
            b'N' | 0x88 | 0x89 => self.leaf(Kind::Atom, start, 0),
            b'K' => self.leaf(Kind::Atom, start, 1),
            b'M' => self.leaf(Kind::Atom, start, 2),
            b'J' => self.leaf(Kind::Atom, start, 4),
            b'G' => self.leaf(Kind::Atom, start, 8),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' => self.collect(Kind::Tuple),
            0x85..=0x87 => self.small_tuple(usize::from(opcode - 0x84)),
            0x93 => self.pair(Kind::Global),
            b'R' => self.pair(Kind::Reduce),
            0x81 => self.pair(Kind::NewObj),
            b'b' => self.change(Change::Build, Some(1)),
            b'}' => self.push_new(Kind::Dict, 0, 0),
            b']' => self.push_new(Kind::List, 0, 0),
            b')' => self.push_new(Kind::Tuple, 0, 0),
            0x8f => self.push_new(Kind::Set, 0, 0),
            b'a' => self.change(Change::Append, Some(1)),
            b's' => self.change(Change::SetItems, Some(2)),
            b'e' => self.change(Change::Append, None),
            b'u' => self.change(Change::SetItems, None),
            0x90 => self.change(Change::AddItems, None),
            0x91 => self.collect(Kind::FrozenSet),
            b'0' => self.pop_top(after_call),
            0x97 => self.buffer(),
            0x98 => self.read_only(),
            _ => self.rare(opcode, start),
        }
    }

    fn rare(&mut self, opcode: u8, start: usize) -> Result<(), PickleError> {
        match opcode {
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            b'X' => self.counted(Kind::Text, start, 4),
            0x8d => self.counted(Kind::Text, start, 8),
            b'C' => self.counted(Kind::Bytes, start, 1),
            b'B' => self.counted(Kind::Bytes, start, 4),
            0x8e => self.counted(Kind::Bytes, start, 8),
            0x96 => self.counted(Kind::ByteArray, start, 8),
            0x8a | b'U' => self.counted(Kind::Atom, start, 1),
            0x8b | b'T' => self.counted(Kind::Atom, start, 4),
            b'I' | b'L' | b'F' | b'S' | b'V' => self.line_atom(start),
            b'c' => self.line_global(),
            b'l' => self.collect_list(),
            b'd' => self.collect_dict(),
            0x92 => self.new_obj_ex(),
            b'1' => self.cut_to_mark().map(drop),
            b'2' => {
                let top = *self.stack.last().ok_or(PickleError::Broken { at: start })?;
                self.share(top);
                self.stack.push(top);
                Ok(())
            }
            b'q' | b'r' => {
                let slot = self.number(if opcode == b'q' { 1 } else { 4 })?;
                self.memoize(slot)
            }
            b'p' | b'g' => {
                let slot = self.line_number()?;
                if opcode == b'p' { self.memoize(slot) } else { self.push_memo(slot) }
            }
            _ => Err(PickleError::Opcode { opcode, at: start }),
        }
    }

    fn skip(&mut self, len: usize) -> Result<(), PickleError> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        self.at = end.ok_or(PickleError::Cut { at: self.at })?;
        Ok(())
    }

    fn number(&mut self, width: usize) -> Result<usize, PickleError> {
        let start = self.at;
        self.skip(width)?;
        let bytes = self.bytes.get(start..self.at).unwrap_or_default();
        let wide = bytes.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        usize::try_from(wide).map_err(|_| PickleError::Cut { at: start })
    }

    fn line(&mut self) -> Result<(usize, usize), PickleError> {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let len = rest.iter().position(|&b| b == b'\n').ok_or(PickleError::Cut { at: start })?;
        self.at = start + len + 1;
        Ok((start, start + len))
    }

    fn line_number(&mut self) -> Result<usize, PickleError> {
        let (start, end) = self.line()?;
        let text = self.bytes.get(start..end).and_then(|line| std::str::from_utf8(line).ok());
        text.and_then(|text| text.trim().parse().ok()).ok_or(PickleError::Broken { at: start })
    }

    fn add(&mut self, kind: Kind, a: usize, b: usize) -> Result<NodeId, PickleError> {
        let id = u32::try_from(self.into.nodes.len()).ok().filter(|&id| id != NOBODY);
        let id = id.ok_or(PickleError::TooMuch { limit: NOBODY })?;
        self.into.nodes.push(Node { kind, a, b, ..GONE });
        Ok(NodeId(id))
    }

    fn push_new(&mut self, kind: Kind, a: usize, b: usize) -> Result<(), PickleError> {
        let id = self.add(kind, a, b)?;
        self.stack.push(id);
        Ok(())
    }

    fn leaf(&mut self, kind: Kind, start: usize, len: usize) -> Result<(), PickleError> {
        self.skip(len)?;
        self.push_new(kind, start, self.at)
    }

    fn counted(&mut self, kind: Kind, start: usize, width: usize) -> Result<(), PickleError> {
        let len = self.number(width)?;
        self.leaf(kind, start, len)
    }

    fn line_atom(&mut self, start: usize) -> Result<(), PickleError> {
        self.line()?;
        self.push_new(Kind::Atom, start, self.at)
    }

    /// GLOBAL spells both names out in lines. They are text that is not preceded by an opcode.
    fn line_global(&mut self) -> Result<(), PickleError> {
        let module = self.line()?;
        let name = self.line()?;
        let module = self.add(Kind::Text, module.0, module.1)?;
        let name = self.add(Kind::Text, name.0, name.1)?;
        self.push_new(Kind::Global, module.0 as usize, name.0 as usize)
    }

    /// The lowest place of the stack that may be popped: what is below belongs to an open MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<NodeId, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(PickleError::Broken { at: self.at });
        }
        self.stack.pop().ok_or(PickleError::Broken { at: self.at })
    }

    fn cut_to_mark(&mut self) -> Result<(usize, usize), PickleError> {
        let mark = self.marks.pop().ok_or(PickleError::Broken { at: self.at })?;
        let first = self.into.children.len();
        let items = self.stack.get(mark..).ok_or(PickleError::Broken { at: self.at })?;
        self.into.children.extend_from_slice(items);
        self.stack.truncate(mark);
        Ok((first, self.into.children.len() - first))
    }

    fn cut_last(&mut self, len: usize) -> Result<(usize, usize), PickleError> {
        let from = self.stack.len().checked_sub(len).filter(|&from| from >= self.floor());
        let from = from.ok_or(PickleError::Broken { at: self.at })?;
        let first = self.into.children.len();
        self.into.children.extend_from_slice(self.stack.get(from..).unwrap_or_default());
        self.stack.truncate(from);
        Ok((first, len))
    }

    fn collect(&mut self, kind: Kind) -> Result<(), PickleError> {
        let (first, len) = self.cut_to_mark()?;
        self.push_new(kind, first, len)
    }

    fn small_tuple(&mut self, len: usize) -> Result<(), PickleError> {
        let (first, len) = self.cut_last(len)?;
        self.push_new(Kind::Tuple, first, len)
    }

    fn collect_list(&mut self) -> Result<(), PickleError> {
        let (first, len) = self.cut_to_mark()?;
        self.push_new(Kind::List, 0, 0)?;
        self.record(Change::Append, first, len)
    }

    fn collect_dict(&mut self) -> Result<(), PickleError> {
        let (first, len) = self.cut_to_mark()?;
        self.push_new(Kind::Dict, 0, 0)?;
        self.record(Change::SetItems, first, len)
    }

    fn pair(&mut self, kind: Kind) -> Result<(), PickleError> {
        let right = self.pop()?;
        let left = self.pop()?;
        self.push_new(kind, left.0 as usize, right.0 as usize)
    }

    fn new_obj_ex(&mut self) -> Result<(), PickleError> {
        let (first, len) = self.cut_last(3)?;
        self.push_new(Kind::NewObjEx, first, len)
    }

    fn buffer(&mut self) -> Result<(), PickleError> {
        if self.next_buffer >= self.buffers {
            return Err(PickleError::Broken { at: self.at });
        }
        self.next_buffer += 1;
        self.push_new(Kind::Buffer, self.next_buffer - 1, 0)
    }

    fn read_only(&mut self) -> Result<(), PickleError> {
        let buffer = self.pop()?;
        self.push_new(Kind::ReadOnly, buffer.0 as usize, 0)
    }

    /// A change of the node on top, from the last `len` values or (`None`) from all since the last MARK.
    fn change(&mut self, change: Change, len: Option<usize>) -> Result<(), PickleError> {
        let (first, len) = match len {
            Some(len) => self.cut_last(len)?,
            None => self.cut_to_mark()?,
        };
        if change == Change::SetItems && len % 2 != 0 {
            return Err(PickleError::Broken { at: self.at });
        }
        if len == 0 { Ok(()) } else { self.record(change, first, len) }
    }

    fn record(&mut self, change: Change, first: usize, len: usize) -> Result<(), PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(PickleError::Broken { at: self.at });
        }
        let target = self.stack.last().copied().ok_or(PickleError::Broken { at: self.at })?;
        self.record_on(target, ChangeEntry { change, next: 0, tail: 0, first, len })
    }

    fn record_on(&mut self, target: NodeId, mut entry: ChangeEntry) -> Result<(), PickleError> {
        let broken = PickleError::Broken { at: self.at };
        let number = self.into.changes.len() as u32 + 1;
        entry.tail = number;
        self.into.changes.push(entry);
        let head = &mut self.into.nodes.get_mut(target.0 as usize).ok_or(broken.clone())?.changes;
        if *head == 0 {
            *head = number;
            return Ok(());
        }
        let head = (*head as usize).saturating_sub(1);
        let first = self.into.changes.get_mut(head).ok_or(broken.clone())?;
        let tail = std::mem::replace(&mut first.tail, number) as usize;
        self.into.changes.get_mut(tail.saturating_sub(1)).ok_or(broken)?.next = number;
        Ok(())
    }

    /// A call whose result is dropped at once changes its first argument. Anything else that is dropped was written
    /// twice by the pickler, inside a tuple that contains itself.
    fn pop_top(&mut self, after_call: bool) -> Result<(), PickleError> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        let top = self.pop()?;
        let Some((_, args)) = self.into.reduce(top).filter(|_| after_call) else {
            return Ok(());
        };
        let Some(&target) = self.into.tuple(args).and_then(<[NodeId]>::first) else {
            return Ok(());
        };
        let first = self.into.children.len();
        self.into.children.push(top);
        self.record_on(target, ChangeEntry { change: Change::Call, next: 0, tail: 0, first, len: 1 })
    }

    fn memoize(&mut self, slot: usize) -> Result<(), PickleError> {
        let top = self.stack.last().copied().ok_or(PickleError::Broken { at: self.at })?;
        if slot >= self.memo.len() {
            // Picklers count up, so a slot past the length of the input is an attack on our memory.
            if slot > self.bytes.len() {
                return Err(PickleError::Broken { at: self.at });
            }
            self.memo.resize(slot + 1, NOBODY);
        }
        if let Some(place) = self.memo.get_mut(slot) {
            self.memo_count += usize::from(*place == NOBODY);
            *place = top.0;
        }
        Ok(())
    }

    fn get_memo(&mut self, width: usize) -> Result<(), PickleError> {
        let slot = self.number(width)?;
        self.push_memo(slot)
    }

    fn push_memo(&mut self, slot: usize) -> Result<(), PickleError> {
        let found = self.memo.get(slot).copied().filter(|&id| id != NOBODY);
        let id = NodeId(found.ok_or(PickleError::Broken { at: self.at })?);
        self.share(id);
        self.stack.push(id);
        Ok(())
    }

    fn share(&mut self, id: NodeId) {
        if let Some(node) = self.into.nodes.get_mut(id.0 as usize) {
            node.shared = true;
        }
    }
}
