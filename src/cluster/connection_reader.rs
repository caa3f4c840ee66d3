//! One task per connection: reads messages, decodes them and puts them into the inbox in order.
//!
//! The task decides nothing. A connection whose messages are malformed ends here, with one line in the log that names the peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::base::{Blame, Limits, Value};
use crate::cluster::state::handle::{ConnId, InboxItem, Line};
use crate::cluster::state::{Handle, State};
use crate::net::{Connection, MessageReader, NetError};
use crate::wire::op::decode_stream;
use crate::wire::{Message, WireError};

static NEXT_CONN: AtomicU64 = AtomicU64::new(1);

/// Serves one connection to its end.
pub async fn serve(connection: Connection, handle: Handle) {
    let Connection { reader, outbox, peer } = connection;
    let conn = NEXT_CONN.fetch_add(1, Ordering::Relaxed);
    let address = peer.address.clone();
    let ahead = usize::try_from(handle.limits().inbox_messages).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
    let gate = Arc::new(Semaphore::new(ahead));
    if !handle.send(InboxItem::Opened { conn, line: Line { outbox, peer, gate: gate.clone() } }).await {
        return;
    }
    match read(conn, reader, &gate, &handle).await {
        Ok(()) => {}
        Err(error) if error.blame() == Blame::Peer => {
            warn!(peer = %address, %error, "closing a connection whose messages are malformed");
        }
        Err(error) => debug!(peer = %address, %error, "connection lost"),
    }
    handle.send(InboxItem::Closed { conn }).await;
}

async fn read(conn: ConnId, mut reader: MessageReader, gate: &Semaphore, handle: &Handle) -> Result<(), NetError> {
    loop {
        // The state gives permits back as messages are dealt with; a closed gate means that the connection was dropped.
        let Ok(permit) = gate.acquire().await else { return Ok(()) };
        permit.forget();
        let Some(message) = reader.recv().await? else { return Ok(()) };
        let inbound = decode(conn, message, handle.limits())?;
        if !handle.send(inbound).await {
            return Ok(());
        }
    }
}

/// A list is a batch of stream operations, a map is a request; anything else is not the protocol.
fn decode(conn: ConnId, message: Message, limits: &Limits) -> Result<InboxItem<State>, WireError> {
    match message.head.first() {
        Some(0x90..=0x9f | 0xdc | 0xdd) => Ok(InboxItem::Items { conn, items: decode_stream(&message, limits)? }),
        _ => match message.to_value(limits)? {
            body @ Value::Map(_) => Ok(InboxItem::Single { conn, body }),
            _ => Err(WireError::Unexpected { what: "a map with op" }),
        },
    }
}
