use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::*;

/// A folder whose path is longer than a Unix socket's may be.
fn deep_folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rask-link-{}-{name}-{}", std::process::id(), "x".repeat(120)));
    std::fs::create_dir_all(&folder).expect("temp folder");
    folder
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
        let served = serve(&folder.join("control.sock"), inbox).expect("listens");
        tokio::spawn(async move {
            while let Some(Inbound::Ask { what: Question::Metrics, reply }) = inbound.recv().await {
                reply.send("m".repeat(1 << 20)).expect("asker waits");
            }
        });
        let link = Link::new(folder.join("control.sock"));
        assert_eq!(link.ask(Question::Metrics).await.expect("answered").len(), 1 << 20);
        assert_eq!(link.ask(Question::Health).await.expect("answered"), std::process::id().to_string());
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
            let _served = serve(&folder.join("s"), inbox).expect("listens");
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
            let Some(Inbound::Connection(mut got)) = arrived else { panic!("no connection came") };
            got.set_nonblocking(false).expect("a socket");
            let mut two = [0u8; 2];
            got.read_exact(&mut two).expect("unread bytes");
            assert_eq!(two, [b'a', round]);
        }
    });
    std::fs::remove_dir_all(folder).expect("temp folder");
}
