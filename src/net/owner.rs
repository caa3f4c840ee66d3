//! Which user is at the other end of a loopback connection. The kernel knows: the peer's socket is on this machine.
//!
//! Source: `man 7 sock_diag`, a request for one exact socket.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `TCP_ESTABLISHED`.
const ESTABLISHED: u8 = 1;
/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = 56;

/// User id of the process that holds the socket at `peer`, which is connected to our socket at `local`.
///
/// None: no such socket, or nobody holds it any more. An orphaned socket is reported as root's, so that answer is not
/// believed: anyone could connect, send and leave. Errors: the kernel was not to be asked.
pub(super) fn uid_of_peer(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    let request = request(peer, local);
    sendto(&netlink, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 1024];
    // The kernel answers before `sendto` returns, so there is nothing to wait for.
    let (len, _) = recv(&netlink, &mut answer, RecvFlags::DONTWAIT)?;
    Ok(read_answer(answer.get(..len).unwrap_or_default()))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`; the socket that is looked for is the peer's, so it comes first.
fn request(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (from, to) = (peer.ip().to_canonical(), local.ip().to_canonical());
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut out = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    out.extend_from_slice(&((HEADER_BYTES + REQUEST_BYTES) as u32).to_ne_bytes());
    out.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    out.extend_from_slice(&1u16.to_ne_bytes()); // NLM_F_REQUEST
    out.extend_from_slice(&[0; 8]); // sequence, port id
    out.extend_from_slice(&[family.as_raw() as u8, 6, 0, 0]); // IPPROTO_TCP, no extensions
    out.extend_from_slice(&u32::MAX.to_ne_bytes()); // any state
    out.extend_from_slice(&peer.port().to_be_bytes());
    out.extend_from_slice(&local.port().to_be_bytes());
    for ip in [from, to] {
        let mut bytes = [0u8; 16];
        match ip {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        out.extend_from_slice(&bytes);
    }
    out.extend_from_slice(&[0; 4]); // any interface
    out.extend_from_slice(&[0xff; 8]); // INET_DIAG_NOCOOKIE
    out
}

/// `struct inet_diag_msg`: state at 1, uid at 64, inode at 68.
fn read_answer(answer: &[u8]) -> Option<u32> {
    let word =
        |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(answer.get(at..at.checked_add(4)?)?.try_into().ok()?)) };
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let state = *answer.get(HEADER_BYTES + 1)?;
    let uid = word(HEADER_BYTES + 64)?;
    let inode = word(HEADER_BYTES + 68)?;
    (kind == BY_FAMILY && state == ESTABLISHED && inode != 0).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the kernel names us as the owner of our own connection, and nobody once the other end is gone.
    #[test]
    fn the_peer_of_our_own_connection_is_us() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(any) else { continue };
            let at = listener.local_addr().expect("a bound socket has an address");
            let client = std::net::TcpStream::connect(at).expect("loopback connects");
            let (server, peer) = listener.accept().expect("somebody connected");
            let local = server.local_addr().expect("a connected socket has an address");
            assert_eq!(uid_of_peer(peer, local).ok(), Some(Some(rustix::process::getuid().as_raw())));
            drop(client);
            assert_eq!(uid_of_peer(peer, local).unwrap_or(None), None);
        }
    }
}
