//! One connection of a peer or client: operations of the node's own, and what Python answers.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::input::{Asker, DataReply, ForPeer, Inbox, NodeInput, PeerCall};
use super::keeper::Keeper;
use super::plan::WorkerPlan;
use super::settle::{settled, together};
use crate::base::{Key, Limits, Opaque, Text, Value};
use crate::net::{Acceptor, Address, Connection, FileFrame, MessageReader, NetError, Outbox, PlainRule, Refusals};
use crate::values::Payload;
use crate::wire::op::request_head;
use crate::wire::{Encoder, Message, WireError};

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Who serves a connection.
#[derive(Clone, Debug)]
pub(super) enum Desk {
    /// With the folder for its files.
    Worker(Arc<Path>),
    Nanny(Arc<Keeper>),
}

/// Takes connections to `us` in; what comes by them goes to `inbox`.
pub(super) fn acceptor(plan: &WorkerPlan, ip: IpAddr, inbox: Inbox, desk: Desk, us: &Text) -> Acceptor {
    let (users, us) = (plan.allow_users.clone(), us.clone());
    Acceptor {
        limits: Arc::new(Limits::default()),
        tls: plan.tls.clone().filter(|_| plan.scheme.is_tls()),
        plain: if plan.scheme.is_tls() {
            PlainRule::Nobody
        } else if ip.is_loopback() {
            PlainRule::LoopbackUsers(users)
        } else {
            PlainRule::OwnUsers(users)
        },
        on_comm: Arc::new(move |connection| serve(connection, inbox.clone(), desk.clone(), us.clone()).boxed()),
        on_http: None,
        refusals: Refusals::default(),
    }
}

/// Serves a connection to its end. `us`: the address that it came to.
async fn serve(connection: Connection, inbox: Inbox, desk: Desk, us: Text) {
    let Connection { reader, outbox, peer } = connection;
    let number = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
    let host = |address: &str| Address::parse(address).map(|address| address.host).ok();
    let by = if host(&peer.address) == host(&us) { Asker::SameHost } else { Asker::OtherHost };
    let (back, from_facade) = mpsc::unbounded_channel();
    let peer = peer.address;
    let mut served = Served { number, peer, by, desk, inbox, outbox, back, from_facade, relayed: false };
    if let Err(error) = served.run(reader).await {
        tracing::debug!(peer = %served.peer, %error, "a peer's connection ended");
    }
    if served.relayed {
        served.tell(PeerCall::Gone { connection: number });
    }
}

struct Served {
    number: u64,
    peer: Text,
    by: Asker,
    desk: Desk,
    inbox: Inbox,
    outbox: Outbox,
    back: mpsc::UnboundedSender<ForPeer>,
    from_facade: mpsc::UnboundedReceiver<ForPeer>,
    /// The facade knows this connection.
    relayed: bool,
}

/// What happens to a connection after a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next request.
    Read,
    /// The facade's answer first.
    Wait,
    /// Messages go both ways unread: it became a stream of the facade's.
    Stream,
    Close,
}

impl Served {
    fn tell(&self, call: PeerCall) -> bool {
        self.inbox.send(NodeInput::Call(call)).is_ok()
    }

    async fn run(&mut self, mut reader: MessageReader) -> Result<(), NetError> {
        let (mut after, mut close) = (After::Read, false);
        loop {
            tokio::select! {
                message = reader.recv(), if after != After::Wait => {
                    let Some(message) = message? else { return Ok(()) };
                    if after == After::Stream {
                        self.relay(message);
                        continue;
                    }
                    let head = request_head(&message)?;
                    close = head.close;
                    after = match self.desk.clone() {
                        Desk::Worker(folder) => self.request(&head.op, head.reply, message, &mut reader, folder).await?,
                        Desk::Nanny(keeper) => self.request_of_nanny(&keeper, &head.op, head.reply, message).await?,
                    };
                }
                word = self.from_facade.recv() => match word {
                    Some(ForPeer::Message(message)) => {
                        self.outbox.send(message);
                        after = if after == After::Wait { After::Read } else { after };
                    }
                    Some(ForPeer::Hangup) | None => after = After::Close,
                },
                // A worker that closed answers nobody any more.
                () = self.inbox.closed() => after = After::Close,
            }
            if after == After::Close || close && after == After::Read {
                self.outbox.close();
                return Ok(());
            }
        }
    }

    async fn request(
        &mut self,
        op: &str,
        reply: bool,
        message: Message,
        reader: &mut MessageReader,
        folder: Arc<Path>,
    ) -> Result<After, NetError> {
        let limits = Limits::default();
        let answer = match op {
            "get_data" => {
                let keys = message.to_value(&limits)?.get("keys").and_then(Value::as_keys);
                let keys = keys.ok_or(WireError::Unexpected { what: "keys" })?;
                self.get_data(keys, reader).await?;
                return Ok(After::Read);
            }
            "update_data" => match values(&message.to_value(&limits)?) {
                Some(values) => {
                    drop(message);
                    let values = settled(values, folder).await?;
                    let sizes = values.iter().map(|(key, payload)| (key.to_value(), payload.size_bytes().into()));
                    let sizes = Value::Map(sizes.collect());
                    self.tell(PeerCall::UpdateData { values });
                    Value::map([("nbytes", sizes), ("status", "OK".into())])
                }
                None => return Ok(self.relay_request(message, op, reply)),
            },
            "free_keys" => {
                let keys = message.to_value(&limits)?.get("keys").and_then(Value::as_keys);
                self.tell(PeerCall::FreeKeys { keys: keys.ok_or(WireError::Unexpected { what: "keys" })? });
                Value::Nil
            }
            "terminate" => {
                self.tell(PeerCall::Terminate);
                "OK".into()
            }
            "close" => {
                if reply {
                    self.outbox.send(Message::from_value(&"OK".into()));
                }
                return Ok(After::Close);
            }
            _ => return Ok(self.relay_request(message, op, reply)),
        };
        if reply {
            self.outbox.send(Message::from_value(&answer));
        }
        Ok(After::Read)
    }

