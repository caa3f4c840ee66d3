//! The head's side: who joined, who is there, what each should run. One owner task; handles ask it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::command::{HeadCommand, HeadContext, HeadSettings, OpenLink};
use super::error::{BadToken, HeadError};
use super::lifecycle::{LifecycleEvent, LinkId};
use super::owner::PeersOwner;
use super::view::{PeerEvent, PeerView};
use crate::clock::{random_bytes, unix_ms};
use crate::peer::env_lock::EnvLock;
use crate::peer::token::{JoinToken, Pin};
use crate::peer::wire::{JoinAnswer, JoinAsk, LOG_LINES_MAX, PoolWant, RenewAsk, ToHead, ToPeer};
use crate::pki::Authority;
use crate::store::{JoinTokenRecord, PeerRecord, StoreHandle, TokenUse};

/// A peer's certificate lives this long, and is renewed at two thirds of it. Unit: seconds.
pub const CERTIFICATE_SECS: u64 = 24 * 3600;
/// Longest invitation. Unit: seconds.
pub const TOKEN_TTL_MAX_SECS: u64 = 30 * 24 * 3600;
/// Most machines with one invitation.
pub const TOKEN_USES_MAX: u32 = 10_000;
/// Commands and news waiting for the owner; senders beyond that wait.
const QUEUE: usize = 256;
/// Messages waiting for a slow peer. The newest wish says all, so a peer that is this far behind is cut off.
const TO_PEER_QUEUE: usize = 64;
/// News that a slow listener may miss; it looks at the whole view then.
const EVENTS: usize = 256;
/// Longest wait for the owner, or for a log from a peer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest name.
const NAME_MAX: usize = 63;

/// A handle on the joined machines. Cheap to clone.
#[derive(Clone)]
pub struct HeadHandle {
    inbox: mpsc::Sender<HeadCommand>,
    view: watch::Receiver<Arc<Vec<PeerView>>>,
    events: broadcast::Sender<PeerEvent>,
    links: Arc<AtomicU64>,
    context: Arc<HeadContext>,
}

impl fmt::Debug for HeadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadHandle")
    }
}

/// The head's end of an open link. Dropping it says that the link is gone.
pub struct LinkEnd {
    /// What to send.
    pub messages: mpsc::Receiver<ToPeer>,
    id: String,
    link: LinkId,
    inbox: mpsc::Sender<HeadCommand>,
}

impl LinkEnd {
    pub async fn said(&self, message: ToHead) {
        // Without an owner the appliance is ending, and the link with it.
        let _ending = self.inbox.send(HeadCommand::Said { id: self.id.clone(), link: self.link, message }).await;
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        let command = HeadCommand::Unlinked { id: std::mem::take(&mut self.id), link: self.link };
        // A full inbox: silence tells the same a little later.
        let _late = self.inbox.try_send(command);
    }
}

impl HeadHandle {
    /// Starts the owner, with the machines that joined before.
    ///
    /// Errors: the store.
    pub async fn start(
        authority: Arc<Authority>,
        pin: Pin,
        store: StoreHandle,
        settings: HeadSettings,
    ) -> Result<Self, HeadError> {
        let known = store.peers().await?;
        let (inbox, commands) = mpsc::channel(QUEUE);
        let (shown, view) = watch::channel(Arc::default());
        let events = broadcast::Sender::new(EVENTS);
        let context = Arc::new(HeadContext { authority, pin, store, settings });
        let owner = PeersOwner::new(known, shown, events.clone(), Arc::clone(&context));
        tokio::spawn(owner.run(commands));
        Ok(Self { inbox, view, events, links: Arc::default(), context })
    }

    /// All machines, as of now.
    pub fn peers(&self) -> Arc<Vec<PeerView>> {
        Arc::clone(&self.view.borrow())
    }

    /// A machine by name.
    pub fn peer(&self, name: &str) -> Option<PeerView> {
        self.view.borrow().iter().find(|peer| peer.name == name).cloned()
    }

    /// Follows [`Self::peers`].
    pub fn watch(&self) -> watch::Receiver<Arc<Vec<PeerView>>> {
        self.view.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }

    /// Where other machines reach us.
    pub fn url(&self) -> &str {
        &self.context.settings.url
    }

    /// The key that join tokens name.
    pub fn pin(&self) -> Pin {
        self.context.pin
    }

    /// Makes an invitation. Returns its text, which is not kept, and its record.
    pub async fn invite(&self, ttl_secs: u64, uses: u32) -> Result<(String, JoinTokenRecord), HeadError> {
        self.make_token(None, ttl_secs, uses).await
    }

