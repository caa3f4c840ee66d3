//! What the dashboard sees: takes snapshots of a scheduler, finds what changed, fans it out through bounded queues.
//!
//! A slow browser loses deltas and never slows a cluster: the scheduler answers a poll between two steps and waits for
//! nobody. One owner (`hub`) holds all views; everybody else has a [`Feed`], a cloneable handle.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod bottleneck;
mod delta;
mod flame;
mod history;
mod hub;
mod message;
mod overview;
mod report;
mod rows;
mod series;
mod silence;
mod stream;
mod subscription;
mod trace;
mod viewer;

pub use flame::flame;
pub use silence::Silence;
pub use stream::{ASKED_MAX, FRESH, Pick, block};
pub use subscription::{Subscription, Topic};

use std::future::Future;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Duration;

use crate::base::Value;
use crate::clock::{Clock, uuid_v4_text};
use crate::cluster::{Answered, Control, TimelineWindow};
use crate::control::SchedulerQuestion;
use hub::{Command, Hub, ViewerId};
use silence::within;

/// Commands that wait for the hub; askers beyond that wait.
const COMMANDS: usize = 64;

/// The scheduler answers between two steps; one that takes so long is in trouble.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that go on to the workers.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// A handle on one scheduler for its pages. Cloning shares it.
#[derive(Clone)]
pub struct Feed {
    clock: Clock,
    control: mpsc::Sender<Control>,
    commands: mpsc::Sender<Command>,
}

/// One viewer's end. Dropping it leaves.
pub struct View {
    id: ViewerId,
    commands: mpsc::Sender<Command>,
    messages: mpsc::Receiver<Bytes>,
}

impl Feed {
    /// A handle, and the owner of the views, which somebody has to run.
    pub fn new(control: mpsc::Sender<Control>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let epoch = uuid_v4_text().chars().take(8).collect();
        let hub = Hub::new(control.clone(), epoch).run(inbox);
        (Self { clock: Clock::start(), control, commands }, hub)
    }

    /// Unit: seconds since the epoch.
    pub fn now_secs(&self) -> f64 {
        self.clock.wall()
    }

    /// A new viewer of these topics.
    pub async fn view(&self, subscription: Subscription) -> Option<View> {
        let (queue, messages) = mpsc::channel(viewer::QUEUE);
        let (id, joined) = oneshot::channel();
        self.commands.send(Command::Join { subscription, queue, id }).await.ok()?;
        Some(View { id: joined.await.ok()?, commands: self.commands.clone(), messages })
    }

    /// All rows of some topics, now, as JSON: `{topic: {id: row}}`.
    pub async fn rows(&self, topics: Vec<Topic>) -> Result<String, Silence> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Rows { topics, reply }).await.map_err(|_| Silence::Gone)?;
        within(PATIENCE, answer).await
    }

    /// What limits the cluster and the first problem, as JSON.
    pub async fn bottleneck(&self) -> Result<String, Silence> {
        let rows = self.rows(vec![Topic::Overview]).await?;
        Ok(hub::bottleneck_of(&serde_json::from_str(&rows).unwrap_or_default()).to_string())
    }

    /// A read that the scheduler answers at once.
    pub async fn ask(&self, what: SchedulerQuestion) -> Result<Answered, Silence> {
        let (reply, answer) = oneshot::channel();
        self.control.send(Control::Ask { what, reply }).await.map_err(|_| Silence::Gone)?;
        within(PATIENCE, answer).await
    }

    /// A request as Dask's clients send it.
    pub async fn request(&self, body: Value) -> Result<Value, Silence> {
        let (reply, answer) = oneshot::channel();
        self.control.send(Control::Request { body, reply }).await.map_err(|_| Silence::Gone)?;
        within(LONG_PATIENCE, answer).await?.map_err(Silence::Failed)
    }

    /// Rectangles of the task stream between two times. Unit: seconds since the epoch.
    pub async fn rects(&self, from_secs: f64, to_secs: f64) -> Result<Box<TimelineWindow>, Silence> {
        let (reply, answer) = oneshot::channel();
        let ask = Control::Rects { from_ms: from_secs * 1e3, to_ms: to_secs * 1e3, reply };
        self.control.send(ask).await.map_err(|_| Silence::Gone)?;
        within(PATIENCE, answer).await
    }

    /// The task stream between two times as a Chrome trace, which Perfetto reads too.
    pub async fn trace(&self, from_secs: f64, to_secs: f64) -> Result<String, Silence> {
        Ok(trace::chrome(&*self.rects(from_secs, to_secs).await?, (from_secs * 1e3, to_secs * 1e3)))
    }
}

impl View {
    /// The next message, its kind first. None: the scheduler is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.messages.recv().await
    }

    /// What is there now, without waiting.
    pub fn waiting(&mut self) -> Option<Bytes> {
        self.messages.try_recv().ok()
    }

    /// Another subscription from now on. False: the scheduler is gone.
    pub async fn change(&self, subscription: Subscription) -> bool {
        self.commands.send(Command::Change { viewer: self.id, subscription }).await.is_ok()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // If the inbox is full, the hub finds the closed queue by itself.
        drop(self.commands.try_send(Command::Leave { viewer: self.id }));
    }
}
