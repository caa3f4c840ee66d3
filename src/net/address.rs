//! `scheme://host:port`, as Dask writes it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::error::NetError;
use crate::base::Text;

/// How an address is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Dask's frames over TCP.
    Tcp,
    /// The same inside TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket inside TLS.
    Wss,
}

impl Scheme {
    /// Dask's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// From Dask's name; none for schemes that rask does not speak (`inproc`, `ucx`).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Tls, Self::Ws, Self::Wss].into_iter().find(|scheme| scheme.name() == name)
    }

    /// Is it encrypted?
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Is it a WebSocket?
    pub const fn is_ws(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// How to speak.
    pub scheme: Scheme,
    /// Name or IP; IPv6 without brackets.
    pub host: Text,
    /// TCP port; 0: any.
    pub port: u16,
}

impl Address {
    /// Reads `tcp://1.2.3.4:5`, `tls://[::1]:5`, `host:5`. A missing scheme is tcp, a missing port is 0, and a path
    /// (`ws://host:5/`) is passed over. Errors: another scheme, a port that is no number.
    ///
    /// Source: `distributed/comm/addressing.py`, `parse_host_port`.
    pub fn parse(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError::BadAddress(text.into());
        let (scheme, rest) = match text.split_once("://") {
            Some((name, rest)) => (Scheme::from_name(name).ok_or_else(wrong)?, rest),
            None => (Scheme::Tcp, text),
        };
        let rest = rest.split_once('/').map_or(rest, |(rest, _)| rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or_else(wrong)?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) })
            }
            // A bare IPv6 address has several colons and no port.
            None if rest.matches(':').count() > 1 => (rest, None),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(0), |port| port.parse().map_err(|_| wrong()))?;
        if host.is_empty() && text.is_empty() {
            return Err(wrong());
        }
        Ok(Self { scheme, host: host.into(), port })
    }

    /// The address of a socket.
    pub fn of_socket(scheme: Scheme, socket: SocketAddr) -> Self {
        Self { scheme, host: socket.ip().to_canonical().to_string().into(), port: socket.port() }
    }

    /// Every socket address that the host stands for. Errors: unknown host.
    pub async fn sockets(&self) -> Result<Vec<SocketAddr>, NetError> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found: Vec<SocketAddr> = tokio::net::lookup_host((&*self.host, self.port)).await?.collect();
        if found.is_empty() { Err(NetError::BadAddress(self.to_string())) } else { Ok(found) }
    }

    /// The same address with a host name turned into an IP, IPv4 if there is one. Errors: unknown host.
    pub async fn resolved(&self) -> Result<Self, NetError> {
        let sockets = self.sockets().await?;
        let first = sockets.iter().find(|socket| socket.is_ipv4()).or(sockets.first()).copied();
        Ok(first.map_or_else(|| self.clone(), |socket| Self::of_socket(self.scheme, socket)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{left}{}{right}:{}", self.scheme.name(), self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: everything that Dask writes or people type is read, and written back as Dask writes it.
    #[test]
    fn addresses_read_as_dask_writes_them() {
        let read = |text: &str| Address::parse(text).map(|address| address.to_string()).ok();
        assert_eq!(read("tcp://1.2.3.4:5").as_deref(), Some("tcp://1.2.3.4:5"));
        assert_eq!(read("localhost:8786").as_deref(), Some("tcp://localhost:8786"));
        assert_eq!(read("tls://[fe80::1%eth0]:7").as_deref(), Some("tls://[fe80::1%eth0]:7"));
        assert_eq!(read("tcp://::1").as_deref(), Some("tcp://[::1]:0"));
        assert_eq!(read("ws://host:80/").as_deref(), Some("ws://host:80"));
        assert_eq!(read("tcp://:0").as_deref(), Some("tcp://:0"));
        for wrong in ["inproc://x", "tcp://a:b", "tcp://[::1", "tcp://a:70000", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