    /// The same for machines that are for one cluster only.
    pub async fn invite_for(
        &self,
        cluster: &str,
        ttl_secs: u64,
        uses: u32,
    ) -> Result<(String, JoinTokenRecord), HeadError> {
        self.make_token(Some(cluster.to_owned()), ttl_secs, uses).await
    }

    async fn make_token(
        &self,
        reserved: Option<String>,
        ttl_secs: u64,
        uses: u32,
    ) -> Result<(String, JoinTokenRecord), HeadError> {
        let token = JoinToken::make(self.context.pin);
        let now = unix_ms();
        let life_ms = i64::try_from(ttl_secs.min(TOKEN_TTL_MAX_SECS).saturating_mul(1000)).unwrap_or(i64::MAX);
        let record = JoinTokenRecord {
            id: token.id.clone(),
            hash: token.hash(),
            created_ms: now,
            expires_ms: now.saturating_add(life_ms),
            uses_left: uses.clamp(1, TOKEN_USES_MAX),
            used_ms: None,
            reserved,
        };
        self.context.store.create_join_token(record.clone()).await?;
        Ok((token.text(), record))
    }

    /// All invitations.
    pub async fn invitations(&self) -> Result<Vec<JoinTokenRecord>, HeadError> {
        Ok(self.context.store.join_tokens().await?)
    }

    /// Withdraws all invitations for a cluster.
    pub async fn withdraw_of(&self, cluster: &str) -> Result<(), HeadError> {
        Ok(self.context.store.revoke_join_tokens_of(cluster).await?)
    }

    /// Withdraws an invitation. `false`: there is none of that id.
    pub async fn withdraw(&self, id: &str) -> Result<bool, HeadError> {
        Ok(self.context.store.revoke_join_token(id).await?)
    }

    /// A machine asks to join.
    pub async fn join(&self, ask: &JoinAsk, from: IpAddr) -> Result<JoinAnswer, HeadError> {
        self.admit(from).await?;
        let token = match JoinToken::parse(&ask.token) {
            Ok(token) => token,
            Err(error) => return Err(self.wrong(from, error.into()).await),
        };
        // The request first: a token is not spent on a request that cannot be met.
        let id = format!("p{}", HEXLOWER.encode(&random_bytes::<6>()));
        let cert = self.sign(&ask.csr, &id)?;
        let reserved = match self.context.store.use_join_token(&token.hash(), unix_ms()).await? {
            TokenUse::Taken { id: token, reserved } => {
                tracing::info!(%from, token, id, "a machine joins");
                reserved
            }
            TokenUse::Unknown => return Err(self.wrong(from, BadToken::Unknown).await),
            TokenUse::Expired(id) => return Err(self.wrong(from, BadToken::Expired(id)).await),
            TokenUse::UsedUp(id) => return Err(self.wrong(from, BadToken::UsedUp(id)).await),
        };
        let secret = HEXLOWER.encode(&random_bytes::<20>());
        let record = PeerRecord {
            id: id.clone(),
            name: clean_name(&ask.name),
            secret_hash: hash(&secret),
            joined_ms: unix_ms(),
            drained: false,
            passing: ask.passing,
            reserved,
            job: ask.job.as_deref().map(clean_name),
        };
        let record = self.ask(|reply| HeadCommand::Join { record, reply }).await??;
        self.context.store.upsert_peer(record.clone()).await?;
        let ca = self.context.authority.pair().cert_pem.clone();
        Ok(JoinAnswer { id, name: record.name, cert, ca, secret: Some(secret), now_ms: unix_ms() })
    }

    /// A machine was away for longer than its certificate lived.
    pub async fn renew(&self, ask: &RenewAsk, from: IpAddr) -> Result<JoinAnswer, HeadError> {
        self.admit(from).await?;
        let id = ask.id.clone();
        let known = self.ask(|reply| HeadCommand::SecretHash { id, reply }).await?;
        let right = known.filter(|(_, kept)| bool::from(kept.as_bytes().ct_eq(hash(&ask.secret).as_bytes())));
        let Some((name, _)) = right else {
            return Err(self.wrong(from, BadToken::Removed).await);
        };
        let cert = self.sign(&ask.csr, &ask.id)?;
        let ca = self.context.authority.pair().cert_pem.clone();
        Ok(JoinAnswer { id: ask.id.clone(), name, cert, ca, secret: None, now_ms: unix_ms() })
    }

