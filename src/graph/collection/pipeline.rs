//! One graph through its optimizer.

use crate::base::{Key, SeededMap, SeededSet, key_prefix};
use crate::graph::error::Stop;
use crate::graph::known::Reader;
use crate::pickle::{Kind, NodeId};

use super::annotate::LayerNotes;
use super::build::Parts;
use super::convert::{Converter, Entry, NodeKind};
use super::fuse;
use super::roots::{Finalize, Layer, Operand, Optimizer};
use super::words::Container;
use super::work::{GraphWork, distinct};

/// Names of fused tasks are cut to this, and get four digits more. Source: `dask/optimization.py`,
/// `default_fused_keys_renamer`.
const NAME_MAX: usize = 115;

/// The tasks of a graph after its optimizer has run. `alone`: there is no other graph beside it.
pub(super) fn read(
    work: &mut GraphWork<'_>,
    operand: Operand,
    alone: bool,
    notes: &mut LayerNotes,
) -> Result<Vec<Entry>, Stop> {
    let mut values = values(work, &operand.layers)?;
    let mut wanted = Vec::new();
    for &key in &operand.keys {
        wanted.push(work.key(key)?);
    }
    if let Some(finalize) = &operand.finalize {
        let task = finalize_task(work, finalize)?;
        wanted.push(task.0);
        values.push(task);
    }
    let is_bag = operand.optimizer == Optimizer::Bag;
    if !is_bag {
        notes.add(work, &operand.layers)?;
    }
    let mut is_key = vec![false; work.index.keys.len()];
    for &(key, ..) in &values {
        mark(&mut is_key, key);
    }
    let only_in_lists = operand.optimizer == Optimizer::Delayed;
    let mut entries = Vec::with_capacity(values.len());
    for (key, key_node, value) in values {
        if !alone && !is_bag && work.graph_node(value)?.is_none() && work.reference(value).is_none() {
            return Err("a legacy task beside another collection".into());
        }
        entries.extend(Converter::new(work, &is_key, only_in_lists).entry(key, key_node, value)?);
    }
    match operand.optimizer {
        Optimizer::Nothing => Ok(entries),
        Optimizer::Delayed => Ok(Culled::new(work, entries, &wanted).into_entries()),
        Optimizer::Bag => optimize_bag(work, entries, &wanted),
    }
}

pub(super) fn mark(flags: &mut Vec<bool>, number: u32) {
    let at = number as usize;
    if at >= flags.len() {
        flags.resize(at + 1, false);
    }
    if let Some(flag) = flags.get_mut(at) {
        *flag = true;
    }
}

/// Keys by number and by node, and their values.
fn values(work: &mut GraphWork<'_>, layers: &[Layer]) -> Result<Vec<(u32, NodeId, NodeId)>, Stop> {
    let mut values = Vec::new();
    let mut seen = SeededMap::default();
    for &(key_node, value) in layers.iter().flat_map(|layer| &layer.mapping) {
        let key = work.key(key_node)?;
        match seen.insert(key, value) {
            None => values.push((key, key_node, value)),
            Some(same) if same == value => {}
            // Which of two values wins depends on the order of layers.
            Some(_) => return Err("a key in several layers".into()),
        }
    }
    Ok(values)
}

/// Source: `dask/_expr.py`, `HLGFinalizeCompute.hlg`.
fn finalize_task(work: &mut GraphWork<'_>, finalize: &Finalize) -> Result<(u32, NodeId, NodeId), Stop> {
    let name = work.nodes.add_text(&finalize.name);
    work.nodes.share(name);
    let number = work.index.intern(Key::text(&finalize.name), name);
    let mut needs = Vec::new();
    let keys = key_list(work, finalize.keys, 0, &mut needs)?;
    distinct(&mut needs);
    let set = work.needs(&needs);
    let args: Vec<NodeId> = std::iter::once(keys).chain(finalize.extra.iter().copied()).collect();
    for &extra in &finalize.extra {
        if work.graph_node(extra)?.is_some() || work.reference(extra).is_some() {
            return Err("a collection that is put together by tasks".into());
        }
    }
    let args = work.nodes.add_tuple(&args);
    let kwargs = work.words.no_kwargs;
    let parts = Parts { key: Some(name), function: finalize.function, args, kwargs, needs: set, data_producer: false };
    Ok((number, name, work.task(&parts)))
}

