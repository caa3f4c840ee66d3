//! What handles tell the owner of the joined machines, and what both work with.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::error::HeadError;
use super::lifecycle::{LifecycleEvent, LinkId};
use crate::peer::env_lock::EnvLock;
use crate::peer::token::Pin;
use crate::peer::wire::{PoolWant, ToHead, ToPeer};
use crate::pki::Authority;
use crate::store::{PeerRecord, StoreHandle};

/// What signing certificates and keeping records take. Nothing here changes.
pub(super) struct HeadContext {
    pub authority: Arc<Authority>,
    pub pin: Pin,
    pub store: StoreHandle,
    pub settings: HeadSettings,
}

/// What a head is told at its start.
#[derive(Clone, Debug)]
pub struct HeadSettings {
    /// `https://head:8787`, as other machines reach us.
    pub url: String,
    /// Life of peers' certificates; [`super::CERTIFICATE_SECS`] unless set. Unit: seconds.
    pub certificate_secs: u64,
}

/// What the owner is told or asked.
pub(super) enum HeadCommand {
    /// May this address try?
    Admit {
        from: IpAddr,
        reply: oneshot::Sender<Result<(), u64>>,
    },
    /// It was wrong.
    Failed {
        from: IpAddr,
    },
    /// A new machine; the answer is the name it got.
    Join {
        record: PeerRecord,
        reply: oneshot::Sender<Result<PeerRecord, HeadError>>,
    },
    /// The name of a peer and the hash of its secret.
    SecretHash {
        id: String,
        reply: oneshot::Sender<Option<(String, String)>>,
    },
    Linked {
        id: String,
        link: OpenLink,
        reply: oneshot::Sender<Option<String>>,
    },
    Said {
        id: String,
        link: LinkId,
        message: ToHead,
    },
    Unlinked {
        id: String,
        link: LinkId,
    },
    Change {
        name: String,
        event: LifecycleEvent,
        reply: oneshot::Sender<Result<(), HeadError>>,
    },
    Remove {
        name: String,
        reply: oneshot::Sender<Result<(), HeadError>>,
    },
    Want {
        peer: String,
        cluster: String,
        want: Option<PoolWant>,
    },
    Lock(EnvLock),
    Release,
    Logs {
        peer: String,
        cluster: String,
        tail: usize,
        reply: oneshot::Sender<Vec<String>>,
    },
}

/// A link that a peer has just opened.
pub(super) struct OpenLink {
    pub link: LinkId,
    pub address: IpAddr,
    pub head_address: IpAddr,
    pub to: mpsc::Sender<ToPeer>,
}