    fn sign(&self, csr: &str, id: &str) -> Result<String, HeadError> {
        let life = self.context.settings.certificate_secs;
        self.context.authority.issue_peer(csr, id, life).map_err(HeadError::BadRequest)
    }

    async fn admit(&self, from: IpAddr) -> Result<(), HeadError> {
        let admitted = self.ask(|reply| HeadCommand::Admit { from, reply }).await?;
        admitted.map_err(|retry_secs| HeadError::TooMany { retry_secs })
    }

    async fn wrong(&self, from: IpAddr, reason: BadToken) -> HeadError {
        let _ending = self.inbox.send(HeadCommand::Failed { from }).await;
        tracing::warn!(%from, %reason, "a machine may not join");
        reason.into()
    }

    /// A machine proved by its certificate to be `id`, and opened its link.
    ///
    /// Errors: it was removed.
    pub async fn linked(&self, id: &str, address: IpAddr, head_address: IpAddr) -> Result<LinkEnd, HeadError> {
        let link = self.links.fetch_add(1, Ordering::Relaxed);
        let (to, messages) = mpsc::channel(TO_PEER_QUEUE);
        let (address, head_address) = (address.to_canonical(), head_address.to_canonical());
        let open = OpenLink { link, address, head_address, to };
        let id = id.to_owned();
        let known = self.ask(|reply| HeadCommand::Linked { id: id.clone(), link: open, reply }).await?;
        if known.is_none() {
            return Err(HeadError::Unknown(id));
        }
        Ok(LinkEnd { messages, id, link, inbox: self.inbox.clone() })
    }

    /// Nothing new there, and its data elsewhere.
    pub async fn drain(&self, name: &str) -> Result<(), HeadError> {
        self.change(name, LifecycleEvent::Drain).await
    }

    /// Used again after a drain.
    pub async fn resume(&self, name: &str) -> Result<(), HeadError> {
        self.change(name, LifecycleEvent::Resume).await
    }

    async fn change(&self, name: &str, event: LifecycleEvent) -> Result<(), HeadError> {
        let name = name.to_owned();
        self.ask(|reply| HeadCommand::Change { name, event, reply }).await?
    }

    /// Forgets a machine, at once: its certificate opens nothing any more.
    pub async fn remove(&self, name: &str) -> Result<(), HeadError> {
        let name = name.to_owned();
        self.ask(|reply| HeadCommand::Remove { name, reply }).await?
    }

    /// What a cluster wants on a machine; `None`: nothing (more).
    pub async fn want(&self, peer: &str, cluster: &str, want: Option<PoolWant>) {
        let command = HeadCommand::Want { peer: peer.to_owned(), cluster: cluster.to_owned(), want };
        let _ending = self.inbox.send(command).await;
    }

    /// All clusters that ran before this process have said what they want: from now on the machines are told. Before
    /// that they go on as they are.
    pub async fn release(&self) {
        let _ending = self.inbox.send(HeadCommand::Release).await;
    }

    /// An environment that pools may name from now on.
    pub async fn offer_lock(&self, lock: EnvLock) {
        let _ending = self.inbox.send(HeadCommand::Lock(lock)).await;
    }

    /// The last lines of a pool's log. Empty: there are none, or the machine does not answer.
    pub async fn logs(&self, peer: &str, cluster: &str, tail: usize) -> Vec<String> {
        let (peer, cluster) = (peer.to_owned(), cluster.to_owned());
        self.ask(|reply| HeadCommand::Logs { peer, cluster, tail: tail.min(LOG_LINES_MAX), reply })
            .await
            .unwrap_or_default()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> HeadCommand) -> Result<T, HeadError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.inbox.send(command(reply)).await.map_err(|_| HeadError::Busy)?;
            answer.await.map_err(|_| HeadError::Busy)
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| HeadError::Busy)?
    }
}

fn hash(secret: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(secret))
}

/// Letters, digits and `._-`: it becomes part of workers' names, of paths and of tables.
fn clean_name(asked: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let clean: String = asked.chars().take(NAME_MAX).map(|c| if allowed(c) { c } else { '-' }).collect();
    let clean = clean.trim_matches(['-', '.']);
    if clean.is_empty() { "peer".to_owned() } else { clean.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_for_paths_and_tables() {
        assert_eq!(clean_name("node 1/../x"), "node-1-..-x");
        assert_eq!(clean_name("../.."), "peer");
        assert_eq!(clean_name(""), "peer");
        assert_eq!(clean_name(&"x".repeat(200)).len(), NAME_MAX);
    }
}