/// A `List` of references. Source: `dask/_expr.py`, `_convert_dask_keys`.
fn key_list(work: &mut GraphWork<'_>, list: NodeId, depth: u32, needs: &mut Vec<u32>) -> Result<NodeId, Stop> {
    if depth > 20 {
        return Err("keys that nest very deep".into());
    }
    let mut own = Vec::new();
    let mut refs = Vec::new();
    let items = work.nodes.items(list).ok_or("a list with a state")?;
    work.step(items.len())?;
    for item in items {
        if work.nodes.kind(item) == Kind::List {
            refs.push(key_list(work, item, depth + 1, &mut own)?);
        } else {
            own.push(work.key(item)?);
            refs.push(work.task_ref(item));
        }
    }
    distinct(&mut own);
    needs.extend_from_slice(&own);
    let set = work.needs(&own);
    Ok(work.container(Container::List, &refs, set))
}

/// The tasks that are needed, under small numbers: their places.
pub(super) struct Culled {
    pub(super) entries: Vec<Entry>,
    /// Per entry the places of what it needs; numbers past the last for what lies outside.
    pub(super) needs: Vec<Vec<u32>>,
    pub(super) is_wanted: Vec<bool>,
    /// Places in the order in which they were met.
    pub(super) met: Vec<u32>,
}

impl Culled {
    pub(super) fn new(work: &GraphWork<'_>, entries: Vec<Entry>, wanted: &[u32]) -> Self {
        let mut place = vec![u32::MAX; work.index.keys.len()];
        for (entry, at) in entries.iter().zip(0..) {
            if let Some(place) = place.get_mut(entry.key as usize) {
                *place = at;
            }
        }
        let place_of = |key: &u32| place.get(*key as usize).copied().unwrap_or(u32::MAX);
        let needs: Vec<Vec<u32>> = entries.iter().map(|entry| entry.needs.iter().map(place_of).collect()).collect();
        let wanted: Vec<u32> = wanted.iter().map(place_of).collect();
        let mut is_wanted = vec![false; entries.len()];
        for &at in &wanted {
            if let Some(flag) = is_wanted.get_mut(at as usize) {
                *flag = true;
            }
        }
        let met = fuse::cull(&needs, &wanted);
        Self { entries, needs, is_wanted, met }
    }

    fn into_entries(self) -> Vec<Entry> {
        let mut is_met = vec![false; self.entries.len()];
        self.met.iter().for_each(|&at| mark(&mut is_met, at));
        self.entries.into_iter().zip(is_met).filter_map(|(entry, is_met)| is_met.then_some(entry)).collect()
    }
}

/// Source: `dask/bag/core.py`, `optimize`.
fn optimize_bag(work: &mut GraphWork<'_>, entries: Vec<Entry>, wanted: &[u32]) -> Result<Vec<Entry>, Stop> {
    let as_many = wanted.len() == entries.len();
    let culled = Culled::new(work, entries, wanted);
    if as_many && !culled.is_wanted.iter().all(|&is_wanted| is_wanted) {
        // Dask takes this for a graph in which nothing is left to cull.
        return Err("as many wanted keys as tasks, and not the same".into());
    }
    let mut fused = fuse_linear(work, &culled, &culled.met)?;
    for entry in &mut fused {
        entry.node = work.lazify(entry.node, true)?;
        // A task that is made anew forgets that it makes data.
        if let NodeKind::Task { data_producer } = &mut entry.kind {
            *data_producer &= work.is_fused(entry.node);
        }
    }
    Ok(fused)
}

/// The tasks after linear fusion, which looks at them in this order of places.
///
/// Source: `dask/_task_spec.py`, `fuse_linear_task_spec`.
pub(super) fn fuse_linear(work: &mut GraphWork<'_>, culled: &Culled, order: &[u32]) -> Result<Vec<Entry>, Stop> {
    let mut fused = Vec::with_capacity(culled.entries.len());
    let mut names = SeededSet::default();
    for chain in fuse::chains(&culled.needs, order, &culled.is_wanted) {
        let chain: Vec<&Entry> = chain.iter().filter_map(|&at| culled.entries.get(at as usize)).collect();
        match chain.as_slice() {
            [] => {}
            [alone] => fused.push((*alone).clone()),
            [.., top] => {
                let known = work.index.keys.len() as u32;
                let (task, top) = fuse_chain(work, &chain, top)?;
                if task.key < known && task.key != top || !names.insert(task.key) {
                    return Err("a fused task whose name is taken".into());
                }
                if task.key != top {
                    fused.push(alias_to(work, top, task.key));
                }
                fused.push(task);
            }
        }
    }
    Ok(fused)
}

