//! The peer's end of the link: sends heartbeats, does what the head says, and links again when the link breaks.

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

use super::machine::FixedFacts;
use super::membership::{JoinError, Membership, clock_warning};
use crate::clock::{random_u64, unix_ms};
use crate::peer::env_lock::EnvLock;
use crate::peer::wire::HEARTBEAT_US;
use crate::peer::wire::{PoolState, PoolWant, ToHead, ToPeer};
use crate::pki;

const LINK: &str = "/api/rask/v1/peers/link";

/// Silence of the head, which answers the ping of every heartbeat, that makes us open a new link. The head waits for us as long.
const SILENCE: Duration = Duration::from_secs(10);
/// First pause before another try.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest: a head that comes back waits 10 s for us, and a thousand peers that look for it are no load.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longest a message may take to be written.
const WRITE: Duration = Duration::from_secs(10);

/// Answers waiting to be sent.
const ANSWERS: usize = 16;

/// What the head wants of the pools on this machine.
#[derive(Debug)]
pub enum PoolOrder {
    /// All that should be there.
    Want(Vec<PoolWant>),
    /// An environment that pools name.
    Lock(EnvLock),
    /// The last lines of a pool's log; the answer goes back.
    Logs {
        /// Repeated in the answer.
        call: u64,
        cluster: String,
        tail: usize,
        /// To the head.
        answer: mpsc::Sender<ToHead>,
    },
}

/// What the link works with.
pub struct LinkEnds<'a> {
    /// Where the membership is kept.
    pub folder: &'a Path,
    pub fixed: FixedFacts,
    /// To the owner of the pools.
    pub orders: mpsc::Sender<PoolOrder>,
    /// The pools as they are.
    pub states: watch::Receiver<Vec<PoolState>>,
    /// Turns true when a person wants to leave.
    pub leave: watch::Receiver<bool>,
    /// How long to look for a head that is silent. None: for ever.
    pub patience: Option<Duration>,
}

/// Why the link is over for good.
#[derive(Debug)]
pub enum LinkOver {
    /// We left, or the head removed us: the membership is forgotten.
    Goodbye(String),
    /// Somebody must act.
    Failed(JoinError),
}

/// Why one link ended.
enum LinkEnded {
    Goodbye(String),
    Lost(String),
}

