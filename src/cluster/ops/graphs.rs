//! Submitted graphs, from the client's message to the scheduler: read here if possible, in Python if not.
//!
//! The client's stream waits until its graph is in; nobody else does.

use std::sync::Arc;

use tracing::debug;

use crate::base::{ClientId, Failure, GraphPart, GraphTask, Key, Opaque, Text, TicketId, Value};
use crate::cluster::codec::args::seconds;
use crate::cluster::codec::failures::raise;
use crate::cluster::ops::graph_check::check_graph;
use crate::cluster::ops::graph_parts::{fail_graph, take_parts, through_python};
use crate::cluster::options::NO_PYTHON;
use crate::cluster::state::State;
use crate::cluster::state::graphs::{GraphSource, IncomingGraph};
use crate::graph::{self, GlobalName, GraphError, GraphInput, GraphQuestion, GraphRead, Role, Roles, Verdict, Vouched};
use crate::pyhost::{AskError, PyhostError};
use crate::sched::{Actors, Event, GraphOpen};
use crate::wire::op::UpdateGraph;

/// Up to this size a graph is read right away; reading a larger one would hold up everybody.
///
/// Unit: bytes. About a millisecond of reading.
const INLINE_BYTES: usize = 256 << 10;

/// Older clients send a `HighLevelGraph` in `graph_header` and `graph_frames`.
const NO_EXPRESSION: &str = "update-graph carries no expression, as that of clients before distributed 2025.4.0; \
                             upgrade dask and distributed where the client runs";

/// `update-graph`.
pub fn open_graph(state: &mut State, client: ClientId, graph: UpdateGraph) {
    let ticket = state.graphs.ticket();
    let source = match &graph.expr_ser {
        Value::Serialized(expr) | Value::Pickled(expr) => Some(GraphSource {
            expr: expr.clone(),
            keys: graph.keys.clone(),
            priority: graph.internal_priority.filter(|priority| !priority.is_empty()),
            annotations: payload(&graph.annotations),
            asks: 0,
            outline: None,
            was_loaded: false,
        }),
        _ => None,
    };
    state.records.task_metadata.on_graph(&graph.keys);
    if state.plugins.scheduler.wants("update_graph") {
        let keys = Value::Array(graph.keys.iter().map(Key::to_value).collect());
        let client = state.peers.clients.get(&client).map(|link| link.name.clone());
        let kwargs = Value::map([("client", client.into()), ("keys", keys.clone()), ("tasks", keys)]);
        state.plugins.scheduler.tell("update_graph", Vec::new(), kwargs);
    }
    let open = GraphOpen {
        client,
        keys: graph.keys,
        submitting_task: graph.submitting_task,
        fifo_timeout_secs: seconds(&graph.fifo_timeout).unwrap_or(0.0),
        actors: actors(&graph.actors),
    };
    state.graphs.open.insert(ticket, IncomingGraph { client, source, job: None });
    if let Some(link) = state.peers.clients.get_mut(&client) {
        link.held = Some(ticket);
    }
    state.step(Event::GraphOpened { ticket, graph: Box::new(open) });
}

/// The core wants the tasks of this graph.
pub fn read_graph(state: &mut State, ticket: TicketId) {
    let Some(pending) = state.graphs.open.get_mut(&ticket) else { return };
    let Some(source) = pending.source.take() else {
        return fail_graph(state, ticket, raise("TypeError", NO_EXPRESSION));
    };
    let size = (!state.setup.check_ingest).then_some(state.setup.graph_part_tasks);
    let vouched = state.python.pyhost.is_some().then(|| state.graphs.vouched.clone());
    // A short outline may stand for very many tasks.
    if source.outline.is_none() && source.expr.size_bytes() < INLINE_BYTES {
        let read = read(&source, size, vouched.as_deref());
        return take_read(state, ticket, source, read);
    }
    let handle = state.handle.clone();
    tokio::spawn(async move {
        let read = tokio::task::spawn_blocking(move || (read(&source, size, vouched.as_deref()), source)).await;
        handle
            .tell(move |state| match read {
                Ok((read, source)) => take_read(state, ticket, source, read),
                Err(_) => fail_graph(state, ticket, raise("RuntimeError", "reading the graph failed")),
            })
            .await;
    });
}

