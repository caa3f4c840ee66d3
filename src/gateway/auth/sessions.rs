//! What is remembered about who is who: tokens, sessions, the hub's answers, failures. One task owns it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::token::{SecretHash, TokenRole, random_secret};
use super::user::User;
use crate::clock::unix_ms;
use crate::store::{NewToken, StoreError, StoreHandle, TokenRecord};

/// A session's life. The cookie says ten minutes, dask-gateway's server honours it for five.
const SESSION_LIFE: Duration = Duration::from_secs(300);
/// The hub is asked again after this, so a token revoked there soon stops working here.
const HUB_LIFE: Duration = Duration::from_secs(30);
/// Failures in a row that a person's typing may cause.
const FAILURES_FREE: f64 = 20.0;
/// Failures that are forgotten per second.
const FAILURES_FORGOTTEN: f64 = 0.5;
/// Most entries of each table: they are small, and whoever fills them must not fill the memory.
const ENTRIES_MAX: usize = 10_000;
/// Requests that may wait for the task; each takes microseconds.
const QUEUE: usize = 1024;
/// Uses of a token are noted at most this often. Unit: milliseconds.
const USE_NOTED_MS: i64 = 60_000;

/// A token that exists; `Err`: it has expired.
pub(in crate::gateway) type Known = Result<User, Expired>;

/// It was right once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// The tables, and the rules over them. Time is given.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    tokens: HashMap<SecretHash, TokenRecord>,
    /// Of this process; the CLI on this machine reads it from a file.
    own: Option<SecretHash>,
    sessions: HashMap<SecretHash, (User, Instant)>,
    hub_users: HashMap<SecretHash, (User, Instant)>,
    /// Count and when it was true.
    failures: HashMap<IpAddr, (f64, Instant)>,
}

impl Sessions {
    pub(super) fn add(&mut self, record: TokenRecord) {
        if let Some(hash) = SecretHash::read(&record.token.hash) {
            self.tokens.insert(hash, record);
        }
    }

    /// The user of a token, and its id if its use is to be noted.
    fn token(&mut self, hash: SecretHash, now_ms: i64) -> Option<(Known, Option<String>)> {
        if self.own == Some(hash) {
            return Some((Ok(User { name: String::new(), admin: true }), None));
        }
        let record = self.tokens.get_mut(&hash)?;
        if record.token.expires_ms.is_some_and(|end| end <= now_ms) {
            return Some((Err(Expired), None));
        }
        // Other roles (of machines that join, say) open other doors than this one.
        let role = TokenRole::read(&record.token.role)?;
        let stale = record.used_ms.is_none_or(|used| now_ms.saturating_sub(used) >= USE_NOTED_MS);
        if stale {
            record.used_ms = Some(now_ms);
        }
        let user = User { name: record.token.user.clone(), admin: role == TokenRole::Admin };
        Some((Ok(user), stale.then(|| record.token.id.clone())))
    }

    pub(super) fn session(&self, id: SecretHash, now: Instant) -> Option<User> {
        self.sessions.get(&id).filter(|(_, end)| *end > now).map(|(user, _)| user.clone())
    }

    pub(super) fn open_session(&mut self, user: User, now: Instant) -> String {
        make_room(&mut self.sessions, |(_, end)| *end > now);
        let id = random_secret();
        self.sessions.insert(SecretHash::of(&id), (user, now + SESSION_LIFE));
        id
    }

    /// How long somebody with too many failures must wait. Unit: seconds.
    pub(super) fn blocked_for(&self, who: IpAddr, now: Instant) -> Option<u64> {
        let over = self.failures_of(who, now) - FAILURES_FREE;
        (over >= 0.0).then(|| ((over + 1.0) / FAILURES_FORGOTTEN).ceil() as u64)
    }

    pub(super) fn failed(&mut self, who: IpAddr, now: Instant) {
        let count = (self.failures_of(who, now) + 1.0).min(FAILURES_FREE + 1.0);
        make_room(&mut self.failures, |(count, since)| decayed(*count, *since, now) > 1.0);
        self.failures.insert(who, (count, now));
    }

    fn failures_of(&self, who: IpAddr, now: Instant) -> f64 {
        self.failures.get(&who).map_or(0.0, |(count, since)| decayed(*count, *since, now))
    }

    /// A token that was revoked opens nothing any more, the sessions it began included. Returns whose it was.
    fn forget(&mut self, id: &str) -> Vec<String> {
        let users: Vec<String> =
            self.tokens.values().filter(|kept| kept.token.id == id).map(|kept| kept.token.user.clone()).collect();
        self.tokens.retain(|_, record| record.token.id != id);
        self.sessions.retain(|_, (user, _)| !users.contains(&user.name));
        users
    }
}

fn decayed(count: f64, since: Instant, now: Instant) -> f64 {
    (count - now.saturating_duration_since(since).as_secs_f64() * FAILURES_FORGOTTEN).max(0.0)
}

