//! `scheme://host:port`, as Dask writes it.

use std::fmt;

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
    /// Reads `tcp://1.2.3.4:5`, `tls://[::1]:5`, `host:5`. A missing scheme is tcp, a missing port is 0.
    /// Errors: another scheme, a port that is no number.
    pub fn parse(text: &str) -> Result<Self, NetError> {
        Err(NetError::BadAddress(text.into()))
    }

    /// The same address with host names turned into IPs. Errors: unknown host.
    pub async fn resolved(&self) -> Result<Self, NetError> {
        Ok(self.clone())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{left}{}{right}:{}", self.scheme.name(), self.host, self.port)
    }
}
