//! `_MapExpr`: what `Client.map` sends. One function, the iterables, the keys; every row becomes a task.
//!
//! Source: `distributed/client.py`, `_MapExpr._layer`; `dask/_task_spec.py`, `parse_input`.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::GraphTask;
use crate::base::Key;
use crate::base::SeededMap;
use crate::pickle::Kind;
use crate::pickle::NodeId;
use crate::pickle::Splitter;

use super::error::Stop;
use super::input::GraphInput;
use super::known::GraphNode;
use super::known::Name;
use super::known::Reader;

/// The operands of the expression that matter.
pub(super) struct MapCall {
    pub(super) func: NodeId,
    pub(super) iterables: NodeId,
    pub(super) kwargs: NodeId,
    pub(super) keys: NodeId,
}

/// A named argument larger than this becomes a task of its own, shared by all rows.
///
/// Unit: bytes. Source: `distributed/client.py`, `_MapExpr._layer`.
const KWARG_BYTES: usize = 100_000;

/// What all rows begin with is copied into each; past this it becomes one buffer that all refer to.
///
/// Unit: bytes. A frame of its own and the second unpickling cost as much as copying about this.
const COMMON_BYTES: usize = 16 << 10;

/// Nested lists in arguments deeper than this are left to Python.
const DEPTH_MAX: u32 = 50;

/// One task per row, in the order of the rows; large named arguments first.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    buffers: &'a [Bytes],
    call: &MapCall,
    input: &GraphInput<'_>,
) -> Result<Vec<GraphTask>, Stop> {
    let keys = reader.nodes.items(call.keys).filter(|_| is_sequence(reader, call.keys));
    let keys = keys.ok_or("a map that does not bring its keys")?;
    let columns = reader.nodes.items(call.iterables).ok_or("iterables of another kind")?;
    let columns = columns.into_iter().map(|column| column_of(reader, column)).collect::<Result<Vec<_>, Stop>>()?;
    let rows = columns.iter().map(Column::len).min().unwrap_or(0).min(keys.len());
    let has_references = has_references(reader);
    let mut map = Expansion { splitter: Splitter::new(reader.nodes, buffers), reader, has_references };
    let mut tasks = Vec::with_capacity(rows);
    let common = map.common(call, &mut tasks, rows)?;
    let order = Order::new(input.internal_priority);
    for (row, &key_node) in keys.iter().take(rows).enumerate() {
        let mut task = map.row(&common, key_node, &columns, row)?;
        task.order = order.of(row, &task.key);
        tasks.push(task);
    }
    Ok(tasks)
}

/// Rows and priorities normally run side by side; the map is only built if they do not.
struct Order<'a> {
    given: Option<&'a [(Key, f64)]>,
    by_key: std::cell::OnceCell<SeededMap<&'a Key, f64>>,
}

impl<'a> Order<'a> {
    fn new(given: Option<&'a [(Key, f64)]>) -> Self {
        Self { given, by_key: std::cell::OnceCell::new() }
    }

    fn of(&self, row: usize, key: &Key) -> Option<f64> {
        let Some(given) = self.given else { return Some(row as f64) };
        match given.get(row) {
            Some((same, at)) if same == key => Some(*at),
            _ => self.by_key.get_or_init(|| given.iter().map(|(key, at)| (key, *at)).collect()).get(key).copied(),
        }
    }
}

enum Column {
    Nodes(Vec<NodeId>),
    Range { start: i128, step: i128, len: usize },
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Nodes(items) => items.len(),
            Self::Range { len, .. } => *len,
        }
    }
}

fn is_sequence(reader: &Reader<'_>, id: NodeId) -> bool {
    matches!(reader.nodes.kind(id), Kind::List | Kind::Tuple)
}

fn column_of(reader: &mut Reader<'_>, id: NodeId) -> Result<Column, Stop> {
    if is_sequence(reader, id) {
        let items = reader.nodes.items(id).ok_or("a list with a state")?;
        return Ok(Column::Nodes(items));
    }
    let (function, args) = reader.nodes.reduce(id).ok_or("an iterable that is no list, tuple or range")?;
    if reader.name(function) != Name::Range {
        return Err("an iterable that is no list, tuple or range".into());
    }
    let numbers = reader.nodes.tuple(args).unwrap_or_default();
    let numbers = numbers.iter().map(|&number| reader.nodes.int(number)).collect::<Option<Vec<_>>>();
    let Some(&[start, stop, step]) = numbers.as_deref() else {
        return Err("a range of other than three numbers".into());
    };
    range_len(start, stop, step).map(|len| Column::Range { start, step, len }).ok_or_else(|| "an odd range".into())
}

