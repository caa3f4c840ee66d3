//! The listening end: takes requests in and hands them to whoever can answer.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::LinkMessage;
use super::kept::{KeptListener, bind};
use super::socket::{Channel, short_path};
use crate::control::{ProcessInfo, Question};

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A question; the body of the answer goes to `reply`.
    Ask {
        /// About what.
        what: Question,
        /// Dropped unanswered: the asker is told that there is no answer.
        reply: oneshot::Sender<String>,
    },
    /// A connection that was accepted elsewhere, unread.
    Connection(TcpStream),
}

/// A listening control socket. Its file goes with it.
#[derive(Debug)]
pub struct Served {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
        let _may_be_gone = fs::remove_file(&self.path);
    }
}

/// A connection to the Unix socket at `path`, however long that is.
///
/// Errors: nobody listens there.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (short, _open) = short_path(path)?;
    UnixStream::connect(&short).await
}

/// Listens at `path` (an older socket there is replaced) and sends what comes in to `inbox`.
///
/// `us`: answers who is asked. Errors: the folder is missing or not ours.
pub fn serve(path: &Path, us: &ProcessInfo, inbox: mpsc::Sender<Incoming>) -> io::Result<Served> {
    // The caller holds the lock of this folder: whatever is there belongs to a process that is gone.
    let _may_not_exist = fs::remove_file(path);
    let mut listener = KeptListener::new(path, bind(path)?)?;
    let us = Arc::new(us.clone());
    let task = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok(stream) => drop(tokio::spawn(talk(Channel::new(stream), us.clone(), inbox.clone()))),
                Err(why) => {
                    // Out of descriptors, mostly: the appliance must find us again once there are some.
                    tracing::warn!(error = %why, "control socket: cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(Served { path: path.to_path_buf(), task })
}

/// Serves one peer to its end.
async fn talk(mut channel: Channel, us: Arc<ProcessInfo>, inbox: mpsc::Sender<Incoming>) {
    let ours = rustix::process::getuid().as_raw();
    match channel.peer_uid() {
        Ok(uid) if uid == ours || uid == 0 => {}
        Ok(uid) => return tracing::warn!(uid, "control socket: another user was refused"),
        Err(why) => return tracing::warn!(error = %why, "control socket: the peer's user is unknown"),
    }
    loop {
        let (message, descriptor) = match channel.receive().await {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(why) => return tracing::warn!(error = %why, "control socket: a peer sent a malformed message"),
        };
        let answer = match (message, descriptor) {
            (LinkMessage::Ask(Question::Health), _) => Some(LinkMessage::Answer(us.pid.to_string())),
            (LinkMessage::Ask(Question::Hello), _) => Some(hello(&us)),
            (LinkMessage::Ask(what), _) => Some(ask(&inbox, what).await),
            (LinkMessage::Connection, Some(fd)) => {
                if inbox.send(Incoming::Connection(TcpStream::from(fd))).await.is_err() {
                    return;
                }
                None
            }
            (LinkMessage::Connection, None) => {
                return tracing::warn!("control socket: a connection was announced, none came");
            }
            (LinkMessage::Answer(_) | LinkMessage::Refused(_), _) => {
                Some(LinkMessage::Refused("not a request".to_owned()))
            }
            (LinkMessage::Unknown, _) => Some(LinkMessage::Refused(format!(
                "rask {} (link protocol {}) does not know this request",
                us.version, us.protocol
            ))),
        };
        if let Some(answer) = answer
            && channel.send(&answer, None::<&std::fs::File>).await.is_err()
        {
            return;
        }
    }
}

fn hello(us: &ProcessInfo) -> LinkMessage {
    serde_json::to_string(us).map_or_else(|why| LinkMessage::Refused(why.to_string()), LinkMessage::Answer)
}

async fn ask(inbox: &mpsc::Sender<Incoming>, what: Question) -> LinkMessage {
    let (reply, answer) = oneshot::channel();
    if inbox.send(Incoming::Ask { what, reply }).await.is_err() {
        return LinkMessage::Refused("stopping".to_owned());
    }
    answer.await.map_or_else(|_| LinkMessage::Refused("no answer".to_owned()), LinkMessage::Answer)
}
