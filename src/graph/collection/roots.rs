//! The expressions that delayed and bags arrive as: which graphs, which optimizer, which keys.
//!
//! Source: `dask/_expr.py`, `HLGExpr` and its kin; `dask/highlevelgraph.py`.

use crate::graph::error::Stop;
use crate::pickle::{Kind, NodeId, Nodes};

/// What the scheduler does to the graph of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Optimizer {
    Nothing,
    /// `dask.delayed.optimize`
    Delayed,
    /// `dask.bag.core.optimize`
    Bag,
}

/// One graph with its optimizer.
pub(super) struct Operand {
    pub(super) layers: Vec<Layer>,
    pub(super) optimizer: Optimizer,
    /// The keys that its collection consists of.
    pub(super) keys: Vec<NodeId>,
    pub(super) finalize: Option<Finalize>,
}

/// A materialised layer.
pub(super) struct Layer {
    pub(super) mapping: Vec<(NodeId, NodeId)>,
    /// A dict, if there are any.
    pub(super) annotations: Option<NodeId>,
}

/// The task that makes one result of the parts of a collection.
pub(super) struct Finalize {
    pub(super) name: String,
    pub(super) function: NodeId,
    /// The nested list of its keys.
    pub(super) keys: NodeId,
    pub(super) extra: Vec<NodeId>,
}

/// The graphs of an expression, and whether it is a sequence of them. `None`: it is of another kind.
pub(super) fn operands(nodes: &Nodes) -> Result<Option<(Vec<Operand>, bool)>, Stop> {
    let Some((class, parts)) = expression(nodes, nodes.root()) else { return Ok(None) };
    match class {
        "_HLGExprSequence" => {
            let operands = parts.iter().map(|&id| operand(nodes, id)).collect::<Result<_, _>>()?;
            Ok(Some((operands, true)))
        }
        "HLGExpr" | "_HLGExprGroup" | "HLGFinalizeCompute" => Ok(Some((vec![operand(nodes, nodes.root())?], false))),
        _ => Ok(None),
    }
}

/// Whether an expression consists of arrays alone.
pub(super) fn is_of_arrays(nodes: &Nodes) -> bool {
    let is_array = |id| {
        let optimizer = expression(nodes, id).and_then(|(_, parts)| parts.get(1));
        optimizer.and_then(|&id| nodes.global(id)) == Some(("dask.array.optimization", "optimize"))
    };
    match expression(nodes, nodes.root()) {
        Some(("_HLGExprSequence", parts)) => !parts.is_empty() && parts.iter().all(|&id| is_array(id)),
        Some(("HLGExpr" | "_HLGExprGroup" | "HLGFinalizeCompute", _)) => is_array(nodes.root()),
        _ => false,
    }
}

/// Name of the class and operands of an expression that brings nothing that it has computed before.
fn expression(nodes: &Nodes, id: NodeId) -> Option<(&str, &[NodeId])> {
    let (function, args) = nodes.reduce(id).filter(|_| nodes.is_plain(id))?;
    if nodes.global(function) != Some(("dask._expr", "Expr._reconstruct")) {
        return None;
    }
    let [class, operands @ .., _token, cache] = nodes.tuple(args)? else { return None };
    let ("dask._expr", class) = nodes.global(*class)? else { return None };
    (nodes.kind(*cache) == Kind::Dict && nodes.is_plain(*cache)).then_some((class, operands))
}

fn operand(nodes: &Nodes, id: NodeId) -> Result<Operand, Stop> {
    let (class, parts) = expression(nodes, id).ok_or("an operand that is no plain expression")?;
    let &[graph, optimizer, keys, _, cached] = parts else { return Err("an expression of other operands".into()) };
    if !nodes.is_none(cached) {
        return Err("a graph that was optimized before".into());
    }
    let optimizer = match nodes.global(optimizer) {
        None if nodes.is_none(optimizer) => Optimizer::Nothing,
        Some(("dask.delayed", "optimize")) => Optimizer::Delayed,
        Some(("dask.bag.core", "optimize")) => Optimizer::Bag,
        Some((module, name)) => return Err(Stop::NeedsPython(format!("the optimizer {module}.{name}").into())),
        None => return Err("an optimizer that is no function".into()),
    };
    match class {
        "HLGExpr" | "_HLGExprGroup" => {
            let keys = flat_keys(nodes, keys)?;
            Ok(Operand { layers: layers(nodes, graph)?, optimizer, keys, finalize: None })
        }
        "HLGFinalizeCompute" => finalized(nodes, id, graph, optimizer),
        _ => Err(Stop::NeedsPython(format!("an operand of class {class}").into())),
    }
}

