//! Which user is at the other end of a loopback connection. The kernel knows: the peer's socket is on this machine.
//!
//! Source: `man 7 sock_diag`, a request for one exact socket. Kernels without it (no module `tcp_diag`, sandboxes) are
//! asked by way of `/proc/net/tcp` (`man 5 proc`), which costs milliseconds where there are many sockets.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::OnceLock;

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
/// Sockets of IPv4; those of IPv6, and those that take both.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// User id of the process that holds the socket at `peer`, which is connected to our socket at `local`.
///
/// None: no such socket, or nobody holds it any more. An orphaned socket is reported as root's, so that answer is not
/// believed: anyone could connect, send and leave. Errors: the kernel was not to be asked.
pub(super) fn uid_of_peer(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    match ask(peer, local) {
        // "No such socket" and "no such question" have one error number.
        Ok(None) | Err(_) if !diagnostics_work() => look_up(peer, local),
        answer => answer,
    }
}

/// Is this user we, root, or one of these?
pub(super) fn is_ours(uid: u32, allowed: &[u32]) -> bool {
    uid == rustix::process::geteuid().as_raw() || uid == 0 || allowed.contains(&uid)
}

/// Is this one of our own addresses? Only these can be bound.
pub(super) fn is_of_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Does the kernel know the owner of a socket that we do have? Tried once.
fn diagnostics_work() -> bool {
    static WORK: OnceLock<bool> = OnceLock::new();
    let own = || -> io::Result<Option<u32>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        ask(client.local_addr()?, client.peer_addr()?)
    };
    *WORK.get_or_init(|| {
        let work = matches!(own(), Ok(Some(_)));
        if !work {
            tracing::info!(
                "this kernel has no socket diagnostics (module tcp_diag): connections are looked up in /proc/net/tcp"
            );
        }
        work
    })
}

fn ask(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
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

fn look_up(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    for table in TABLES {
        let text = match fs::read_to_string(table) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue, // no IPv6 here
            other => other?,
        };
        if let Some(uid) = text.lines().skip(1).find_map(|line| uid_in(line, peer, local)) {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

/// The user in a line of the table, if it is about the connection from `peer` to `local`, as `peer` sees it.
fn uid_in(line: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [from, to] = [1, 2].map(|at| fields.get(at).and_then(|text| address(text)));
    let same = |seen: Option<(IpAddr, u16)>, end: SocketAddr| seen == Some((end.ip().to_canonical(), end.port()));
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let is_held = *fields.get(9)? != "0";
    let found = same(from, peer) && same(to, local) && state == ESTABLISHED && is_held;
    found.then(|| fields.get(7)?.parse().ok()).flatten()
}

/// `0100007F:1F90`: words of 32 bits as the machine has them, then the port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at.checked_add(8)?)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(&*bytes) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&*bytes).ok()?),
    };
    Some((ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the kernel names us as the owner of our own connection, and nobody once the other end is gone. Both ways.
    #[test]
    fn the_peer_of_our_own_connection_is_us() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(any) else { continue };
            let at = listener.local_addr().expect("a bound socket has an address");
            let client = std::net::TcpStream::connect(at).expect("loopback connects");
            let (server, peer) = listener.accept().expect("somebody connected");
            let local = server.local_addr().expect("a connected socket has an address");
            let us = rustix::process::getuid().as_raw();
            assert_eq!(uid_of_peer(peer, local).ok(), Some(Some(us)));
            assert_eq!(look_up(peer, local).ok(), Some(Some(us)));
            drop(client);
            assert_eq!(uid_of_peer(peer, local).unwrap_or(None), None);
            assert_eq!(look_up(peer, local).ok(), Some(None));
        }
    }

    #[test]
    fn our_own_addresses_are_told_from_others() {
        let is_ours = |text: &str| is_of_this_machine(text.parse().expect("an address"));
        assert!(is_ours("127.0.0.1") && is_ours("::ffff:127.0.0.1") && !is_ours("192.0.2.1"));
    }

    #[test]
    fn a_line_of_the_table_is_read_as_the_kernel_writes_it() {
        let line =
            "  12: 0100007F:C350 0100007F:2253 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0";
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if cfg!(target_endian = "little") {
            assert_eq!(uid_in(line, at(50_000), at(8787)), Some(1000));
        }
        assert_eq!(uid_in(line, at(8787), at(50_000)), None);
        assert_eq!(uid_in(&line.replace(" 4242 ", " 0 "), at(50_000), at(8787)), None, "held by nobody");
        assert_eq!(uid_in(&line.replace(" 01 ", " 06 "), at(50_000), at(8787)), None, "ended");
        assert_eq!(uid_in("", at(1), at(2)), None);
        let both = address("0000000000000000FFFF00000100007F:0001");
        assert!(cfg!(target_endian = "big") || both == Some((IpAddr::from(Ipv4Addr::LOCALHOST), 1)));
    }
}