/// Keeps the link up until it is over for good. Dropping the future closes it; the head waits for us then.
pub async fn keep_linked(joined: &mut Membership, mut ends: LinkEnds<'_>) -> LinkOver {
    let mut pause = PAUSE_MIN;
    let mut told = false;
    let mut linked = Instant::now();
    loop {
        let since = Instant::now();
        match once(joined, &mut ends).await {
            Ok(LinkEnded::Goodbye(why)) => return LinkOver::Goodbye(why),
            Ok(LinkEnded::Lost(why)) => {
                tracing::warn!(error = why, "the link to the head broke; workers go on, trying again");
                (told, linked) = (true, Instant::now());
            }
            Err(error) => {
                if !may_pass(&error) {
                    return LinkOver::Failed(error);
                }
                // Once per outage, not once per try.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "no link to the head; trying again until there is one");
                }
            }
        }
        if *ends.leave.borrow() {
            return LinkOver::Failed(JoinError::LeavingAlone);
        }
        if let Some(patience) = ends.patience.filter(|patience| linked.elapsed() > *patience) {
            return LinkOver::Failed(JoinError::HeadGone { patience });
        }
        if since.elapsed() > SILENCE {
            (pause, told) = (PAUSE_MIN, false);
        }
        sleep(jitter(pause)).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

fn may_pass(why: &JoinError) -> bool {
    match why {
        JoinError::Call(why) => why.may_pass(),
        // A disk that is full now may have room later; the certificate in memory is good meanwhile.
        JoinError::File { .. } => true,
        JoinError::Pki(_) | JoinError::Contradiction(_) | JoinError::LeavingAlone | JoinError::HeadGone { .. } => false,
    }
}

/// Between half and all of it: peers that lost the same head do not come back in step.
fn jitter(pause: Duration) -> Duration {
    let share = (random_u64() % 1000) as f64 / 2000.0;
    pause.mul_f64(0.5 + share)
}

/// What a link waits for.
enum News {
    /// A heartbeat is due.
    Heartbeat,
    /// The pools changed; or their owner ended.
    Pools(bool),
    /// An answer is ready.
    Say(ToHead),
    /// A person wants to leave; or will never.
    Leave(bool),
    /// From the head; or its end.
    Came(Option<Result<Message, tungstenite::Error>>),
}

/// What became of some news.
enum LinkStep {
    Nothing,
    Say(ToHead),
    End(LinkEnded),
}

/// One link, from its opening to its end.
async fn once(joined: &mut Membership, ends: &mut LinkEnds<'_>) -> Result<LinkEnded, JoinError> {
    if unix_ms() / 1000 >= joined.due()?.1 {
        joined.renew().await?;
        joined.save(ends.folder)?;
        tracing::info!("a new certificate, after a time without the head");
    }
    let socket = joined.client()?.link(LINK).await?;
    tracing::info!(head = joined.url, name = joined.name, "linked");
    let (mut sink, mut stream) = socket.split();
    let mut heartbeat = interval(Duration::from_micros(HEARTBEAT_US));
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (answer, mut answers) = mpsc::channel::<ToHead>(ANSWERS);
    let mut link = OpenLink { joined, answer, signing: None, heard: Instant::now() };
    let mut asked_to_leave = false;
    loop {
        let news = tokio::select! {
            _ = heartbeat.tick() => News::Heartbeat,
            changed = ends.states.changed() => News::Pools(changed.is_ok()),
            Some(say) = answers.recv() => News::Say(say),
            wish = ends.leave.wait_for(|leave| *leave), if !asked_to_leave => News::Leave(wish.is_ok()),
            message = stream.next() => News::Came(message),
        };
        let is_heartbeat = matches!(news, News::Heartbeat);
        asked_to_leave |= matches!(news, News::Leave(_));
        let say = match link.on(news, ends).await? {
            LinkStep::Nothing => continue,
            LinkStep::Say(say) => say,
            LinkStep::End(ended) => return Ok(ended),
        };
        let text = serde_json::to_string(&say).map_err(|why| JoinError::Contradiction(why.to_string()))?;
        let written = timeout(WRITE, async {
            // The head's answer to it is how we know that the head lives.
            if is_heartbeat {
                sink.send(Message::Ping(Vec::new().into())).await?;
            }
            sink.send(Message::Text(text.into())).await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Ok(LinkEnded::Lost(why.to_string())),
            Err(_) => return Ok(LinkEnded::Lost("the head does not read".to_owned())),
        }
    }
}

struct OpenLink<'a> {
    joined: &'a mut Membership,
    answer: mpsc::Sender<ToHead>,
    /// The key of a certificate that was asked for.
    signing: Option<String>,
    heard: Instant,
}

impl OpenLink<'_> {
    async fn on(&mut self, news: News, ends: &mut LinkEnds<'_>) -> Result<LinkStep, JoinError> {
        let lost = |why: String| Ok(LinkStep::End(LinkEnded::Lost(why)));
        match news {
            News::Heartbeat if self.heard.elapsed() > SILENCE => {
                lost(format!("the head is silent for {} s", SILENCE.as_secs()))
            }
            News::Heartbeat => {
                self.renew_in_time()?;
                Ok(LinkStep::Say(now(ends)))
            }
            News::Pools(true) => Ok(LinkStep::Say(now(ends))),
            News::Pools(false) => lost("this machine's worker pools ended".to_owned()),
            News::Say(say) => Ok(LinkStep::Say(say)),
            News::Leave(true) => Ok(LinkStep::Say(ToHead::Leave)),
            News::Leave(false) => Ok(LinkStep::Nothing),
            News::Came(None | Some(Ok(Message::Close(_)))) => lost("the head closed it".to_owned()),
            News::Came(Some(Err(why))) => lost(why.to_string()),
            News::Came(Some(Ok(message))) => {
                self.heard = Instant::now();
                self.on_message(message, ends).await
            }
        }
    }

    fn renew_in_time(&mut self) -> Result<(), JoinError> {
        if self.signing.is_none() && unix_ms() / 1000 >= self.joined.due()?.0 {
            let (key, csr) = pki::peer_request()?;
            // A full queue: at the next heartbeat.
            if self.answer.try_send(ToHead::Sign { csr }).is_ok() {
                self.signing = Some(key);
            }
        }
        Ok(())
    }

    async fn on_message(&mut self, message: Message, ends: &LinkEnds<'_>) -> Result<LinkStep, JoinError> {
        let Message::Text(text) = message else { return Ok(LinkStep::Nothing) };
        match serde_json::from_str::<ToPeer>(&text) {
            Ok(ToPeer::Goodbye { why }) => return Ok(LinkStep::End(LinkEnded::Goodbye(why))),
            Ok(ToPeer::Certificate { cert }) => {
                take_certificate(self.joined, self.signing.take(), cert, ends.folder);
            }
            Ok(message) => obey(message, ends, &self.answer).await,
            // A newer head may say more than we know.
            Err(error) => tracing::debug!(%error, "passed over a message of the head"),
        }
        Ok(LinkStep::Nothing)
    }
}

fn now(ends: &mut LinkEnds<'_>) -> ToHead {
    ToHead::Heartbeat { facts: ends.fixed.now(ends.folder), pools: ends.states.borrow_and_update().clone() }
}

fn take_certificate(joined: &mut Membership, key: Option<String>, cert: String, folder: &Path) {
    let Some(key) = key else { return };
    (joined.cert, joined.key) = (cert, key);
    tracing::info!("certificate renewed");
    // Used from memory even if it cannot be kept.
    if let Err(error) = joined.save(folder) {
        tracing::error!(%error, "the renewed certificate is used, and lost when this process ends");
    }
}

async fn obey(message: ToPeer, ends: &LinkEnds<'_>, answer: &mpsc::Sender<ToHead>) {
    let order = match message {
        ToPeer::Welcome { now_ms, .. } => {
            if let Some(words) = clock_warning(now_ms) {
                tracing::warn!("{words}");
            }
            return;
        }
        ToPeer::Want { pools } => PoolOrder::Want(pools),
        ToPeer::Lock { text } => match serde_json::from_str(&text) {
            Ok(lock) => PoolOrder::Lock(lock),
            Err(error) => return tracing::warn!(%error, "the head's description of its environment is malformed"),
        },
        ToPeer::Logs { call, cluster, tail } => PoolOrder::Logs { call, cluster, tail, answer: answer.clone() },
        ToPeer::Certificate { .. } | ToPeer::Goodbye { .. } => return,
    };
    // Their owner ended: so do we, soon.
    let _ending = ends.orders.send(order).await;
}
