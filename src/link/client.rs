//! The asking end.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::LinkMessage;
use super::socket::Channel;
use crate::base::Blame;
use crate::control::{ProcessInfo, Question};

/// Longest wait for an answer: reads are answered between two steps of a scheduler.
const ANSWER: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens there, or the connection broke.
    #[error("the process is not there: {0}")]
    Gone(#[from] io::Error),
    /// The process refused, in these words.
    #[error("refused: {0}")]
    Refused(String),
    /// The process did not answer in time.
    #[error("no answer within {} s", ANSWER.as_secs())]
    Slow,
    /// The answer is not JSON of the expected kind.
    #[error("its answer is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The process sent a request instead of an answer.
    #[error("it asked a question instead of answering")]
    AskedBack,
}

impl LinkError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        Blame::World
    }
}

/// A handle on another rask process. Cheap to clone; connects when needed, so the process may come back meanwhile.
#[derive(Clone, Debug)]
pub struct Link {
    path: Arc<Path>,
    /// Connections are handed over in order, on a connection of their own.
    handing: Arc<Mutex<Option<Channel>>>,
}

impl Link {
    /// A handle on the process that listens at `path`, now or later.
    pub fn new(path: PathBuf) -> Self {
        Self { path: path.into(), handing: Arc::default() }
    }

    /// Asks, and waits for the answer's body.
    pub async fn ask(&self, what: impl Into<Question>) -> Result<String, LinkError> {
        timeout(ANSWER, self.ask_patiently(what.into())).await.map_err(|_| LinkError::Slow)?
    }

    /// Asks for a value.
    pub async fn ask_for<T: DeserializeOwned>(&self, what: impl Into<Question>) -> Result<T, LinkError> {
        let body = self.ask(what).await?;
        Ok(serde_json::from_str(&body)?)
    }

    /// Who listens there now.
    pub async fn hello(&self) -> Result<ProcessInfo, LinkError> {
        self.ask_for(Question::Hello).await
    }

    /// Waits until the process that listens there now is gone, or does not listen any more.
    pub async fn gone(&self) -> LinkError {
        let watch = async {
            let mut channel = self.connect().await?;
            channel.send(&LinkMessage::Ask(Question::Health), None::<&TcpStream>).await?;
            while channel.receive().await?.is_some() {}
            Ok::<(), LinkError>(())
        };
        watch.await.err().unwrap_or_else(|| LinkError::Gone(io::ErrorKind::UnexpectedEof.into()))
    }

    async fn ask_patiently(&self, what: Question) -> Result<String, LinkError> {
        let mut channel = self.connect().await?;
        channel.send(&LinkMessage::Ask(what), None::<&TcpStream>).await?;
        match channel.receive().await? {
            Some((LinkMessage::Answer(body), _)) => Ok(body),
            Some((LinkMessage::Refused(why), _)) => Err(LinkError::Refused(why)),
            Some((LinkMessage::Ask(_) | LinkMessage::Connection | LinkMessage::Unknown, _)) => {
                Err(LinkError::AskedBack)
            }
            None => Err(LinkError::Gone(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Hands a connection over. Our copy is closed by dropping it; the other end's stays open.
    ///
    /// Errors: the process is not there; the caller still has the connection.
    pub async fn hand(&self, connection: &TcpStream) -> Result<(), LinkError> {
        let mut slot = self.handing.lock().await;
        for fresh in [false, true] {
            // The process may have been started anew since the last time: then the old channel is broken.
            if fresh || slot.is_none() {
                *slot = Some(self.connect().await?);
            }
            let Some(channel) = slot.as_ref() else { continue };
            match channel.send(&LinkMessage::Connection, Some(connection)).await {
                Ok(()) => return Ok(()),
                Err(why) if fresh => return Err(why.into()),
                Err(_) => {}
            }
        }
        Err(LinkError::Gone(io::ErrorKind::BrokenPipe.into()))
    }

    async fn connect(&self) -> Result<Channel, LinkError> {
        Ok(Channel::new(super::connect(&self.path).await?))
    }
}