fn take_read(state: &mut State, ticket: TicketId, source: GraphSource, read: Result<ReadGraph, GraphError>) {
    match read {
        Ok(ReadGraph::Parts(parts)) => {
            state.graphs.reads.here += 1;
            take_parts(state, ticket, parts);
        }
        Ok(ReadGraph::ToCheck(tasks)) => check_graph(state, ticket, source, tasks),
        Ok(ReadGraph::Unvouched(parts, names)) => {
            state.graphs.reads.here += 1;
            vouch_for(state, ticket, source, (parts, names));
        }
        Ok(ReadGraph::Ask(question)) => ask_python(state, ticket, source, question),
        Ok(ReadGraph::Outline) => outline_in_python(state, ticket, source),
        Ok(ReadGraph::NeedsPython(reason)) => read_in_python(state, ticket, source, &reason),
        Err(error) => fail_graph(state, ticket, error.failure()),
    }
}

fn read_in_python(state: &mut State, ticket: TicketId, source: GraphSource, reason: &Text) {
    debug!(ticket, %reason, "a graph goes to Python");
    state.graphs.reads.count_python(reason);
    let Some(pyhost) = state.python.pyhost.clone() else {
        let text = format!("this graph cannot be read without Python ({reason}); {NO_PYTHON}");
        return fail_graph(state, ticket, raise("RuntimeError", text));
    };
    let (handle, size) = (state.handle.clone(), state.setup.graph_part_tasks);
    let job = tokio::spawn(async move {
        let wanted = source.keys.clone();
        let outcome = through_python(&pyhost, source, false).await.map(|tasks| graph::cut(tasks, wanted, size));
        handle
            .tell(move |state| match outcome {
                Ok(parts) => take_parts(state, ticket, parts),
                Err(failure) => fail_graph(state, ticket, failure),
            })
            .await;
    });
    if let Some(pending) = state.graphs.open.get_mut(&ticket) {
        pending.job = Some(job.abort_handle());
    }
}

/// Loads the graph in Python before any worker does: what cannot be loaded is its client's error and nobody else's.
fn vouch_for(
    state: &mut State,
    ticket: TicketId,
    source: GraphSource,
    (parts, names): (Vec<GraphPart>, Vec<GlobalName>),
) {
    let Some(pyhost) = state.python.pyhost.clone() else { return take_parts(state, ticket, parts) };
    let handle = state.handle.clone();
    let job = tokio::spawn(async move {
        let said = pyhost.vouch(Some(source.expr.clone()), &names, &[]).await;
        handle
            .tell(move |state| match said {
                Ok(answer) => {
                    let question = GraphQuestion { names, ..GraphQuestion::default() };
                    let read_again = remember(state, question, &answer);
                    if read_again { put_back(state, ticket, source) } else { take_parts(state, ticket, parts) }
                }
                Err(AskError::Raised(failure)) => fail_graph(state, ticket, failure),
                // There is no Python to ask: submit and map work without it.
                Err(AskError::NoAnswer(error @ PyhostError::Start { .. })) => {
                    debug!(ticket, %error, "a graph goes to workers that Python did not load");
                    take_parts(state, ticket, parts);
                }
                Err(AskError::NoAnswer(error)) => fail_graph(state, ticket, not_loaded(&error)),
            })
            .await;
    });
    if let Some(pending) = state.graphs.open.get_mut(&ticket) {
        pending.job = Some(job.abort_handle());
    }
}

/// Has Python say what names and objects of a graph are, and reads it again.
fn ask_python(state: &mut State, ticket: TicketId, mut source: GraphSource, question: GraphQuestion) {
    let Some(pyhost) = state.python.pyhost.clone() else {
        return read_in_python(state, ticket, source, &"nobody can be asked about it".into());
    };
    let handle = state.handle.clone();
    let job = tokio::spawn(async move {
        let expr = question.load.then(|| source.expr.clone());
        let said = pyhost.vouch(expr, &question.names, &question.objects).await;
        handle
            .tell(move |state| match said {
                Ok(answer) => {
                    source.asks += 1;
                    source.was_loaded |= question.load;
                    remember(state, question, &answer);
                    put_back(state, ticket, source);
                }
                Err(AskError::Raised(failure)) => fail_graph(state, ticket, failure),
                Err(AskError::NoAnswer(error)) => fail_graph(state, ticket, not_loaded(&error)),
            })
            .await;
    });
    if let Some(pending) = state.graphs.open.get_mut(&ticket) {
        pending.job = Some(job.abort_handle());
    }
}