fn range_len(start: i128, stop: i128, step: i128) -> Option<usize> {
    let (span, stride) =
        if step > 0 { (stop.checked_sub(start)?, step) } else { (start.checked_sub(stop)?, step.checked_neg()?) };
    if stride == 0 {
        return None;
    }
    let len = span.max(0).checked_add(stride - 1)?.checked_div(stride)?;
    usize::try_from(len).ok()
}

/// Does anything in the whole pickle stand for another task? Hardly ever, and then no argument needs a look.
fn has_references(reader: &mut Reader<'_>) -> bool {
    reader.nodes.ids().any(|id| {
        reader.nodes.kind(id) == Kind::Global
            && match reader.name(id) {
                Name::Task | Name::Barrier | Name::Alias | Name::DataNode | Name::Reference => true,
                Name::Range | Name::Other => false,
            }
    })
}

/// What all rows share: where function and named arguments are remembered, and what the latter depend on.
struct Shared {
    func: u32,
    kwargs: Option<u32>,
    dependencies: Vec<NodeId>,
}

struct Expansion<'r, 'a> {
    reader: &'r mut Reader<'a>,
    splitter: Splitter<'a>,
    has_references: bool,
}

const TASK: &[u8] = b"\x8c\x0fdask._task_spec\x8c\x04Task\x93";
const ALIAS: &[u8] = b"\x8c\x0fdask._task_spec\x8c\x05Alias\x93";
const DATA_NODE: &[u8] = b"\x8c\x0fdask._task_spec\x8c\x08DataNode\x93";

impl Expansion<'_, '_> {
    /// Writes what every row begins with: function and named arguments, remembered and taken off the stack again;
    /// then an empty task and the start of its state.
    fn common(&mut self, call: &MapCall, tasks: &mut Vec<GraphTask>, rows: usize) -> Result<Shared, Stop> {
        let kwargs = self.reader.nodes.entries(call.kwargs).ok_or("named arguments that are no dict")?;
        let maker = self.reader.nodes.new_obj(call.func);
        if maker.is_some_and(|(class, _)| self.reader.name(class) != Name::Other) {
            return Err("a task as the function of a map".into());
        }
        let mut own_task = Vec::with_capacity(kwargs.len());
        for &(name, value) in &kwargs {
            own_task.push(self.large_kwarg(name, value, tasks)?);
        }
        self.splitter.begin();
        self.splitter.node(call.func)?;
        let mut shared = Shared { func: self.splitter.remember(), kwargs: None, dependencies: Vec::new() };
        self.splitter.raw(b"0");
        if !kwargs.is_empty() {
            self.splitter.raw(b"}");
            for (&(name, value), own_task) in kwargs.iter().zip(own_task) {
                self.splitter.node(name)?;
                if own_task {
                    self.alias(name)?;
                    shared.dependencies.push(name);
                } else {
                    self.argument(value, &mut shared.dependencies, 0)?;
                }
                self.splitter.raw(b"s");
            }
            shared.kwargs = Some(self.splitter.remember());
            self.splitter.raw(b"0");
        }
        if rows > 1 && self.splitter.pickle_bytes() > COMMON_BYTES {
            self.outsource(&mut shared);
        }
        self.splitter.raw(TASK);
        self.splitter.raw(b")\x81(\x89");
        self.splitter.set_common();
        Ok(shared)
    }

    /// Turns what was written into a buffer that the rows refer to: `partial(loads, buffers=[...])(buffer)` gives the
    /// function and the named arguments back.
    fn outsource(&mut self, shared: &mut Shared) {
        self.splitter.recall(shared.func);
        match shared.kwargs {
            Some(kwargs) => self.splitter.recall(kwargs),
            None => self.splitter.raw(b"}"),
        }
        self.splitter.raw(b"\x86");
        let inner = self.splitter.finish();
        self.splitter.begin();
        self.splitter.raw(b"\x8c\x09functools\x8c\x07partial\x93\x8c\x06pickle\x8c\x05loads\x93");
        let loads = self.splitter.remember();
        self.splitter.raw(b"\x85R(");
        self.splitter.recall(loads);
        self.splitter.raw(b")}\x8c\x07buffers](");
        inner.buffers.iter().for_each(|buffer| self.splitter.buffer(buffer.clone()));
        self.splitter.raw(b"esNtb");
        self.splitter.buffer(inner.pickle);
        self.splitter.raw(b"\x85R");
        let pair = self.splitter.remember();
        self.splitter.raw(b"0");
        shared.func = self.item(pair, 0);
        shared.kwargs = shared.kwargs.map(|_| self.item(pair, 1));
    }

