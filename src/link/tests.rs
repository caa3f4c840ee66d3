use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::*;
use crate::control::{ProcessInfo, Question, SchedulerQuestion};

/// A folder whose path is longer than a Unix socket's may be.
fn deep_folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rask-link-{}-{name}-{}", std::process::id(), "x".repeat(120)));
    std::fs::create_dir_all(&folder).expect("temp folder");
    folder
}

fn us() -> ProcessInfo {
    ProcessInfo::new(std::process::id(), 7)
}

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(10), future).await.expect("in time") })
}

#[test]
fn questions_are_answered_over_a_path_longer_than_sockets_allow() {
    let folder = deep_folder("ask");
    on_runtime(async {
        let (inbox, mut inbound) = mpsc::channel(4);
        let served = serve(&folder.join("control.sock"), &us(), inbox).expect("listens");
        tokio::spawn(async move {
            while let Some(Incoming::Ask { what: Question::Scheduler(SchedulerQuestion::Metrics), reply }) =
                inbound.recv().await
            {
                reply.send("m".repeat(1 << 20)).expect("asker waits");
            }
        });
        let link = Link::new(folder.join("control.sock"));
        assert_eq!(link.ask(Question::Scheduler(SchedulerQuestion::Metrics)).await.expect("answered").len(), 1 << 20);
        assert_eq!(link.ask(Question::Health).await.expect("answered"), std::process::id().to_string());
        let hello = link.hello().await.expect("answered");
        assert_eq!((hello.clone(), hello.stranger()), (us(), None));
        drop(served);
        assert!(!folder.join("control.sock").exists());
        assert!(matches!(link.ask(Question::Health).await, Err(LinkError::Gone(_))));
    });
    std::fs::remove_dir_all(folder).expect("temp folder");
}

/// Goal: what a peer wrote before its connection was handed over is still there, unread, at the other end.
#[test]
fn a_connection_arrives_whole_and_a_new_listener_at_the_path_is_found() {
    let folder = deep_folder("hand");
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let link = Link::new(folder.join("s"));
        for round in 0..2u8 {
            let (inbox, mut inbound) = mpsc::channel(4);
            let _served = serve(&folder.join("s"), &us(), inbox).expect("listens");
            let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
            peer.write_all(&[b'a', round]).expect("writes");
            let (accepted, _) = listener.accept().expect("accepts");
            // The first round's channel breaks when its listener goes; a message may still fit into its buffer.
            let mut handed = link.hand(&accepted).await;
            let arrived = match tokio::time::timeout(std::time::Duration::from_millis(200), inbound.recv()).await {
                Ok(arrived) => arrived,
                Err(_) => {
                    handed = link.hand(&accepted).await;
                    inbound.recv().await
                }
            };
            handed.expect("handed over");
            drop(accepted);
            let Some(Incoming::Connection(mut got)) = arrived else { panic!("no connection came") };
            got.set_nonblocking(false).expect("a socket");
            let mut two = [0u8; 2];
            got.read_exact(&mut two).expect("unread bytes");
            assert_eq!(two, [b'a', round]);
        }
    });
    std::fs::remove_dir_all(folder).expect("temp folder");
}

/// Goal: a newer rask may ask an older one anything; it hears that this is not known, on a connection that goes on.
#[test]
fn a_request_of_the_future_is_refused_in_words() {
    let folder = deep_folder("new");
    on_runtime(async {
        let (inbox, _inbound) = mpsc::channel(4);
        let _served = serve(&folder.join("s"), &us(), inbox).expect("listens");
        let (short, _open) = socket::short_path(&folder.join("s")).expect("a path");
        let mut channel = socket::Channel::new(tokio::net::UnixStream::connect(&short).await.expect("listens"));
        channel.send_bytes(br#"{"ask":{"fly":{"to":"moon"}}}"#).await.expect("sent");
        let Ok(Some((LinkMessage::Refused(why), None))) = channel.receive().await else { panic!("not refused") };
        assert!(why.contains("link protocol"), "{why}");
        channel.send(&LinkMessage::Ask(Question::Health), None::<&TcpStream>).await.expect("sent");
        assert!(matches!(channel.receive().await, Ok(Some((LinkMessage::Answer(_), None)))));
    });
    std::fs::remove_dir_all(folder).expect("temp folder");
}

#[test]
fn strangers_are_told_apart_by_what_both_understand() {
    assert_eq!(us().stranger(), None);
    assert!(ProcessInfo { protocol: 0, ..us() }.stranger().is_some());
    assert!(ProcessInfo { protocol: 9, protocol_oldest: 9, ..us() }.stranger().is_some());
    assert_eq!(ProcessInfo { protocol: 9, ..us() }.stranger(), None);
}
