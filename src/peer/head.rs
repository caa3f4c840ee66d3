//! The head's side: who joined, who is there, what each should run. One owner task; handles ask it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::attempts::Attempts;
use super::envlock::EnvLock;
use super::member::{Effect, Event, LinkId, Member};
use super::message::{Facts, GroupState, GroupWant, JoinAnswer, JoinAsk, LOG_LINES_MAX, RenewAsk, ToHead, ToPeer};
use super::token::{JoinToken, Pin, hex};
use crate::base::{Blame, Now};
use crate::clock::{Clock, random_bytes, unix_ms};
use crate::pki::Authority;
use crate::store::{JoinTokenRecord, PeerRecord, StoreError, StoreHandle, TokenUse};

/// A peer's certificate lives this long, and is renewed at two thirds of it. Unit: seconds.
pub const CERTIFICATE_SECS: u64 = 24 * 3600;
/// Longest invitation. Unit: seconds.
pub const TOKEN_TTL_MAX_SECS: u64 = 30 * 24 * 3600;
/// Most machines with one invitation.
pub const TOKEN_USES_MAX: u32 = 10_000;
/// Most members: far above a LAN's machines, far below what would hurt.
const PEERS_MAX: usize = 2_000;
/// Commands and news waiting for the owner; senders beyond that wait.
const QUEUE: usize = 256;
/// Messages waiting for a slow peer. The newest wish says all, so a peer that is this far behind is cut off.
const TO_PEER_QUEUE: usize = 64;
/// Between looks at deadlines.
const TICK: Duration = Duration::from_millis(250);
/// News that a slow listener may miss; it looks at the whole view then.
const EVENTS: usize = 256;
/// Longest wait for the owner, or for a log from a peer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest name.
const NAME_MAX: usize = 63;

/// What listeners (the fleet, the dashboard) should know at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// What may be placed where has changed: look at [`HeadHandle::peers`].
    Changed,
    /// Its workers are lost: the schedulers should not wait for them.
    Lost {
        /// Its name.
        peer: String,
    },
    /// Its workers should be retired with their data; say [`HeadHandle::emptied`] when that is done.
    Retire {
        /// Its name.
        peer: String,
    },
}

/// A joined machine, for lists and for placement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerView {
    /// What people call it.
    pub name: String,
    /// What its certificate calls it.
    pub id: String,
    /// `joining up late gone draining drained`
    pub state: &'static str,
    /// May workers be placed on it?
    pub usable: bool,
    /// Are its workers counted on?
    pub keeps_workers: bool,
    /// From where it is connected.
    pub address: Option<IpAddr>,
    /// Our address as it reaches us.
    pub head_address: Option<IpAddr>,
    /// Since the last beat. None: it never came. Unit: milliseconds.
    pub silent_ms: Option<u64>,
    /// Its clock minus ours, at the last beat. Unit: milliseconds.
    pub clock_skew_ms: i64,
    /// Unit: milliseconds since the epoch.
    pub joined_ms: i64,
    /// What it said of itself.
    pub facts: Facts,
    /// Its groups of workers.
    pub groups: Vec<GroupState>,
}

/// Why a machine may not join, or a request about one cannot be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// What was sent is no join token, or none of ours.
    BadToken(String),
    /// Too many wrong tries from there. Unit: seconds.
    TooMany {
        /// Until the next may be made.
        retry_secs: u64,
    },
    /// Its request to sign makes no sense.
    BadRequest(String),
    /// There is no such machine.
    Unknown(String),
    /// So many machines are enough.
    Full,
    /// The store does not answer.
    Store(String),
    /// The owner is ending, or does not answer.
    Busy,
}

impl HeadError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::BadToken(_) | Self::TooMany { .. } | Self::BadRequest(_) | Self::Unknown(_) => Blame::Caller,
            Self::Full | Self::Store(_) | Self::Busy => Blame::World,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadToken(why) => f.write_str(why),
            Self::TooMany { retry_secs } => {
                write!(f, "too many wrong tries from this address; the next may be made in {retry_secs} s")
            }
            Self::BadRequest(why) => write!(f, "the request for a certificate makes no sense: {why}"),
            Self::Unknown(name) => write!(f, "no machine called {name} has joined"),
            Self::Full => write!(f, "{PEERS_MAX} machines have joined already"),
            Self::Store(why) => write!(f, "the store does not keep it: {why}"),
            Self::Busy => f.write_str("the head is stopping or overloaded"),
        }
    }
}