    async fn request_of_nanny(
        &mut self,
        keeper: &Keeper,
        op: &str,
        reply: bool,
        message: Message,
    ) -> Result<After, NetError> {
        let is_close = op == "close";
        let answer = match is_close {
            true => Some("OK".into()),
            // Only what it knows is opened.
            false if Keeper::knows(op) => keeper.answer(op, &message.to_value(&Limits::default())?).await,
            false => None,
        };
        let Some(answer) = answer else { return Ok(self.relay_request(message, op, reply)) };
        if reply {
            self.outbox.send(Message::from_value(&answer));
        }
        Ok(if is_close { After::Close } else { After::Read })
    }

    fn relay(&mut self, message: Message) {
        self.relayed = true;
        let (connection, peer, back) = (self.number, self.peer.clone(), self.back.clone());
        self.tell(PeerCall::Relay { connection, peer, message, back });
    }

    fn relay_request(&mut self, message: Message, op: &str, reply: bool) -> After {
        self.relay(message);
        match (op, reply) {
            ("connection_stream", _) => After::Stream,
            (_, true) => After::Wait,
            (_, false) => After::Read,
        }
    }

    /// Source: `distributed/worker.py`, `get_data`.
    async fn get_data(&mut self, keys: Vec<Key>, reader: &mut MessageReader) -> Result<(), NetError> {
        let (reply, answer) = oneshot::channel();
        self.tell(PeerCall::GetData { keys, by: self.by, reply });
        let (mut payloads, exports, size_bytes) = match answer.await.map_err(|_| NetError::Closed)? {
            DataReply::Busy => {
                self.outbox.send(Message::from_value(&Value::map([("status", "busy".into())])));
                return Ok(());
            }
            DataReply::Ready { payloads, exports, size_bytes } => (payloads, exports, size_bytes),
        };
        let _sent = Sent { inbox: self.inbox.clone(), size_bytes };
        together(&mut payloads, exports).await.ok_or(NetError::Closed)?;
        let (answer, files, lost) = data_answer(payloads);
        if !lost.is_empty() {
            self.tell(PeerCall::Lost { keys: lost });
        }
        self.outbox.send_with_files(answer, files);
        // The second leg: the peer has it all.
        reader.recv().await.map(drop)
    }
}

/// The answer to `get_data`; frames in files are empty in the message. And the keys of values whose files cannot be read.
fn data_answer(payloads: Vec<(Key, Payload)>) -> (Message, Vec<FileFrame>, Vec<Key>) {
    let mut lost = Vec::new();
    let mut found = Vec::with_capacity(payloads.len());
    for (key, payload) in payloads {
        match &payload {
            Payload::Here(_) => found.push((key, payload, None)),
            Payload::Filed(filed) => match filed.opened() {
                Ok(file) => found.push((key, payload, Some(file))),
                Err(_) => lost.push(key),
            },
        }
    }
    let mut out = Encoder::new();
    out.put_map(2);
    out.put_str("status");
    out.put_str("OK");
    out.put_str("data");
    out.put_map(found.len());
    let (mut files, mut next) = (Vec::new(), 0usize);
    for (key, payload, file) in &found {
        out.put_key(key);
        // The sub-header.
        next = next.saturating_add(1);
        match (payload, file) {
            (Payload::Filed(filed), Some(file)) => {
                let frames = vec![Bytes::new(); filed.lengths.len()];
                out.put_serialized(&Opaque { head: filed.head.clone(), frames });
                for (offset, len) in filed.places() {
                    files.push(FileFrame { at: next, file: file.clone(), offset, len });
                    next = next.saturating_add(1);
                }
            }
            (Payload::Here(payload), _) => {
                out.put_serialized(payload);
                next = next.saturating_add(payload.frames.len());
            }
            // It was opened above.
            (Payload::Filed(_), None) => {}
        }
    }
    (out.finish(), files, lost)
}

/// Tells the worker that a transfer to a peer ended, however it did.
pub(super) struct Sent {
    pub(super) inbox: Inbox,
    pub(super) size_bytes: u64,
}

impl Drop for Sent {
    fn drop(&mut self) {
        let _closed = self.inbox.send(NodeInput::Call(PeerCall::Sent { size_bytes: self.size_bytes }));
    }
}

/// The values of an `update_data`; none if one of them is not serialised by itself.
fn values(body: &Value) -> Option<Vec<(Key, Arc<Opaque>)>> {
    let pair = |(key, value): &(Value, Value)| match value {
        Value::Serialized(payload) => Some((key.as_key()?, payload.clone())),
        _ => None,
    };
    body.get("data")?.fields()?.iter().map(pair).collect()
}
