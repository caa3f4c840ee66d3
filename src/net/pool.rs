//! Outgoing calls: one question, one answer, over connections that are kept for the next call.

use std::sync::Arc;
use std::time::Duration;

use super::conn::Connection;
use super::error::NetError;
use super::tls::Tls;
use crate::base::Limits;
use crate::wire::Message;

/// Connections to other servers. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Pool {}

impl Pool {
    /// A pool without connections; `tls` is for `tls://` and `wss://` addresses.
    pub fn new(_limits: Arc<Limits>, _tls: Option<Tls>) -> Self {
        Self {}
    }

    /// Asks `message` of `address` and waits for the answer, all within `deadline`.
    /// Errors: no connection in time, broken connection, no answer in time.
    pub async fn call(&self, _address: &str, _message: Message, _deadline: Duration) -> Result<Message, NetError> {
        Err(NetError::Closed)
    }

    /// As [`Pool::call`], for `get_data`: an answer with `status` `OK` is confirmed with a bare `"OK"`.
    pub async fn call_with_ack(
        &self,
        _address: &str,
        _message: Message,
        _deadline: Duration,
    ) -> Result<Message, NetError> {
        Err(NetError::Closed)
    }

    /// Drops every connection to a peer that is gone; calls under way end with an error.
    pub fn forget(&self, _address: &str) {}

    /// A connection of its own, outside the pool.
    pub async fn connect(&self, _address: &str, _deadline: Duration) -> Result<Connection, NetError> {
        Err(NetError::Closed)
    }

    /// Drops everything; calls under way end with an error.
    pub fn close(&self) {}
}