impl std::error::Error for HeadError {}

impl From<StoreError> for HeadError {
    fn from(why: StoreError) -> Self {
        Self::Store(why.to_string())
    }
}

/// A handle on the members. Cheap to clone.
#[derive(Clone)]
pub struct HeadHandle {
    inbox: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<Vec<PeerView>>>,
    events: broadcast::Sender<PeerEvent>,
    links: Arc<AtomicU64>,
    office: Arc<Office>,
}

impl fmt::Debug for HeadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadHandle")
    }
}

/// What signing and keeping take; nothing here changes.
struct Office {
    authority: Arc<Authority>,
    pin: Pin,
    store: StoreHandle,
    settings: HeadSettings,
}

/// What a head is told at its start.
#[derive(Clone, Debug)]
pub struct HeadSettings {
    /// `https://head:8787`, as other machines reach us.
    pub url: String,
    /// Life of members' certificates; [`CERTIFICATE_SECS`] unless set. Unit: seconds.
    pub certificate_secs: u64,
}

enum Command {
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
    /// The hash of a member's secret.
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
        event: Event,
        reply: oneshot::Sender<Result<(), HeadError>>,
    },
    Remove {
        name: String,
        reply: oneshot::Sender<Result<(), HeadError>>,
    },
    Want {
        peer: String,
        cluster: String,
        want: Option<GroupWant>,
    },
    Lock(EnvLock),
    Logs {
        peer: String,
        cluster: String,
        tail: usize,
        reply: oneshot::Sender<Vec<String>>,
    },
}

struct OpenLink {
    link: LinkId,
    address: IpAddr,
    head_address: IpAddr,
    to: mpsc::Sender<ToPeer>,
}

/// The head's end of an open link. Dropping it says that the link is gone.
pub struct LinkEnd {
    /// What to send.
    pub messages: mpsc::Receiver<ToPeer>,
    id: String,
    link: LinkId,
    inbox: mpsc::Sender<Command>,
}

impl LinkEnd {
    /// Something came.
    pub async fn said(&self, message: ToHead) {
        // Without an owner the appliance is ending, and the link with it.
        let _ending = self.inbox.send(Command::Said { id: self.id.clone(), link: self.link, message }).await;
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        let command = Command::Unlinked { id: std::mem::take(&mut self.id), link: self.link };
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
        let office = Arc::new(Office { authority, pin, store, settings });
        let mut owner = Owner {
            clock: Clock::start(),
            peers: BTreeMap::new(),
            attempts: Attempts::default(),
            locks: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            shown,
            events: events.clone(),
            office: Arc::clone(&office),
        };
        for record in known {
            let member = Member::remembered(owner.clock.now(), record.drained);
            owner.peers.insert(record.id.clone(), Peer::new(record, member));
        }
        owner.show();
        tokio::spawn(owner.run(commands));
        Ok(Self { inbox, view, events, links: Arc::default(), office })
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
        &self.office.settings.url
    }

    /// The key that join tokens name.
    pub fn pin(&self) -> Pin {
        self.office.pin
    }

    /// Makes an invitation. Returns its text, which is not kept, and its record.
    pub async fn invite(&self, ttl_secs: u64, uses: u32) -> Result<(String, JoinTokenRecord), HeadError> {
        let token = JoinToken::make(self.office.pin);
        let now = unix_ms();
        let life_ms = i64::try_from(ttl_secs.min(TOKEN_TTL_MAX_SECS).saturating_mul(1000)).unwrap_or(i64::MAX);
        let record = JoinTokenRecord {
            id: token.id.clone(),
            hash: token.hash(),
            created_ms: now,
            expires_ms: now.saturating_add(life_ms),
            uses_left: uses.clamp(1, TOKEN_USES_MAX),
            used_ms: None,
        };
        self.office.store.create_join_token(record.clone()).await?;
        Ok((token.text(), record))
    }

    /// All invitations.
    pub async fn invitations(&self) -> Result<Vec<JoinTokenRecord>, HeadError> {
        Ok(self.office.store.join_tokens().await?)
    }

