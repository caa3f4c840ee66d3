//! Answers what comes from the control socket and from this process's own pages.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::warn;

use crate::cluster::codec::failures::failure_text;
use crate::cluster::control::ask;
use crate::cluster::control::inbox::Control;
use crate::cluster::ops::dispatch;
use crate::cluster::state::State;
use crate::cluster::views::snapshot::TimelineWindow;
use crate::cluster::views::take_snapshot;
use crate::net::Acceptor;

/// Does what was asked for. Reading the state happens here; what takes longer is left to a task of its own.
pub fn answer_control(state: &mut State, told: Control, handed_over: &Arc<Acceptor>) {
    match told {
        Control::Ask { what, reply } => {
            let view = ask::look(state, &what);
            // The asker may have given up, here and below.
            tokio::spawn(async move { drop(reply.send(view.text())) });
        }
        Control::Snapshot { parts, reply } => drop(reply.send(Box::new(take_snapshot::take(state, &parts)))),
        Control::Rects { from_ms, to_ms, reply } => {
            let chunks = state.records.timeline.between(from_ms, to_ms);
            drop(reply.send(Box::new(TimelineWindow { chunks, ..take_snapshot::stream(state, 0) })));
        }
        Control::Request { body, reply } => {
            let (answer, answered) = oneshot::channel();
            dispatch::on_inner_request(state, &body, answer);
            tokio::spawn(async move {
                let Ok(outcome) = answered.await else { return };
                drop(reply.send(outcome.map_err(|failure| failure_text(&failure))));
            });
        }
        Control::Connection(stream) => {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            match stream {
                Ok(stream) => drop(tokio::spawn(handed_over.clone().serve_stream(stream))),
                Err(error) => warn!(%error, "a connection that was handed over can't be used"),
            }
        }
        Control::Stop => state.close_because("stopped"),
    }
}