/// Has Python outline a graph of arrays, and reads it again; without an outline Python reads it all.
fn outline_in_python(state: &mut State, ticket: TicketId, mut source: GraphSource) {
    let Some(pyhost) = state.python.pyhost.clone() else {
        return read_in_python(state, ticket, source, &"nobody can be asked about it".into());
    };
    let handle = state.handle.clone();
    let job = tokio::spawn(async move {
        let said = pyhost.outline(source.expr.clone()).await;
        handle
            .tell(move |state| match said {
                Ok(Ok(outline)) => {
                    source.outline = Some(outline);
                    source.was_loaded = true;
                    put_back(state, ticket, source);
                }
                Ok(Err(reason)) => read_in_python(state, ticket, source, &reason),
                // It fails as any graph that takes Python.
                Err(AskError::NoAnswer(PyhostError::Start { .. })) => {
                    read_in_python(state, ticket, source, &"no Python can be started".into());
                }
                Err(AskError::Raised(failure)) => fail_graph(state, ticket, failure),
                Err(AskError::NoAnswer(error)) => fail_graph(state, ticket, not_loaded(&error)),
            })
            .await;
    });
    if let Some(pending) = state.graphs.open.get_mut(&ticket) {
        pending.job = Some(job.abort_handle());
    }
}

/// Keeps what Python said. Says whether a name stands for results of tasks, which changes how graphs are read.
fn remember(state: &mut State, question: GraphQuestion, answer: &Value) -> bool {
    let list = |name: &str| answer.field(name).and_then(Value::items).unwrap_or_default();
    let names = question.names.into_iter().zip(list("verdicts").iter().map(verdict));
    let names: Vec<_> = names.filter_map(|(name, said)| Some((name, said?))).collect();
    let stands_for_result = names.iter().any(|(_, (verdict, _))| *verdict == Verdict::StandsForResult);
    let objects = question.objects.into_iter().zip(list("roles").iter().map(roles));
    let vouched = Arc::make_mut(&mut state.graphs.vouched);
    vouched.add(names);
    vouched.add_objects(objects.filter_map(|(object, said)| Some((object, said?))));
    if let Some(fuses) = answer.field("fuses_delayed").and_then(Value::as_bool) {
        vouched.set_fuses_delayed(fuses);
    }
    stands_for_result
}

/// It was read without knowing what one of its names means.
fn put_back(state: &mut State, ticket: TicketId, source: GraphSource) {
    let Some(pending) = state.graphs.open.get_mut(&ticket) else { return };
    pending.source = Some(source);
    read_graph(state, ticket);
}

/// Loading it ended Python, or did not end: it would do the same to every worker.
fn not_loaded(error: &PyhostError) -> Failure {
    let text = format!(
        "Error during deserialization of the task graph: {error}\nNo worker was given this graph, since loading it \
         there would end in the same way; look at what its objects do when they are unpickled"
    );
    raise("RuntimeError", text)
}

/// The client is gone, and nobody else wants the graphs that are still being read for it.
pub fn abandon_graphs(state: &mut State, client: ClientId) {
    for ticket in state.graphs.of_client(client) {
        if let Some(job) = state.graphs.open.get_mut(&ticket).and_then(|pending| pending.job.take()) {
            job.abort();
        }
        fail_graph(state, ticket, raise("RuntimeError", "the client is gone"));
    }
}

/// When no task is left to do, the computation that ran is complete.
pub fn close_computation(state: &mut State) {
    if state.records.computations.is_open()
        && let Some(since) = state.sched.idle_since_us()
    {
        let at_secs = state.clock.started_wall() + since as f64 / 1e6;
        state.records.computations.close(at_secs, state.sched.ended_totals());
    }
}