    /// Withdraws an invitation. `false`: there is none of that id.
    pub async fn withdraw(&self, id: &str) -> Result<bool, HeadError> {
        Ok(self.office.store.revoke_join_token(id).await?)
    }

    /// A machine asks to join.
    pub async fn join(&self, ask: &JoinAsk, from: IpAddr) -> Result<JoinAnswer, HeadError> {
        self.admit(from).await?;
        let token = match JoinToken::parse(&ask.token) {
            Ok(token) => token,
            Err(why) => return Err(self.wrong(from, format!("{why}")).await),
        };
        // The request first: a token is not spent on a request that cannot be met.
        let id = format!("p{}", hex(&random_bytes::<6>()));
        let cert = self.sign(&ask.csr, &id)?;
        match self.office.store.use_join_token(&token.hash(), unix_ms()).await? {
            TokenUse::Taken(token) => tracing::info!(%from, token, id, "a machine joins"),
            TokenUse::Unknown => return Err(self.wrong(from, "this join token is not known here: it was revoked, or made by another head; make one with: rask token create --join".to_owned()).await),
            TokenUse::Expired(id) => {
                return Err(self.wrong(from, format!("the join token {id} has expired; make another with: rask token create --join")).await);
            }
            TokenUse::UsedUp(id) => {
                return Err(self.wrong(from, format!("the join token {id} was used already; make another with: rask token create --join (--uses N for several machines)")).await);
            }
        }
        let secret = hex(&random_bytes::<20>());
        let record = PeerRecord {
            id: id.clone(),
            name: clean_name(&ask.name),
            secret_hash: hash(&secret),
            joined_ms: unix_ms(),
            drained: false,
        };
        let record = self.ask(|reply| Command::Join { record, reply }).await??;
        self.office.store.upsert_peer(record.clone()).await?;
        let ca = self.office.authority.pair().cert_pem.clone();
        Ok(JoinAnswer { id, name: record.name, cert, ca, secret: Some(secret), now_ms: unix_ms() })
    }

    /// A machine was away for longer than its certificate lived.
    pub async fn renew(&self, ask: &RenewAsk, from: IpAddr) -> Result<JoinAnswer, HeadError> {
        self.admit(from).await?;
        let id = ask.id.clone();
        let known = self.ask(|reply| Command::SecretHash { id, reply }).await?;
        let right = known.filter(|(_, kept)| bool::from(kept.as_bytes().ct_eq(hash(&ask.secret).as_bytes())));
        let Some((name, _)) = right else {
            return Err(self
                .wrong(from, "this machine is not a member any more; join again with a new token".to_owned())
                .await);
        };
        let cert = self.sign(&ask.csr, &ask.id)?;
        let ca = self.office.authority.pair().cert_pem.clone();
        Ok(JoinAnswer { id: ask.id.clone(), name, cert, ca, secret: None, now_ms: unix_ms() })
    }

    fn sign(&self, csr: &str, id: &str) -> Result<String, HeadError> {
        let life = self.office.settings.certificate_secs;
        self.office.authority.issue_member(csr, id, life).map_err(|why| HeadError::BadRequest(why.to_string()))
    }

    async fn admit(&self, from: IpAddr) -> Result<(), HeadError> {
        let admitted = self.ask(|reply| Command::Admit { from, reply }).await?;
        admitted.map_err(|retry_secs| HeadError::TooMany { retry_secs })
    }

    async fn wrong(&self, from: IpAddr, why: String) -> HeadError {
        let _ending = self.inbox.send(Command::Failed { from }).await;
        tracing::warn!(%from, why, "a machine may not join");
        HeadError::BadToken(why)
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
        let known = self.ask(|reply| Command::Linked { id: id.clone(), link: open, reply }).await?;
        if known.is_none() {
            return Err(HeadError::Unknown(id));
        }
        Ok(LinkEnd { messages, id, link, inbox: self.inbox.clone() })
    }

    /// Nothing new there, and its data elsewhere.
    pub async fn drain(&self, name: &str) -> Result<(), HeadError> {
        self.change(name, Event::Drain).await
    }

    /// Used again after a drain.
    pub async fn resume(&self, name: &str) -> Result<(), HeadError> {
        self.change(name, Event::Resume).await
    }

    /// Its workers are retired.
    pub async fn emptied(&self, name: &str) -> Result<(), HeadError> {
        self.change(name, Event::Empty).await
    }

