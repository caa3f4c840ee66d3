//! Heads on the LAN, by mDNS (`_rask._tcp`). A hint where to knock, never a proof: that is the token.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mdns_sd::{ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::Instant;

use super::node::hostname;
use super::token::Pin;

const SERVICE: &str = "_rask._tcp.local.";

/// A head that announced itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundHead {
    /// Its host name.
    pub name: String,
    /// `https://address:port`
    pub url: String,
    /// Of its authority's key, as it says itself.
    pub fingerprint: String,
    /// Its version of rask.
    pub version: String,
}

/// Why heads can be neither announced nor found on this LAN.
#[derive(Debug, thiserror::Error)]
#[error("multicast DNS does not work: {0}")]
pub struct DiscoverError(#[from] mdns_sd::Error);

/// An announcement. It is withdrawn when this is dropped.
pub struct Announced(ServiceDaemon);

impl Drop for Announced {
    fn drop(&mut self) {
        // Nobody waits for it: the announcement runs out by itself.
        let _best_effort = self.0.shutdown();
    }
}

/// Announces a head. The error is for the log: a LAN without multicast is no reason not to serve it.
pub fn announce(addresses: &[IpAddr], port: u16, pin: Pin) -> Result<Announced, DiscoverError> {
    let daemon = ServiceDaemon::new()?;
    let name = hostname();
    let fingerprint = pin.hex();
    let facts = [("fp", fingerprint.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
    let service = ServiceInfo::new(SERVICE, &name, &format!("{name}.local."), addresses, port, &facts[..])?;
    daemon.register(service)?;
    Ok(Announced(daemon))
}

/// Listens for heads for as long as `patience`. Blocks.
pub fn find(patience: Duration) -> Result<Vec<FoundHead>, DiscoverError> {
    let daemon = ServiceDaemon::new()?;
    let heard = daemon.browse(SERVICE)?;
    let since = Instant::now();
    let mut found = Vec::new();
    while let Some(left) = patience.checked_sub(since.elapsed()) {
        // The other events are about the search itself, or about services that go.
        let Ok(event) = heard.recv_timeout(left) else { break };
        if let ServiceEvent::ServiceResolved(service) = event {
            let fact = |name: &str| service.txt_properties.get_property_val_str(name).unwrap_or_default().to_owned();
            let mut addresses: Vec<IpAddr> = service.addresses.iter().map(|one| one.to_ip_addr()).collect();
            addresses.sort_by_key(|address| (address.is_ipv6(), *address));
            let name = service.host.trim_end_matches('.').trim_end_matches(".local").to_owned();
            let fingerprint = Pin::parse(&fact("fp")).map_or_else(|| "unreadable".to_owned(), |pin| pin.fingerprint());
            for address in addresses.iter().take(1) {
                let url = format!("https://{}", SocketAddr::new(*address, service.port));
                let head =
                    FoundHead { name: name.clone(), url, fingerprint: fingerprint.clone(), version: fact("version") };
                if !found.contains(&head) {
                    found.push(head);
                }
            }
        }
    }
    let _best_effort = daemon.shutdown();
    found.sort();
    Ok(found)
}
