//! What the handlers of one cluster's pages share.

use std::sync::Arc;

use axum::http::{HeaderMap, Method, Uri};

use super::ticket::Tickets;
use crate::feed::Feed;
use crate::http::assets::Assets;

/// What the pages of a cluster are made of.
#[derive(Clone)]
pub(super) struct Site {
    /// The scheduler.
    pub(super) feed: Feed,
    /// The page's files.
    pub(super) assets: Assets,
    /// The cluster's name, under the appliance.
    pub(super) name: Option<Arc<str>>,
    /// Whether requests may change anything.
    pub(super) actions: bool,
    /// For panes without an origin.
    pub(super) tickets: Tickets,
}

impl Site {
    /// Whether this request reads for one of our own panes in a frame without an origin.
    pub(super) fn is_pane(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        self.tickets.admits(method, uri, headers, self.feed.now_secs())
    }
}
