//! Submitted graphs, from the client's message to the scheduler: read here if possible, in Python if not.
//!
//! The client's stream waits until its graph is in; nobody else does.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::AbortHandle;
use tracing::debug;

use crate::base::{ClientId, Failure, GraphPart, Key, Opaque, SeededMap, Text, TicketId, Value};
use crate::cluster::codec::{raise, seconds};
use crate::cluster::options::NO_PYTHON;
use crate::cluster::state::Driver;
use crate::graph::{self, GraphError, GraphInput, GraphRead};
use crate::pyhost::{GraphRequest, Pyhost};
use crate::sched::{Actors, Event, GraphOpen};
use crate::wire::op::UpdateGraph;

/// Up to this size a graph is read right away; reading a larger one would hold up everybody.
///
/// Unit: bytes. About a millisecond of reading.
const INLINE_BYTES: usize = 256 << 10;

/// Older clients send a `HighLevelGraph` in `graph_header` and `graph_frames`.
const NO_EXPRESSION: &str = "update-graph carries no expression, as that of clients before distributed 2025.4.0; \
                             upgrade dask and distributed where the client runs";

/// Graphs under way.
#[derive(Debug, Default)]
pub struct Graphs {
    next_ticket: TicketId,
    open: SeededMap<TicketId, Pending>,
    /// What was read and enters the scheduler part by part.
    parts: VecDeque<(TicketId, std::vec::IntoIter<GraphPart>)>,
}

#[derive(Debug)]
struct Pending {
    client: ClientId,
    /// None once it is being read.
    source: Option<Source>,
    /// Reading it in Python; ended when the client leaves.
    job: Option<AbortHandle>,
}

/// What is needed to read a graph.
#[derive(Clone, Debug)]
struct Source {
    expr: Arc<Opaque>,
    keys: Vec<Key>,
    priority: Option<Vec<(Key, f64)>>,
    annotations: Option<Arc<Opaque>>,
}

impl Graphs {
    /// Are there portions to hand over?
    pub fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Graphs that are not in yet.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }
}

impl Driver {
    /// `update-graph`.
    pub fn open_graph(&mut self, client: ClientId, graph: UpdateGraph) {
        let ticket = self.graphs.next_ticket;
        self.graphs.next_ticket += 1;
        let source = match &graph.expr_ser {
            Value::Serialized(expr) | Value::Pickled(expr) => Some(Source {
                expr: expr.clone(),
                keys: graph.keys.clone(),
                priority: graph.internal_priority.filter(|priority| !priority.is_empty()),
                annotations: payload(&graph.annotations),
            }),
            _ => None,
        };
        self.task_notes.on_graph(&graph.keys);
        if self.hooks.wants("update_graph") {
            let keys = Value::Array(graph.keys.iter().map(Key::to_value).collect());
            let client = self.clients.get(&client).map(|link| link.name.clone());
            let kwargs = Value::map([("client", client.into()), ("keys", keys.clone()), ("tasks", keys)]);
            self.hook("update_graph", Vec::new(), kwargs);
        }
        let open = GraphOpen {
            client,
            keys: graph.keys,
            submitting_task: graph.submitting_task,
            fifo_timeout_secs: seconds(&graph.fifo_timeout).unwrap_or(0.0),
            actors: actors(&graph.actors),
        };
        self.graphs.open.insert(ticket, Pending { client, source, job: None });
        if let Some(link) = self.clients.get_mut(&client) {
            link.held = Some(ticket);
        }
        self.apply(Event::GraphOpened { ticket, graph: Box::new(open) });
    }

