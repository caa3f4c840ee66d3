//! The listening end: takes requests in and hands them to whoever can answer.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::socket::{Channel, short_path};
use super::{Message, Question};

/// What came in.
#[derive(Debug)]
pub enum Inbound {
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

/// Listens at `path` (an older socket there is replaced) and sends what comes in to `inbox`.
///
/// Errors: the folder is missing or not ours.
pub fn serve(path: &Path, inbox: mpsc::Sender<Inbound>) -> io::Result<Served> {
    // The caller holds the lock of this folder: whatever is there belongs to a process that is gone.
    let _may_not_exist = fs::remove_file(path);
    let (short, _open) = short_path(path)?;
    let listener = UnixListener::bind(&short)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(Channel::new(stream), inbox.clone()));
        }
    });
    Ok(Served { path: path.to_path_buf(), task })
}

/// Serves one peer to its end.
async fn talk(mut channel: Channel, inbox: mpsc::Sender<Inbound>) {
    let ours = rustix::process::getuid().as_raw();
    match channel.peer_uid() {
        Ok(uid) if uid == ours || uid == 0 => {}
        Ok(uid) => return tracing::warn!(uid, "control socket: another user was refused"),
        Err(why) => return tracing::warn!(%why, "control socket: the peer's user is unknown"),
    }
    loop {
        match channel.receive().await {
            Ok(Some((message, descriptor))) => {
                let answer = match (message, descriptor) {
                    (Message::Ask(Question::Health), _) => Some(Message::Answer(std::process::id().to_string())),
                    (Message::Ask(what), _) => Some(ask(&inbox, what).await),
                    (Message::Connection, Some(fd)) => {
                        if inbox.send(Inbound::Connection(TcpStream::from(fd))).await.is_err() {
                            return;
                        }
                        None
                    }
                    (Message::Connection, None) => {
                        return tracing::warn!("control socket: a connection was announced, none came");
                    }
                    (Message::Answer(_) | Message::Refused(_), _) => Some(Message::Refused("not a request".to_owned())),
                };
                if let Some(answer) = answer
                    && channel.send(&answer, None::<&std::fs::File>).await.is_err()
                {
                    return;
                }
            }
            Ok(None) => return,
            Err(why) => return tracing::warn!(%why, "control socket: a peer makes no sense"),
        }
    }
}

async fn ask(inbox: &mpsc::Sender<Inbound>, what: Question) -> Message {
    let (reply, answer) = oneshot::channel();
    if inbox.send(Inbound::Ask { what, reply }).await.is_err() {
        return Message::Refused("stopping".to_owned());
    }
    answer.await.map_or_else(|_| Message::Refused("no answer".to_owned()), Message::Answer)
}