    async fn change(&self, name: &str, event: Event) -> Result<(), HeadError> {
        let name = name.to_owned();
        self.ask(|reply| Command::Change { name, event, reply }).await?
    }

    /// Forgets a machine, at once: its certificate opens nothing any more.
    pub async fn remove(&self, name: &str) -> Result<(), HeadError> {
        let name = name.to_owned();
        self.ask(|reply| Command::Remove { name, reply }).await?
    }

    /// What a cluster wants on a machine; `None`: nothing (more).
    pub async fn want(&self, peer: &str, cluster: &str, want: Option<GroupWant>) {
        let command = Command::Want { peer: peer.to_owned(), cluster: cluster.to_owned(), want };
        let _ending = self.inbox.send(command).await;
    }

    /// An environment that groups may name from now on.
    pub async fn offer_lock(&self, lock: EnvLock) {
        let _ending = self.inbox.send(Command::Lock(lock)).await;
    }

    /// The last lines of a group's log. Empty: there are none, or the machine does not answer.
    pub async fn logs(&self, peer: &str, cluster: &str, tail: usize) -> Vec<String> {
        let (peer, cluster) = (peer.to_owned(), cluster.to_owned());
        self.ask(|reply| Command::Logs { peer, cluster, tail: tail.min(LOG_LINES_MAX), reply })
            .await
            .unwrap_or_default()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, HeadError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.inbox.send(command(reply)).await.map_err(|_| HeadError::Busy)?;
            answer.await.map_err(|_| HeadError::Busy)
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| HeadError::Busy)?
    }
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

/// Letters, digits and `._-`: it becomes part of workers' names, of paths and of tables.
fn clean_name(asked: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let clean: String = asked.chars().take(NAME_MAX).map(|c| if allowed(c) { c } else { '-' }).collect();
    let clean = clean.trim_matches(['-', '.']);
    if clean.is_empty() { "peer".to_owned() } else { clean.to_owned() }
}

struct Peer {
    record: PeerRecord,
    member: Member,
    facts: Facts,
    groups: Vec<GroupState>,
    skew_ms: i64,
    address: Option<IpAddr>,
    head_address: Option<IpAddr>,
    to: Option<mpsc::Sender<ToPeer>>,
    wants: BTreeMap<String, GroupWant>,
    /// Hashes of the locks that went over the present link.
    told: Vec<String>,
}

