//! Requests and replies: the table of operations, and how a request begins and ends.
//!
//! A handler parses, asks the scheduler, answers. What takes several turns is a job with a handle on the driver.
//!
//! Source: `distributed/core.py`, `Server._handle_comm`; `distributed/scheduler.py`, `Scheduler.__init__`.

pub mod clients;
pub mod coord;
pub mod data;
pub mod graphs;
pub mod info;
pub mod plugins;
pub mod publish_barrier;
pub mod python;
pub mod restart;
pub mod retire;
pub mod scheduler_plugins;
pub mod shuffle;
pub mod workers;

use std::future::Future;

use tokio::sync::oneshot;
use tracing::debug;

use crate::base::Value;
use crate::cluster::codec::{failure_reply, raise};
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::{Call, Driver, Outcome};
use crate::wire::Message;

/// What a handler made of a request.
pub enum Done {
    /// It is answered.
    Now(Outcome),
    /// The answer comes later, through [`Driver::finish`].
    Later,
}

impl From<Outcome> for Done {
    fn from(outcome: Outcome) -> Self {
        Self::Now(outcome)
    }
}

impl Driver {
    /// A request came; it is worked on now, or after the one before it.
    pub fn on_request(&mut self, conn: ConnId, body: Value) {
        let Some(line) = self.rpc_line(conn) else { return };
        if line.busy {
            line.waiting.push_back(body);
            return;
        }
        let Some(op) = body.get("op").and_then(Value::as_str).map(str::to_owned) else {
            return self.drop_conn(conn, "a request without op");
        };
        line.busy = true;
        let flag = |name: &str, default: bool| body.get(name).and_then(Value::as_bool).unwrap_or(default);
        let call = Call { conn, reply: flag("reply", true), close: flag("close", false) };
        debug!(conn, op, "request");
        match self.dispatch(&op, call, body) {
            Done::Now(outcome) => self.finish(call, outcome),
            Done::Later => {}
        }
    }

    /// A request from inside this process, answered through `reply`.
    pub fn on_inner_request(&mut self, body: Value, reply: oneshot::Sender<Outcome>) {
        let Some(op) = body.get("op").and_then(Value::as_str).map(str::to_owned) else { return };
        // Counted down from the end: connections are counted up from the beginning.
        self.next_inner = self.next_inner.wrapping_sub(1);
        let call = Call { conn: self.next_inner, reply: true, close: false };
        self.inner_calls.insert(call.conn, reply);
        match self.dispatch(&op, call, body) {
            Done::Now(outcome) => self.finish(call, outcome),
            Done::Later => {}
        }
    }

    /// Answers a request. Nothing happens when the asker is gone.
    pub fn finish(&mut self, call: Call, outcome: Outcome) {
        if let Some(reply) = self.inner_calls.remove(&call.conn) {
            // Whoever asked may have gone away.
            return drop(reply.send(outcome));
        }
        let Some(line) = self.rpc_line(call.conn) else { return };
        line.busy = false;
        line.core_call = None;
        line.job = None;
        if !line.waiting.is_empty() {
            self.answered.push(call.conn);
        }
        let Some(found) = self.conns.get(&call.conn) else { return };
        if call.reply {
            let reply = outcome.unwrap_or_else(|failure| failure_reply("uncaught-error", &failure));
            found.line.outbox.send(Message::from_value(&reply));
        }
        if call.close {
            found.line.outbox.close();
        }
        found.line.gate.add_permits(1);
    }

    /// Works on a request in a task of its own. The request goes on even when the asker is gone.
    pub fn job<F>(&mut self, call: Call, work: F) -> Done
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.start_job(call, work);
        Done::Later
    }

    /// As [`Driver::job`], for work that is of no use without its asker.
    pub fn job_for_asker<F>(&mut self, call: Call, work: F) -> Done
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let handle = self.start_job(call, work);
        if let Some(line) = self.rpc_line(call.conn) {
            line.job = Some(handle);
        }
        Done::Later
    }

    fn start_job<F>(&self, call: Call, work: F) -> tokio::task::AbortHandle
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let desk = self.desk.clone();
        let task = tokio::spawn(async move {
            let outcome = work.await;
            desk.tell(move |driver| driver.finish(call, outcome)).await;
        });
        task.abort_handle()
    }

    fn dispatch(&mut self, op: &str, call: Call, body: Value) -> Done {
        if self.blocked.contains(op) {
            let text = format!("the handler {op:?} has been explicitly disallowed by configuration");
            return Done::Now(Err(raise("ValueError", text)));
        }
        match op {
            "register-client" => {
                self.register_client(call, &body);
                Done::Later
            }
            "register-worker" => {
                self.register_worker(call, body);
                Done::Later
            }
            "register_nanny" => {
                self.register_nanny(call, &body);
                Done::Later
            }
            "heartbeat_worker" => self.heartbeat_worker(&body).into(),
            "close" => {
                self.finish(Call { close: true, ..call }, Ok("OK".into()));
                Done::Later
            }
            "echo" => Done::Now(Ok(body.get("data").cloned().unwrap_or_default())),
            "ping" => Done::Now(Ok(Value::Bin(bytes::Bytes::from_static(b"pong")))),
            _ => self.dispatch_by_family(op, call, body),
        }
    }

    fn dispatch_by_family(&mut self, op: &str, call: Call, body: Value) -> Done {
        let families = [data::dispatch, restart::dispatch, info::dispatch, coord::dispatch, plugins::dispatch];
        for family in families {
            if let Some(done) = family(self, op, call, &body) {
                return done;
            }
        }
        if let Some(done) = python::dispatch(self, op, call, &body) {
            return done;
        }
        if let Some(done) = shuffle::dispatch(self, op, call, &body) {
            return done;
        }
        debug!(op, "unknown operation, answered with nil");
        Done::Now(Ok(Value::Nil))
    }
}