fn finalized(nodes: &Nodes, id: NodeId, inner: NodeId, optimizer: Optimizer) -> Result<Operand, Stop> {
    let (class, parts) = expression(nodes, inner).ok_or("a collection that is no plain expression")?;
    let (&[graph, _, keys, postcompute, cached], "HLGExpr") = (parts, class) else {
        return Err("a collection of another class".into());
    };
    let &[function, extra] = nodes.tuple(postcompute).unwrap_or_default() else {
        return Err("a collection that is put together in an odd way".into());
    };
    let extra = nodes.tuple(extra).ok_or("a collection that is put together in an odd way")?.to_vec();
    let args = nodes.reduce(id).and_then(|(_, args)| nodes.tuple(args)).unwrap_or_default();
    let token = args.iter().rev().nth(1).and_then(|&token| nodes.text(token)).ok_or("an expression without a token")?;
    if !nodes.is_none(cached) || nodes.kind(keys) != Kind::List {
        return Err("a collection of another form".into());
    }
    let finalize = Finalize { name: format!("finalize-hlgfinalizecompute-{token}"), function, keys, extra };
    Ok(Operand { layers: layers(nodes, graph)?, optimizer, keys: Vec::new(), finalize: Some(finalize) })
}

/// The keys in a list of lists. Source: `dask/core.py`, `flatten`.
fn flat_keys(nodes: &Nodes, keys: NodeId) -> Result<Vec<NodeId>, Stop> {
    if nodes.kind(keys) != Kind::List {
        return Err("a graph whose keys are no list".into());
    }
    let mut flat = Vec::new();
    let mut stack = vec![keys];
    let mut steps = nodes.len();
    while let Some(id) = stack.pop() {
        steps = steps.checked_sub(1).ok_or("keys in lists that contain themselves")?;
        if nodes.kind(id) == Kind::List {
            let items = nodes.items(id).ok_or("a list with a state")?;
            stack.extend(items.into_iter().rev());
        } else {
            flat.push(id);
        }
    }
    Ok(flat)
}

fn layers(nodes: &Nodes, graph: NodeId) -> Result<Vec<Layer>, Stop> {
    let state = state_of(nodes, graph, "HighLevelGraph").ok_or("a graph that is no HighLevelGraph")?;
    let layers = field(nodes, &state, "layers").and_then(|id| nodes.entries(id)).ok_or("a graph without layers")?;
    let mut read = Vec::with_capacity(layers.len());
    let mut tasks = 0;
    for (_, layer) in layers {
        let layer = read_layer(nodes, layer)?;
        tasks += layer.mapping.len();
        // One layer may stand under several names, but then not often.
        if tasks > nodes.len() {
            return Err("layers that repeat themselves".into());
        }
        read.push(layer);
    }
    Ok(read)
}

fn read_layer(nodes: &Nodes, id: NodeId) -> Result<Layer, Stop> {
    let state = state_of(nodes, id, "MaterializedLayer").ok_or_else(|| other_layer(nodes, id))?;
    let mapping = field(nodes, &state, "mapping").and_then(|id| nodes.entries(id)).ok_or("a layer that is no dict")?;
    let annotations = field(nodes, &state, "annotations").filter(|&id| !nodes.is_none(id));
    Ok(Layer { mapping, annotations })
}

fn other_layer(nodes: &Nodes, id: NodeId) -> Stop {
    let class = nodes.new_obj(id).and_then(|(class, _)| nodes.global(class));
    class.map_or_else(
        || "a layer whose class is not named".into(),
        |(module, name)| Stop::NeedsPython(format!("a layer of class {module}.{name}").into()),
    )
}

/// The attributes of an object of exactly this class.
fn state_of(nodes: &Nodes, id: NodeId, class: &str) -> Option<Vec<(NodeId, NodeId)>> {
    let (found, _) = nodes.new_obj(id)?;
    if nodes.global(found)? != ("dask.highlevelgraph", class) {
        return None;
    }
    nodes.entries(nodes.state(id)?)
}

fn field(nodes: &Nodes, state: &[(NodeId, NodeId)], name: &str) -> Option<NodeId> {
    state.iter().rev().find(|(key, _)| nodes.text(*key) == Some(name)).map(|(_, value)| *value)
}
