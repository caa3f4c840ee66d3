//! Graphs of delayed, of bags and of arrays, read as `dask` on the scheduler would: converted, culled, fused, annotated,
//! in order. Of arrays Python gives an outline first, in which layers of blocks are templates.
//!
//! Source: `dask/_expr.py`, `_HLGExprSequence`; `dask/delayed.py`, `optimize`; `dask/bag/core.py`, `optimize`.

mod annotate;
mod arrays;
mod blocks;
mod build;
mod convert;
mod fuse;
mod lazify;
mod overlap;
mod pipeline;
mod roots;
mod template;
#[cfg(test)]
mod tests;
mod words;
mod work;

use std::sync::Arc;

use bytes::Bytes;

use crate::base::GraphTask;
use crate::pickle::{Nodes, Splitter};

use super::error::Stop;
use super::input::GraphInput;
use super::order;
use super::vouch::GraphQuestion;

use annotate::LayerNotes;
use convert::{Entry, NodeKind};
use roots::{Operand, Optimizer};
use work::GraphWork;

/// How often Python is asked: once for names, once for objects, and once more for what these turn out to be.
const ASKS_MAX: u32 = 3;

/// The graphs of an expression.
pub(super) struct Collections {
    operands: Vec<Operand>,
    is_sequence: bool,
}

/// The graphs of an expression that is one of delayed or of bags; `None`: it is another.
pub(super) fn recognise(nodes: &Nodes) -> Result<Option<Collections>, Stop> {
    Ok(roots::operands(nodes)?.map(|(operands, is_sequence)| Collections { operands, is_sequence }))
}

/// Whether an expression consists of arrays: Python has to outline it.
pub(super) fn is_of_arrays(nodes: &Nodes) -> bool {
    roots::is_of_arrays(nodes)
}

/// The tasks of arrays, from the outline that Python gave.
pub(super) fn read_outline(nodes: Nodes, buffers: &[Bytes], input: &GraphInput<'_>) -> Result<Vec<GraphTask>, Stop> {
    let outline = arrays::Outline::read(&nodes)?;
    let mut work = GraphWork::new(nodes, buffers, input.vouched);
    let read = outline.tasks(&mut work);
    ask(&mut work, input)?;
    tasks(&work, read?, LayerNotes::new(false), input)
}

/// What Python has to say before the graph is read again.
fn ask(work: &mut GraphWork<'_>, input: &GraphInput<'_>) -> Result<(), Stop> {
    if work.question.objects.is_empty() {
        return Ok(());
    }
    let may_ask = input.asks < ASKS_MAX;
    let question = std::mem::take(&mut work.question);
    Err(if may_ask { Stop::Ask(question) } else { "objects of which Python says nothing".into() })
}

/// The tasks of an expression that was recognised.
pub(super) fn read(
    nodes: Nodes,
    buffers: &[Bytes],
    Collections { operands, is_sequence }: Collections,
    input: &GraphInput<'_>,
) -> Result<Vec<GraphTask>, Stop> {
    let fuses_delayed = match input.vouched.map(super::Vouched::fuses_delayed) {
        Some(None) if input.asks == 0 => return Err(Stop::Ask(GraphQuestion::default())),
        told => told.flatten().unwrap_or(false),
    };
    if fuses_delayed && operands.iter().any(|operand| operand.optimizer == Optimizer::Delayed) {
        return Err("the setting optimization.fuse.delayed".into());
    }
    let mut work = GraphWork::new(nodes, buffers, input.vouched);
    let read = merged(&mut work, operands, is_sequence);
    ask(&mut work, input)?;
    let (entries, notes) = read?;
    tasks(&work, entries, notes, input)
}

/// The tasks of all operands by the numbers of their keys, later ones first; and what their layers are annotated with.
fn merged(
    work: &mut GraphWork<'_>,
    operands: Vec<Operand>,
    is_sequence: bool,
) -> Result<(Vec<Entry>, LayerNotes), Stop> {
    let alone = operands.len() == 1;
    let mut merged: Vec<Option<Entry>> = Vec::new();
    let mut notes = LayerNotes::new(is_sequence);
    for operand in operands {
        for entry in pipeline::read(work, operand, alone, &mut notes)? {
            let at = entry.key as usize;
            if at >= merged.len() {
                merged.resize_with(at + 1, || None);
            }
            if let Some(place) = merged.get_mut(at) {
                *place = Some(entry);
            }
        }
    }
    Ok((merged.into_iter().flatten().collect(), notes))
}

/// The wanted tasks and all they need, in the order in which they should run.
fn tasks(
    work: &GraphWork<'_>,
    entries: Vec<Entry>,
    mut notes: LayerNotes,
    input: &GraphInput<'_>,
) -> Result<Vec<GraphTask>, Stop> {
    let mut needs = vec![Vec::new(); work.index.keys.len()];
    let mut nodes = vec![None; work.index.keys.len()];
    for entry in entries {
        let at = entry.key as usize;
        if let (Some(needs), Some(node)) = (needs.get_mut(at), nodes.get_mut(at)) {
            *needs = entry.needs;
            *node = Some((entry.node, entry.kind));
        }
    }
    let wanted: Vec<u32> = input.keys.iter().filter_map(|key| work.index.find(key)).collect();
    // Where nothing else decides, tasks run in the order in which the user's program made them.
    let mut met = fuse::cull(&needs, &wanted);
    met.sort_unstable();
    let everywhere = super::annotations::read(input.annotations)?;
    let mut splitter = Splitter::new(&work.nodes, work.buffers);
    let mut tasks = Vec::with_capacity(met.len());
    let mut is_data = Vec::with_capacity(met.len());
    for number in met {
        let Some(&Some((node, kind))) = nodes.get(number as usize) else { continue };
        let needs = needs.get(number as usize).into_iter().flatten();
        let run_spec = splitter.part_wire(node)?;
        tasks.push(GraphTask {
            key: work.index.keys.get(number as usize).cloned().unwrap_or_default(),
            dependencies: needs.filter_map(|&need| work.index.keys.get(need as usize).cloned()).collect(),
            run_spec: Some(Arc::new(run_spec)),
            data_producer: matches!(kind, NodeKind::Data | NodeKind::Task { data_producer: true }),
            annotations: notes.of(number, everywhere.as_ref())?,
            ..GraphTask::default()
        });
        is_data.push(kind == NodeKind::Data);
    }
    match input.internal_priority {
        Some(given) => Ok(order::by_client(tasks, given)),
        None => Ok(order::by_graph(tasks, &is_data)?),
    }
}