/// Drops what is over, and everything if that is not enough.
fn make_room<K: Eq + Hash, V>(table: &mut HashMap<K, V>, still_counts: impl Fn(&V) -> bool) {
    if table.len() >= ENTRIES_MAX {
        table.retain(|_, entry| still_counts(entry));
    }
    if table.len() >= ENTRIES_MAX {
        table.clear();
    }
}

type Job = Box<dyn FnOnce(&mut Sessions) + Send>;

/// A handle on the sessions, which one task owns.
#[derive(Clone, Debug)]
pub struct SessionsHandle {
    jobs: mpsc::Sender<Job>,
    store: StoreHandle,
    /// Users, as their tokens are revoked.
    revoked: broadcast::Sender<String>,
}

impl SessionsHandle {
    /// Reads the tokens and starts the task. Errors: the store's.
    pub async fn start(store: StoreHandle) -> Result<Self, StoreError> {
        let mut sessions = Sessions::default();
        for record in store.tokens().await? {
            sessions.add(record);
        }
        let (jobs, mut inbox) = mpsc::channel::<Job>(QUEUE);
        tokio::spawn(async move {
            while let Some(job) = inbox.recv().await {
                job(&mut sessions);
            }
        });
        Ok(Self { jobs, store, revoked: broadcast::Sender::new(QUEUE) })
    }

    /// `None`: the task is gone, as at the end of the process.
    async fn call<T: Send + 'static>(&self, job: impl FnOnce(&mut Sessions) -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |sessions| {
            let _gone = reply.send(job(sessions));
        });
        self.jobs.send(job).await.ok()?;
        answer.await.ok()
    }

    pub(super) async fn session(&self, id: SecretHash) -> Option<User> {
        self.call(move |sessions| sessions.session(id, Instant::now())).await.flatten()
    }

    pub(super) async fn open_session(&self, user: User) -> Option<String> {
        self.call(move |sessions| sessions.open_session(user, Instant::now())).await
    }

    /// Whose token is it? `None`: nobody's.
    pub(in crate::gateway) async fn token(&self, hash: SecretHash, now_ms: i64) -> Option<Known> {
        let (known, used) = self.call(move |sessions| sessions.token(hash, now_ms)).await.flatten()?;
        if let Some(id) = used {
            let store = self.store.clone();
            // Not worth waiting for.
            tokio::spawn(async move {
                if let Err(why) = store.use_token(&id, now_ms).await {
                    tracing::warn!(error = %why, "the use of a token could not be noted");
                }
            });
        }
        Some(known)
    }

    pub(super) async fn blocked_for(&self, who: IpAddr) -> Option<u64> {
        self.call(move |sessions| sessions.blocked_for(who, Instant::now())).await.flatten()
    }

    pub(super) async fn failed(&self, who: IpAddr) {
        self.call(move |sessions| sessions.failed(who, Instant::now())).await;
    }

    pub(super) async fn hub_user(&self, hash: SecretHash) -> Option<User> {
        let now = Instant::now();
        self.call(move |sessions| {
            sessions.hub_users.get(&hash).filter(|(_, end)| *end > now).map(|(user, _)| user.clone())
        })
        .await
        .flatten()
    }

    pub(super) async fn remember_hub_user(&self, hash: SecretHash, user: User) {
        let now = Instant::now();
        self.call(move |sessions| {
            make_room(&mut sessions.hub_users, |(_, end)| *end > now);
            sessions.hub_users.insert(hash, (user, now + HUB_LIFE));
        })
        .await;
    }

    /// Lets the holder of `secret` do everything, as long as this process lives.
    pub async fn set_own(&self, secret: &str) {
        let hash = SecretHash::of(secret);
        self.call(move |sessions| sessions.own = Some(hash)).await;
    }

    /// All tokens, those that expired too. Errors: the store's.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.store.tokens().await
    }

    /// Keeps a token: from now on it opens. Errors: the store's, and then it does not.
    pub async fn keep(&self, token: NewToken) -> Result<(), StoreError> {
        self.store.create_token(token.clone()).await?;
        self.call(move |sessions| sessions.add(TokenRecord { token, used_ms: None })).await;
        Ok(())
    }

    /// Revokes a token, at once. `false`: there was none. Errors: the store's; it opens nothing all the same.
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        let wanted = id.to_owned();
        for user in self.call(move |sessions| sessions.forget(&wanted)).await.unwrap_or_default() {
            // Nobody may have anything open.
            let _listeners = self.revoked.send(user);
        }
        self.store.revoke_token(id).await
    }

    /// Waits until a token of `user` is revoked: answers without an end must end then, and may be asked for anew.
    pub fn revoked(&self, user: &User) -> impl Future<Output = ()> + Send + use<> {
        let (mut news, name) = (self.revoked.subscribe(), user.name.clone());
        async move {
            loop {
                match news.recv().await {
                    Ok(user) if user == name => return,
                    Ok(_) => {}
                    // It may have been among those that were missed.
                    Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        }
    }

    /// Has the token expired by now?
    pub fn expired(record: &TokenRecord) -> bool {
        record.token.expires_ms.is_some_and(|end| end <= unix_ms())
    }
}