/// The graph is settled: its client's stream goes on after this step.
pub fn on_graph_closed(state: &mut State, ticket: TicketId) {
    state.graphs.open.remove(&ticket);
    let held = state.peers.clients.values_mut().find(|link| link.held == Some(ticket));
    if let Some(link) = held {
        link.held = None;
        let (conn, name) = (link.conn, link.name.clone());
        if let Some(client) = state.sched.client_id(&name) {
            state.pending.resume.push((conn, client));
        }
    }
}

/// A graph that was read, or why Python has to.
enum ReadGraph {
    Parts(Vec<GraphPart>),
    /// Python's reading is to be compared with these tasks.
    ToCheck(Vec<GraphTask>),
    /// Python has to load it first, and to say what it knows of these names.
    Unvouched(Vec<GraphPart>, Vec<GlobalName>),
    /// Python has to answer this; then it is to be read again.
    Ask(GraphQuestion),
    /// Python has to outline it; then it is to be read again.
    Outline,
    NeedsPython(Text),
}

/// `size`: most tasks of a part; `None`: another reading comes first.
fn read(source: &GraphSource, size: Option<usize>, vouched: Option<&Vouched>) -> Result<ReadGraph, GraphError> {
    let read = graph::read(&GraphInput {
        expr: &source.expr,
        keys: &source.keys,
        internal_priority: source.priority.as_deref(),
        annotations: source.annotations.as_deref(),
        vouched,
        asks: source.asks,
        outline: source.outline.as_ref(),
        was_loaded: source.was_loaded,
    });
    let cut = |tasks, size| graph::cut(tasks, source.keys.clone(), size);
    let Some(size) = size else {
        return Ok(match read? {
            GraphRead::Tasks(tasks) | GraphRead::Unvouched(tasks, _) => ReadGraph::ToCheck(tasks),
            GraphRead::Ask(question) => ReadGraph::Ask(question),
            GraphRead::Outline => ReadGraph::Outline,
            GraphRead::NeedsPython(reason) => ReadGraph::NeedsPython(reason),
        });
    };
    Ok(match read? {
        GraphRead::Tasks(tasks) => ReadGraph::Parts(cut(tasks, size)),
        GraphRead::Unvouched(tasks, names) => ReadGraph::Unvouched(cut(tasks, size), names),
        GraphRead::Ask(question) => ReadGraph::Ask(question),
        GraphRead::Outline => ReadGraph::Outline,
        GraphRead::NeedsPython(reason) => ReadGraph::NeedsPython(reason),
    })
}

/// Source: `rask_pyhost/vouching.py`, `verdict`: a number, then the roles.
fn verdict(told: &Value) -> Option<(Verdict, Roles)> {
    let [verdict, own, makes] = told.items()? else { return None };
    let verdict = match verdict.as_i64()? {
        0 => Verdict::LoadsItself,
        1 => Verdict::Resolves,
        2 => Verdict::Rebuilds,
        3 => Verdict::StandsForResult,
        _ => return None,
    };
    Some((verdict, Roles { own: role(own)?, makes: role(makes) }))
}

/// Source: `rask_pyhost/vouching.py`, `roles`.
fn roles(told: &Value) -> Option<Roles> {
    let [own, makes] = told.items()? else { return None };
    Some(Roles { own: role(own)?, makes: role(makes) })
}

fn role(told: &Value) -> Option<Role> {
    match told.as_i64()? {
        0 => Some(Role::Plain),
        1 => Some(Role::Callable),
        2 => Some(Role::NamedTuple),
        3 => Some(Role::Special),
        _ => None,
    }
}

fn payload(value: &Value) -> Option<Arc<Opaque>> {
    match value {
        Value::Pickled(opaque) | Value::Serialized(opaque) => Some(opaque.clone()),
        _ => None,
    }
}

fn actors(value: &Value) -> Actors {
    match value {
        Value::Bool(true) => Actors::All,
        other => match other.as_keys() {
            Some(keys) if !keys.is_empty() => Actors::Keys(keys),
            _ => Actors::None,
        },
    }
}