impl Peer {
    fn new(record: PeerRecord, member: Member) -> Self {
        Self {
            record,
            member,
            facts: Facts::default(),
            groups: Vec::new(),
            skew_ms: 0,
            address: None,
            head_address: None,
            to: None,
            wants: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// A peer that does not keep up is cut off: it comes back and hears all anew.
    fn send(&mut self, message: ToPeer) {
        if self.to.as_ref().is_some_and(|to| to.try_send(message).is_err()) {
            self.to = None;
        }
    }

    fn view(&self, now: Now) -> PeerView {
        PeerView {
            name: self.record.name.clone(),
            id: self.record.id.clone(),
            state: self.member.word(),
            usable: self.member.is_usable(),
            keeps_workers: self.member.keeps_workers(),
            address: self.address,
            head_address: self.head_address,
            silent_ms: self.member.last_beat().map(|beat| now.0.saturating_sub(beat.0) / 1000),
            clock_skew_ms: self.skew_ms,
            joined_ms: self.record.joined_ms,
            facts: self.facts.clone(),
            groups: self.groups.clone(),
        }
    }
}

struct Owner {
    clock: Clock,
    peers: BTreeMap<String, Peer>,
    attempts: Attempts,
    locks: BTreeMap<String, EnvLock>,
    calls: BTreeMap<u64, oneshot::Sender<Vec<String>>>,
    next_call: u64,
    shown: watch::Sender<Arc<Vec<PeerView>>>,
    events: broadcast::Sender<PeerEvent>,
    office: Arc<Office>,
}

impl Owner {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                _ = tick.tick() => {
                    self.calls.retain(|_, reply| !reply.is_closed());
                    let ids: Vec<String> = self.peers.keys().cloned().collect();
                    ids.iter().for_each(|id| self.step(id, Event::Tick));
                }
            }
            self.show();
        }
    }

    /// Those who look see one state, as of the last thing that happened.
    fn show(&self) {
        let now = self.clock.now();
        let mut all: Vec<PeerView> = self.peers.values().map(|peer| peer.view(now)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        self.shown.send_replace(Arc::new(all));
    }

    fn on_command(&mut self, command: Command) {
        // An asker that went away is told nothing.
        match command {
            Command::Admit { from, reply } => drop(reply.send(self.attempts.admit(from, self.clock.now()))),
            Command::Failed { from } => self.attempts.failed(from, self.clock.now()),
            Command::Join { record, reply } => drop(reply.send(self.on_join(record))),
            Command::SecretHash { id, reply } => {
                let known = self.peers.get(&id);
                drop(reply.send(known.map(|peer| (peer.record.name.clone(), peer.record.secret_hash.clone()))));
            }
            Command::Linked { id, link, reply } => drop(reply.send(self.on_linked(&id, link))),
            Command::Said { id, link, message } => self.on_said(&id, link, message),
            Command::Unlinked { id, link } => self.step(&id, Event::Unlinked(link)),
            Command::Change { name, event, reply } => drop(reply.send(self.on_change(&name, event))),
            Command::Remove { name, reply } => drop(reply.send(self.on_remove(&name))),
            Command::Want { peer, cluster, want } => self.on_want(&peer, cluster, want),
            Command::Lock(lock) => drop(self.locks.insert(lock.hash(), lock)),
            Command::Logs { peer, cluster, tail, reply } => self.on_logs(&peer, cluster, tail, reply),
        }
    }

    fn id_of(&self, name: &str) -> Result<String, HeadError> {
        let found = self.peers.values().find(|peer| peer.record.name == name || peer.record.id == name);
        found.map(|peer| peer.record.id.clone()).ok_or_else(|| HeadError::Unknown(name.to_owned()))
    }

    fn on_join(&mut self, mut record: PeerRecord) -> Result<PeerRecord, HeadError> {
        if self.peers.len() >= PEERS_MAX {
            return Err(HeadError::Full);
        }
        let taken = |name: &str| self.peers.values().any(|peer| peer.record.name == name);
        let wanted = record.name.clone();
        let mut number = 2u32;
        while taken(&record.name) {
            record.name = format!("{wanted}-{number}");
            number = number.saturating_add(1);
        }
        let member = Member::joining(self.clock.now());
        self.peers.insert(record.id.clone(), Peer::new(record.clone(), member));
        Ok(record)
    }

    fn on_linked(&mut self, id: &str, open: OpenLink) -> Option<String> {
        let peer = self.peers.get_mut(id)?;
        let name = peer.record.name.clone();
        tracing::info!(peer = name, address = %open.address, "linked");
        // Before the step: it may say what is wanted over the new link.
        (peer.address, peer.head_address) = (Some(open.address), Some(open.head_address));
        peer.to = Some(open.to);
        peer.told.clear();
        peer.send(ToPeer::Welcome { name: name.clone(), now_ms: unix_ms() });
        self.step(id, Event::Linked(open.link));
        self.tell(id);
        Some(name)
    }

    fn on_said(&mut self, id: &str, link: LinkId, message: ToHead) {
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.member.link() == Some(link)) else { return };
        match message {
            ToHead::Beat { facts, groups } => {
                peer.skew_ms = facts.now_ms.saturating_sub(unix_ms());
                let news = peer.groups != groups;
                (peer.facts, peer.groups) = (facts, groups);
                self.step(id, Event::Beat(link));
                if news {
                    self.happened(PeerEvent::Changed);
                }
            }
            ToHead::Sign { csr } => {
                let signed = self.office.authority.issue_member(&csr, id, self.office.settings.certificate_secs);
                match signed {
                    Ok(cert) => peer.send(ToPeer::Certificate { cert }),
                    Err(why) => {
                        tracing::warn!(peer = peer.record.name, %why, "its request for a certificate is refused")
                    }
                }
            }
            ToHead::Lines { call, lines } => {
                if let Some(reply) = self.calls.remove(&call) {
                    drop(reply.send(lines));
                }
            }
            ToHead::Leave => self.step(id, Event::Leave),
        }
    }

    fn on_change(&mut self, name: &str, event: Event) -> Result<(), HeadError> {
        let id = self.id_of(name)?;
        self.step(&id, event);
        let kept = match event {
            Event::Drain => Some(true),
            Event::Resume => Some(false),
            Event::Linked(_) | Event::Beat(_) | Event::Unlinked(_) | Event::Leave | Event::Empty | Event::Tick => None,
        };
        if let (Some(drained), Some(peer)) = (kept, self.peers.get_mut(&id)) {
            peer.record.drained = drained;
            self.office.keep(peer.record.clone());
        }
        Ok(())
    }

    fn on_remove(&mut self, name: &str) -> Result<(), HeadError> {
        let id = self.id_of(name)?;
        self.forget(&id, "it was removed by the head");
        Ok(())
    }

    fn on_want(&mut self, name: &str, cluster: String, want: Option<GroupWant>) {
        let Ok(id) = self.id_of(name) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let changed = match want {
            Some(want) => peer.wants.insert(cluster, want.clone()).as_ref() != Some(&want),
            None => peer.wants.remove(&cluster).is_some(),
        };
        if changed {
            self.tell(&id);
        }
    }

    fn on_logs(&mut self, name: &str, cluster: String, tail: usize, reply: oneshot::Sender<Vec<String>>) {
        let call = self.next_call;
        self.next_call = self.next_call.wrapping_add(1);
        // Dropping `reply` answers too: with nothing.
        let Ok(id) = self.id_of(name) else { return };
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.to.is_some()) else { return };
        peer.send(ToPeer::Logs { call, cluster, tail });
        self.calls.insert(call, reply);
    }

    /// All that is wanted of a machine, with the locks that it has not heard.
    fn tell(&mut self, id: &str) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let named: Vec<String> = peer.wants.values().filter_map(|want| want.lock.clone()).collect();
        for hash in named.into_iter().filter(|hash| !peer.told.contains(hash)).collect::<Vec<_>>() {
            let text = self.locks.get(&hash).and_then(|lock| serde_json::to_string(lock).ok());
            if let Some(text) = text {
                peer.send(ToPeer::Lock { text });
                peer.told.push(hash);
            }
        }
        let groups = peer.wants.values().cloned().collect();
        peer.send(ToPeer::Want { groups });
    }

    fn step(&mut self, id: &str, event: Event) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let before = peer.member.word();
        let effects = peer.member.step(event, self.clock.now());
        let (after, name) = (peer.member.word(), peer.record.name.clone());
        if before != after {
            tracing::info!(peer = name, "{before} -> {after}");
        }
        for effect in effects {
            match effect {
                // The newer one has taken its place already, unless the machine is gone.
                Effect::CloseLink(_) => {
                    if let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.member.link().is_none()) {
                        peer.to = None;
                    }
                }
                Effect::Place => self.happened(PeerEvent::Changed),
                Effect::GiveUpWorkers => {
                    if let Some(peer) = self.peers.get_mut(id) {
                        peer.groups.clear();
                    }
                    self.happened(PeerEvent::Lost { peer: name.clone() });
                }
                Effect::Retire => self.happened(PeerEvent::Retire { peer: name.clone() }),
                Effect::Forget => self.forget(id, "it left"),
            }
        }
    }

    fn forget(&mut self, id: &str, why: &str) {
        let Some(mut peer) = self.peers.remove(id) else { return };
        tracing::info!(peer = peer.record.name, "{why}");
        peer.send(ToPeer::Goodbye { why: why.to_owned() });
        self.happened(PeerEvent::Lost { peer: peer.record.name });
        self.happened(PeerEvent::Changed);
        self.office.drop_record(id.to_owned());
    }

    fn happened(&self, event: PeerEvent) {
        // Nobody may listen.
        let _listeners = self.events.send(event);
    }
}

impl Office {
    /// Membership is in memory; what the store cannot keep now is lost at the next start only, and said.
    fn keep(self: &Arc<Self>, record: PeerRecord) {
        let office = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(why) = office.store.upsert_peer(record).await {
                tracing::error!(%why, "a change of a joined machine could not be kept");
            }
        });
    }

    fn drop_record(self: &Arc<Self>, id: String) {
        let office = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(why) = office.store.remove_peer(&id).await {
                tracing::error!(%why, id, "a removed machine could not be taken off the list of members");
            }
        });
    }
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