    /// Remembers `pair[at]`.
    fn item(&mut self, pair: u32, at: u8) -> u32 {
        self.splitter.raw(b"\x8c\x08operator\x8c\x07getitem\x93");
        self.splitter.recall(pair);
        self.splitter.raw(&[b'K', at, 0x86, b'R']);
        let slot = self.splitter.remember();
        self.splitter.raw(b"0");
        slot
    }

    /// A large value becomes a task under the name of its argument, as in Dask.
    fn large_kwarg(&mut self, name: NodeId, value: NodeId, tasks: &mut Vec<GraphTask>) -> Result<bool, Stop> {
        self.splitter.begin();
        self.splitter.raw(DATA_NODE);
        self.splitter.node(name)?;
        let before = self.splitter.size_bytes();
        self.splitter.node(value)?;
        if self.splitter.size_bytes() - before <= KWARG_BYTES || self.is_reference(value, 0)? {
            return Ok(false);
        }
        self.splitter.raw(b"\x86R");
        let run_spec = self.splitter.finish_wire();
        tasks.push(GraphTask {
            key: self.reader.key(name)?,
            run_spec: Some(Arc::new(run_spec)),
            // No row can run before it.
            order: Some(-1.0),
            data_producer: true,
            ..GraphTask::default()
        });
        Ok(true)
    }

    fn row(&mut self, shared: &Shared, key: NodeId, columns: &[Column], row: usize) -> Result<GraphTask, Stop> {
        self.splitter.begin();
        let mut needs = shared.dependencies.clone();
        if self.has_references {
            self.find_references(columns, row, &mut needs)?;
        }
        self.splitter.raw(b"(");
        for &need in &needs {
            self.splitter.node(need)?;
        }
        self.splitter.raw(b"\x91NNN");
        match columns.len() {
            1..=3 => (),
            _ => self.splitter.raw(b"("),
        }
        let mut again = Vec::new();
        for column in columns {
            match column {
                Column::Nodes(items) => {
                    let &item = items.get(row).ok_or("a row that is too short")?;
                    self.argument(item, &mut again, 0)?;
                }
                Column::Range { start, step, .. } => {
                    let number = step.checked_mul(row as i128).and_then(|by| start.checked_add(by));
                    let number = number.and_then(|number| i64::try_from(number).ok());
                    self.splitter.int(number.ok_or("a range past 64 bits")?);
                }
            }
        }
        self.splitter.raw(match columns.len() {
            1 => b"\x85",
            2 => b"\x86",
            3 => b"\x87",
            _ => b"t",
        });
        self.splitter.recall(shared.func);
        self.splitter.node(key)?;
        match shared.kwargs {
            Some(kwargs) => self.splitter.recall(kwargs),
            None => self.splitter.raw(b"}"),
        }
        self.splitter.raw(b"tb");
        let dependencies = self.keys_of(&needs)?;
        let run_spec = Some(Arc::new(self.splitter.finish_wire()));
        Ok(GraphTask { key: self.reader.key(key)?, dependencies, run_spec, ..GraphTask::default() })
    }

