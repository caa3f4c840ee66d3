//! What makes an appliance a head: its authority, its certificate, its peers, and where other machines reach it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use crate::app::command_error::CommandError;
use crate::fleet::SpanConfig;
use crate::peer::{Announced, HeadHandle, HeadSettings, announce, hostname, pin_of_pem};
use crate::pki::Authority;
use crate::store::StoreHandle;

/// The line that is printed is good for so long. Unit: seconds.
const INVITATION_SECS: u64 = 3600;

/// An appliance that other machines may join.
pub(crate) struct Lan {
    pub(crate) head: HeadHandle,
}

impl Lan {
    /// Remembers who joined before. `outside`: the address that a person chose.
    pub(crate) async fn open(
        state: &Path,
        authority: Arc<Authority>,
        store: StoreHandle,
        (outside, port): (Option<IpAddr>, u16),
        certificate_secs: u64,
    ) -> Result<Self, CommandError> {
        let pin = pin_of_pem(&authority.pair().cert_pem).ok_or_else(|| unreadable(state))?;
        let host = outside.or_else(|| addresses().first().copied()).ok_or_else(|| {
            CommandError::world("--lan: this machine has no address that others could reach")
                .remedy("connect it to a network, or leave out --lan")
        })?;
        let url = format!("https://{}", SocketAddr::new(host, port));
        let settings = HeadSettings { url, certificate_secs };
        let head = HeadHandle::start(authority, pin, store, settings)
            .await
            .map_err(|why| CommandError::blame(why.blame(), why))?;
        Ok(Self { head })
    }

    /// Tells the LAN where we are. A LAN without multicast is no reason not to serve it.
    pub(crate) fn announce(&self, port: u16) -> Option<Announced> {
        announce(&addresses(), port, self.head.pin())
            .inspect_err(|error| tracing::warn!(%error, "not announced by mDNS; rask join needs the address then"))
            .ok()
    }

    /// What lets clusters span machines. `outside`: the address that a person chose.
    pub(crate) fn span(&self, outside: Option<IpAddr>, local: bool) -> Option<SpanConfig> {
        let host = outside.or_else(|| addresses().first().copied())?;
        Some(SpanConfig { head: self.head.clone(), host, local })
    }

    /// The line to paste on another machine.
    pub(crate) async fn invitation(&self) -> Result<String, CommandError> {
        let (token, _) =
            self.head.invite(INVITATION_SECS, 1).await.map_err(|why| CommandError::blame(why.blame(), why))?;
        Ok(format!("rask join {} --token {token}", self.head.url()))
    }
}

/// All that this machine is called.
pub(crate) fn names() -> Vec<String> {
    let mut names = vec![hostname(), "localhost".to_owned()];
    names.retain(|name| !name.is_empty() && name.is_ascii());
    names.extend(addresses().iter().map(IpAddr::to_string));
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    names.dedup();
    names
}

/// Addresses that other machines may know, the best one first: of the interface that leads out, then IPv4.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    // Connecting a datagram socket sends nothing; it makes the system choose.
    let out = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    found.extend(out.ok().map(|at| at.ip()));
    let networks = sysinfo::Networks::new_with_refreshed_list().ok();
    let mut all: Vec<IpAddr> =
        networks.iter().flatten().flat_map(|(_, network)| network.ip_networks()).map(|network| network.addr).collect();
    all.sort_by_key(|address| (address.is_ipv6(), *address));
    for address in all {
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if !address.is_loopback() && !link_local && !found.contains(&address) {
            found.push(address);
        }
    }
    found.retain(|address| !address.is_unspecified() && !address.is_loopback());
    found
}

fn unreadable(state: &Path) -> CommandError {
    CommandError::world(format!("the authority in {} cannot be read", state.join("ca").display()))
        .remedy("remove that folder: a new one is made, and other machines must join again")
}