    /// The scheduler wants the tasks of this graph.
    pub fn read_graph(&mut self, ticket: TicketId) {
        let Some(pending) = self.graphs.open.get_mut(&ticket) else { return };
        let Some(source) = pending.source.take() else {
            return self.fail_graph(ticket, raise("TypeError", NO_EXPRESSION));
        };
        let size = self.graph_part_tasks;
        if source.expr.size_bytes() < INLINE_BYTES {
            let read = source.read(size);
            return self.take_read(ticket, source, read);
        }
        let desk = self.desk.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || (source.read(size), source)).await;
            desk.tell(move |driver| match read {
                Ok((read, source)) => driver.take_read(ticket, source, read),
                Err(_) => driver.fail_graph(ticket, raise("RuntimeError", "reading the graph failed")),
            })
            .await;
        });
    }

    fn take_read(&mut self, ticket: TicketId, source: Source, read: Result<Read, GraphError>) {
        match read {
            Ok(Read::Parts(parts)) => self.take_parts(ticket, parts),
            Ok(Read::NeedsPython(why)) => self.read_in_python(ticket, source, &why),
            Err(error) => self.fail_graph(ticket, error.failure()),
        }
    }

    fn read_in_python(&mut self, ticket: TicketId, source: Source, why: &Text) {
        debug!(ticket, %why, "a graph goes to Python");
        let Some(pyhost) = self.pyhost.clone() else {
            let text = format!("this graph cannot be read without Python ({why}); {NO_PYTHON}");
            return self.fail_graph(ticket, raise("RuntimeError", text));
        };
        let (desk, size) = (self.desk.clone(), self.graph_part_tasks);
        let job = tokio::spawn(async move {
            let outcome = through_python(&pyhost, source, size).await;
            desk.tell(move |driver| match outcome {
                Ok(parts) => driver.take_parts(ticket, parts),
                Err(failure) => driver.fail_graph(ticket, failure),
            })
            .await;
        });
        if let Some(pending) = self.graphs.open.get_mut(&ticket) {
            pending.job = Some(job.abort_handle());
        }
    }

    /// The first part goes in at once, unless others wait their turn.
    fn take_parts(&mut self, ticket: TicketId, parts: Vec<GraphPart>) {
        let alone = !self.graphs.has_parts();
        self.graphs.parts.push_back((ticket, parts.into_iter()));
        if alone {
            self.next_graph_part();
        }
    }

    /// Hands one part to the scheduler; graphs take turns.
    pub fn next_graph_part(&mut self) {
        let Some((ticket, mut rest)) = self.graphs.parts.pop_front() else { return };
        // It may have failed meanwhile.
        if !self.graphs.open.contains_key(&ticket) {
            return;
        }
        let Some(part) = rest.next() else { return };
        let last = rest.len() == 0;
        if !last {
            self.graphs.parts.push_back((ticket, rest));
        }
        let sched = &self.sched;
        self.computations.on_tasks(self.clock.wall(), &part.tasks, || sched.ended_totals());
        self.apply(Event::GraphPart { ticket, part, last });
    }

    fn fail_graph(&mut self, ticket: TicketId, failure: Failure) {
        if self.graphs.open.remove(&ticket).is_some() {
            self.apply(Event::GraphFailed { ticket, failure });
        }
    }

    /// The client is gone: what is still being read for it is of no use.
    pub fn abandon_graphs(&mut self, client: ClientId) {
        let of_client = |(ticket, pending): (&TicketId, &Pending)| (pending.client == client).then_some(*ticket);
        let tickets: Vec<TicketId> = self.graphs.open.iter().filter_map(of_client).collect();
        for ticket in tickets {
            if let Some(job) = self.graphs.open.get_mut(&ticket).and_then(|pending| pending.job.take()) {
                job.abort();
            }
            self.fail_graph(ticket, raise("RuntimeError", "the client is gone"));
        }
    }

    /// Nothing is left to do: what was computed is complete.
    pub fn close_computation(&mut self) {
        if self.computations.is_open()
            && let Some(since) = self.sched.idle_since_us()
        {
            let at_secs = self.clock.started_wall() + since as f64 / 1e6;
            self.computations.close(at_secs, self.sched.ended_totals());
        }
    }

    /// The graph is settled: its client's stream goes on after this step.
    pub fn on_graph_closed(&mut self, ticket: TicketId) {
        self.graphs.open.remove(&ticket);
        let held = self.clients.values_mut().find(|link| link.held == Some(ticket));
        if let Some(link) = held {
            link.held = None;
            let (conn, name) = (link.conn, link.name.clone());
            if let Some(client) = self.sched.client_id(&name) {
                self.resume.push((conn, client));
            }
        }
    }
}

/// A graph that was read, or why Python has to.
enum Read {
    Parts(Vec<GraphPart>),
    NeedsPython(Text),
}

impl Source {
    fn read(&self, size: usize) -> Result<Read, GraphError> {
        let read = graph::read(&GraphInput {
            expr: &self.expr,
            keys: &self.keys,
            internal_priority: self.priority.as_deref(),
            annotations: self.annotations.as_deref(),
        });
        Ok(match read? {
            GraphRead::Tasks(tasks) => Read::Parts(graph::cut(tasks, self.keys.clone(), size)),
            GraphRead::NeedsPython(why) => Read::NeedsPython(why),
        })
    }
}

async fn through_python(pyhost: &Pyhost, source: Source, size: usize) -> Result<Vec<GraphPart>, Failure> {
    let wanted = source.keys.clone();
    let request = GraphRequest {
        expr: source.expr,
        keys: source.keys,
        want_order: source.priority.is_none(),
        annotations: source.annotations,
    };
    let bulk = pyhost.graph(request).await?;
    let priority = source.priority;
    let split = tokio::task::spawn_blocking(move || {
        let mut tasks = graph::split_bulk(&bulk).map_err(|error| error.failure())?;
        if let Some(priority) = priority {
            let orders: SeededMap<Key, f64> = priority.into_iter().collect();
            for task in &mut tasks {
                task.order = orders.get(&task.key).copied().or(task.order);
            }
        }
        Ok(graph::cut(tasks, wanted, size))
    });
    split.await.unwrap_or_else(|_| Err(raise("RuntimeError", "splitting the graph failed")))
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