fn alias_to(work: &mut GraphWork<'_>, key: u32, target: u32) -> Entry {
    let node = |number: u32| work.index.nodes.get(number as usize).copied();
    let node = match (node(key), node(target)) {
        (Some(key), Some(target)) => work.alias(Some(key), target),
        _ => work.words.no_args,
    };
    Entry { key, node, needs: vec![target], kind: NodeKind::Alias }
}

/// One task of a chain, and the key that it takes the place of.
///
/// Source: `dask/_task_spec.py`, `GraphNode.fuse`.
fn fuse_chain(work: &mut GraphWork<'_>, chain: &[&Entry], top: &Entry) -> Result<(Entry, u32), Stop> {
    let number = renamed(work, chain, top)?;
    let key_node = |work: &GraphWork<'_>, key: u32| work.index.nodes.get(key as usize).copied();
    let mut pairs = Vec::with_capacity(chain.len() * 2);
    let mut data_producer = false;
    for entry in chain {
        let key = key_node(work, entry.key).ok_or("a key without a node")?;
        work.nodes.share(key);
        pairs.extend([key, entry.node]);
        data_producer |= matches!(entry.kind, NodeKind::Data | NodeKind::Task { data_producer: true });
    }
    // Each of the others needs the one before it alone.
    let outside = chain.first().map(|first| first.needs.clone()).unwrap_or_default();
    if chain.len() > 1 && outside.contains(&top.key) {
        return Err("a chain of tasks that is a circle".into());
    }
    let subgraph = work.nodes.add_dict(&pairs);
    let output = key_node(work, top.key).ok_or("a key without a node")?;
    let keys: Vec<NodeId> = outside.iter().filter_map(|&key| key_node(work, key)).collect();
    keys.iter().for_each(|&key| work.nodes.share(key));
    let inputs = work.nodes.add_tuple(&keys);
    let refs: Vec<NodeId> = keys.into_iter().map(|key| work.task_ref(key)).collect();
    let args: Vec<NodeId> = [subgraph, output, inputs].into_iter().chain(refs).collect();
    let args = work.nodes.add_tuple(&args);
    let needs = work.needs(&outside);
    let (function, kwargs) = (work.words.run_subgraph, work.words.no_kwargs);
    let key = key_node(work, number);
    let node = work.task(&Parts { key, function, args, kwargs, needs, data_producer });
    Ok((Entry { key: number, node, needs: outside, kind: NodeKind::Task { data_producer } }, top.key))
}

/// The key of a fused task. Source: `dask/optimization.py`, `default_fused_keys_renamer`.
fn renamed(work: &mut GraphWork<'_>, chain: &[&Entry], top: &Entry) -> Result<u32, Stop> {
    let key = |number: u32| work.index.keys.get(number as usize).ok_or("a key without a number");
    let top_key = key(top.key)?;
    let own = key_prefix(top_key);
    let mut names = Vec::new();
    for entry in chain {
        names.push(key_prefix(key(entry.key)?));
    }
    names.retain(|name| *name != own);
    names.sort_unstable();
    names.dedup();
    let node = work.index.nodes.get(top.key as usize).copied().ok_or("a key without a node")?;
    let (first, rest) = match work.nodes.tuple(node) {
        None => (node, None),
        Some([first, rest @ ..]) => (*first, Some(rest.to_vec())),
        Some([]) => return Err("a fused task whose name is no text".into()),
    };
    names.push(work.nodes.text(first).ok_or("a fused task whose name is no text")?.to_owned());
    if names.len() == 1 && names.iter().all(|name| name.chars().count() <= NAME_MAX) {
        return Ok(top.key);
    }
    let text = work.nodes.add_text(&shortened(names.join("-")));
    let node = match rest {
        None => text,
        Some(rest) => {
            let items: Vec<NodeId> = std::iter::once(text).chain(rest).collect();
            work.nodes.add_tuple(&items)
        }
    };
    work.nodes.share(node);
    let key = Reader::new(&work.nodes).key(node)?;
    Ok(work.index.intern(key, node))
}

/// Digits of any hash tell names apart whose beginnings are the same.
fn shortened(name: String) -> String {
    let Some((cut, _)) = name.char_indices().nth(NAME_MAX) else { return name };
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}-{:04x}", name.get(..cut).unwrap_or_default(), (hash ^ hash >> 16) & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_as_dask_cuts_them() {
        assert_eq!(shortened("a".repeat(115)).len(), 115);
        let long = shortened(format!("{}x", "a".repeat(115)));
        assert_eq!((long.len(), &long[..116]), (120, &*format!("{}-", "a".repeat(115))));
        assert_ne!(long, shortened(format!("{}y", "a".repeat(115))));
    }
}