    fn keys_of(&mut self, needs: &[NodeId]) -> Result<Vec<Key>, Stop> {
        let mut keys = Vec::with_capacity(needs.len());
        for &need in needs {
            let key = self.reader.key(need)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// What the arguments of a row refer to: it is written before them.
    fn find_references(&mut self, columns: &[Column], row: usize, needs: &mut Vec<NodeId>) -> Result<(), Stop> {
        for column in columns {
            if let Column::Nodes(items) = column
                && let Some(&item) = items.get(row)
            {
                self.collect_references(item, needs, 0)?;
            }
        }
        Ok(())
    }

    fn collect_references(&mut self, id: NodeId, needs: &mut Vec<NodeId>, depth: u32) -> Result<(), Stop> {
        if !self.is_reference(id, depth)? {
            return Ok(());
        }
        if let Some(key) = self.reference(id) {
            needs.push(key);
        } else if let Some(node) = self.reader.graph_node(id, false) {
            match node {
                GraphNode::Task { dependencies, .. } => {
                    needs.extend_from_slice(self.reader.nodes.tuple(dependencies).unwrap_or_default());
                }
                GraphNode::Alias { target } => needs.push(target),
                GraphNode::Data => (),
            }
        } else {
            for child in self.values_of(id) {
                self.collect_references(child, needs, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The values of a plain container; keys of a dict are never references.
    fn values_of(&self, id: NodeId) -> Vec<NodeId> {
        let values = |entries: Vec<(NodeId, NodeId)>| entries.into_iter().map(|(_, value)| value).collect();
        match self.reader.nodes.kind(id) {
            Kind::List | Kind::Tuple | Kind::Set => self.reader.nodes.items(id).unwrap_or_default(),
            Kind::Dict => self.reader.nodes.entries(id).map(values).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The key that a reference stands for: the last argument of each kind.
    fn reference(&mut self, id: NodeId) -> Option<NodeId> {
        let (function, args) = self.reader.nodes.reduce(id)?;
        (self.reader.name(function) == Name::Reference)
            .then(|| self.reader.nodes.tuple(args)?.last().copied())
            .flatten()
    }

    /// Does this argument, or anything in its plain containers, stand for another task?
    fn is_reference(&mut self, id: NodeId, depth: u32) -> Result<bool, Stop> {
        if !self.has_references {
            return Ok(false);
        }
        if depth > DEPTH_MAX {
            return Err("deeply nested arguments".into());
        }
        match self.reader.nodes.kind(id) {
            Kind::List | Kind::Tuple | Kind::Set | Kind::Dict => {
                for child in self.values_of(id) {
                    if self.is_reference(child, depth + 1)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Kind::Reduce | Kind::NewObj | Kind::NewObjEx => {
                if self.reference(id).is_some() || self.reader.graph_node(id, false).is_some() {
                    return Ok(true);
                }
                // A named tuple, or a subclass of dict, is looked into by Dask; which objects are that, only Python
                // knows. Objects without a reference inside are safe either way.
                if self.holds_reference(id) { Err("an object that holds a future".into()) } else { Ok(false) }
            }
            _ => Ok(false),
        }
    }

    fn holds_reference(&mut self, id: NodeId) -> bool {
        let nodes = self.reader.nodes;
        nodes
            .below(id)
            .into_iter()
            .any(|id| nodes.kind(id) == Kind::Global && !matches!(self.reader.name(id), Name::Other | Name::Range))
    }

    /// Writes an argument as Dask would after `parse_input`.
    fn argument(&mut self, id: NodeId, needs: &mut Vec<NodeId>, depth: u32) -> Result<(), Stop> {
        if !self.is_reference(id, depth)? {
            return Ok(self.splitter.node(id)?);
        }
        if depth == 0 {
            self.collect_references(id, needs, 0)?;
        }
        if let Some(key) = self.reference(id) {
            return self.alias(key);
        }
        let class = match self.reader.nodes.kind(id) {
            Kind::List => "List",
            Kind::Tuple => "Tuple",
            Kind::Set => "Set",
            Kind::Dict => return self.dict_argument(id, needs, depth),
            _ => return Ok(self.splitter.node(id)?),
        };
        self.container_class(class);
        self.splitter.raw(b"(");
        for child in self.values_of(id) {
            self.argument(child, needs, depth + 1)?;
        }
        self.splitter.raw(b"tR");
        Ok(())
    }

    fn dict_argument(&mut self, id: NodeId, needs: &mut Vec<NodeId>, depth: u32) -> Result<(), Stop> {
        self.container_class("Dict");
        self.splitter.raw(b"}(");
        for (key, value) in self.reader.nodes.entries(id).unwrap_or_default() {
            self.splitter.node(key)?;
            self.argument(value, needs, depth + 1)?;
        }
        self.splitter.raw(b"u\x85R");
        Ok(())
    }

    fn container_class(&mut self, name: &str) {
        self.splitter.raw(b"\x8c\x0fdask._task_spec");
        self.splitter.text(name);
        self.splitter.raw(b"\x93");
    }

    /// `Alias(key)`.
    fn alias(&mut self, key: NodeId) -> Result<(), Stop> {
        self.splitter.raw(ALIAS);
        self.splitter.node(key)?;
        self.splitter.raw(b"\x85R");
        Ok(())
    }
}
