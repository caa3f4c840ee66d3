//! A submitted graph becomes tasks: submit and map, delayed and bags are read here, a whole-graph pickle from pyhost is
//! split here.
//!
//! Names `base`, `order` and `pickle` only. Never runs Python: what it can't read it hands back as "needs Python".

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod annotations;
mod bulk;
mod collection;
mod compare;
mod error;
mod input;
mod known;
mod low_level;
mod map;
mod order;
mod parts;
#[cfg(test)]
mod tests;
mod vouch;

use bytes::Bytes;

use crate::base::GraphTask;
use crate::pickle;

pub use bulk::split_bulk;
pub use compare::{Comparison, compare};
pub use error::GraphError;
pub use input::{GraphInput, GraphRead};
pub use parts::cut;
pub use vouch::{GlobalName, GraphQuestion, Role, Roles, Verdict, Vouched};

use error::Stop;
use known::Reader;

/// Reads a graph without Python, or says that it takes Python.
///
/// Errors: what even Python would refuse, such as `retries` that is no number.
pub fn read(input: &GraphInput<'_>) -> Result<GraphRead, GraphError> {
    match read_inert(input) {
        Ok((tasks, None)) => Ok(GraphRead::Tasks(tasks)),
        Ok((tasks, Some(names))) => Ok(GraphRead::Unvouched(tasks, names)),
        Err(Stop::Ask(question)) => Ok(GraphRead::Ask(question)),
        Err(Stop::Outline) => Ok(GraphRead::Outline),
        Err(Stop::NeedsPython(why)) => Ok(GraphRead::NeedsPython(why)),
        Err(Stop::Refused(error)) => Err(error),
    }
}

type Read = (Vec<GraphTask>, Option<Vec<GlobalName>>);

fn read_inert(input: &GraphInput<'_>) -> Result<Read, Stop> {
    // What `recreate_error_locally` sends: an empty collection, only for its keys. It has no payload at all.
    if input.expr.frames.is_empty() {
        annotations::read(input.annotations)?;
        return Ok((Vec::new(), None));
    }
    if let Some(outline) = input.outline {
        let nodes = pickle::read(&outline.pickle, outline.buffers.len())?;
        return read_collections(nodes, &outline.buffers, None, input);
    }
    let part = pickle::part_of(input.expr)?;
    let nodes = pickle::read(&part.pickle, part.buffers.len())?;
    let root = nodes.root();
    let (function, args) = nodes.reduce(root).ok_or("the graph is no expression")?;
    let operands = nodes.tuple(args).unwrap_or_default();
    let class = operands.first().and_then(|&class| nodes.global(class));
    if nodes.global(function) != Some(("dask._expr", "Expr._reconstruct")) || !nodes.is_plain(root) {
        return Err("the graph is no expression".into());
    }
    let mut tasks = match (class, operands) {
        (Some(("dask._expr", "LLGExpr")), &[_, graph, _, _]) => {
            low_level::read(&mut Reader::new(&nodes), &part.buffers, graph, input)?
        }
        (Some(("distributed.client", "_MapExpr")), &[_, func, iterables, _, _, ref annotations, kwargs, keys, ..]) => {
            if !nodes.is_plain(*annotations) {
                return Err("annotations inside a map".into());
            }
            if input.vouched.is_some_and(|vouched| vouch::has_foreign_references(&nodes, vouched)) {
                return Err("an object that may stand for a task".into());
            }
            let call = map::MapCall { func, iterables, kwargs, keys };
            map::read(&mut Reader::new(&nodes), &part.buffers, &call, input)?
        }
        (Some((module, name)), _) => {
            let other = || Stop::NeedsPython(format!("an expression of class {module}.{name}").into());
            if collection::is_of_arrays(&nodes) {
                return Err(if input.vouched.is_some() { Stop::Outline } else { other() });
            }
            let found = collection::recognise(&nodes)?.ok_or_else(other)?;
            return read_collections(nodes, &part.buffers, Some(found), input);
        }
        (None, _) => return Err("an expression whose class is made by a call".into()),
    };
    if let Some(annotations) = annotations::read(input.annotations)? {
        tasks.iter_mut().for_each(|task| task.annotations = Some(annotations.clone()));
    }
    Ok((tasks, input.vouched.and_then(|vouched| vouch::must_load(&nodes, vouched))))
}

/// What names mean has to be known before tasks are told from other tuples. `found`: none where it is an outline.
fn read_collections(
    nodes: pickle::Nodes,
    buffers: &[Bytes],
    found: Option<collection::Collections>,
    input: &GraphInput<'_>,
) -> Result<Read, Stop> {
    let names = input.vouched.and_then(|vouched| vouch::must_load(&nodes, vouched));
    if let Some(names) = names.as_ref().filter(|names| !names.is_empty() && input.asks == 0) {
        // A name with a number sign is no name of a module's: that the graph loads is all that can be said of it.
        let load = names.iter().any(|(_, name)| name.contains('#'));
        return Err(Stop::Ask(GraphQuestion { names: names.clone(), load, ..GraphQuestion::default() }));
    }
    if input.vouched.is_some_and(|vouched| vouch::has_foreign_references(&nodes, vouched)) {
        return Err("an object that may stand for a task".into());
    }
    let tasks = match found {
        Some(found) => collection::read(nodes, buffers, found, input)?,
        None => collection::read_outline(nodes, buffers, input)?,
    };
    Ok((tasks, names.filter(|_| !input.was_loaded).map(|_| Vec::new())))
}
