//! From Dask's spelling of addresses to what is listened on.
//!
//! Source: `distributed/comm/addressing.py`, `addresses_from_user_args`; `distributed/cli/dask_scheduler.py`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, ToSocketAddrs};

use crate::app::command_error::CommandError;
use crate::cluster::ListenSpec;
use crate::net::Scheme;

/// Dask's port for schedulers.
const SCHEDULER_PORT: u16 = 8786;

/// `--host --port --interface --protocol`, as given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Where<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) port: Option<&'a str>,
    pub(crate) interface: Option<&'a str>,
    pub(crate) protocol: Option<&'a str>,
    /// For addresses that name no scheme.
    pub(crate) default_scheme: &'a str,
}

/// One spec per protocol. `--protocol` and `--port` may be lists of equal length.
pub(crate) fn specs(asked: Where<'_>) -> Result<Vec<ListenSpec>, CommandError> {
    let (scheme, host, port_in_host) = match asked.host {
        Some(host) => split_uri(host)?,
        None => (None, "", None),
    };
    let protocols: Vec<&str> = asked.protocol.map_or_else(Vec::new, |list| list.split(',').map(str::trim).collect());
    let ports: Vec<&str> = asked.port.map_or_else(Vec::new, |list| list.split(',').map(str::trim).collect());
    let count = protocols.len().max(ports.len()).max(1);
    let mismatch = |list: &Vec<&str>| count > 1 && !list.is_empty() && list.len() != count;
    if mismatch(&protocols) || mismatch(&ports) || (count > 1 && protocols.len() != count) {
        return Err(CommandError::usage("--protocol and --port must be lists of the same length"));
    }
    let ip = match (asked.interface, host) {
        (Some(name), "") => Some(interface_address(name)?),
        (Some(_), _) => return Err(CommandError::usage("give either --host or --interface, not both")),
        (None, host) => resolve(host)?,
    };
    (0..count)
        .map(|index| {
            let scheme = match (protocols.get(index), scheme) {
                (Some(name), _) => parse_scheme(name)?,
                (None, Some(scheme)) => scheme,
                (None, None) => parse_scheme(asked.default_scheme)?,
            };
            let port = match (ports.get(index), port_in_host) {
                (Some(text), _) => parse_port("--port", text)?,
                (None, Some(port)) => port,
                (None, None) if index == 0 => SCHEDULER_PORT,
                (None, None) => 0,
            };
            Ok(ListenSpec { scheme, host: ip, port })
        })
        .collect()
}

/// The loopback address that all of them listen on. None: other machines reach one of them.
pub(crate) fn loopback(specs: &[ListenSpec]) -> Option<IpAddr> {
    let all = specs.iter().all(|spec| spec.host.is_some_and(|host| host.to_canonical().is_loopback()));
    specs.first().and_then(|spec| spec.host).filter(|_| all)
}

/// Takes the port of `--dashboard-address`; another one if that is in use, as Dask does. Without a host it is on
/// `loopback`, if the scheduler is reached there only, and otherwise on every interface.
pub(crate) fn dashboard(address: &str, loopback: Option<IpAddr>) -> Result<TcpListener, CommandError> {
    let (host, port) = dashboard_address(address)?;
    let host = host.or(loopback).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let failed =
        |why: io::Error| CommandError::world(format!("cannot listen for the dashboard on {host}:{port}: {why}"));
    match TcpListener::bind((host, port)) {
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!("port {port} for the dashboard is in use; taking another");
            TcpListener::bind((host, 0)).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// `--dashboard-address`: `:8787`, `8787`, `host:8787` or a URL. `None` for the host: it names none.
fn dashboard_address(text: &str) -> Result<(Option<IpAddr>, u16), CommandError> {
    let bare = text.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
    let bare = if bare.is_empty() { ":0" } else { bare };
    let (host, port) = bare.rsplit_once(':').unwrap_or(("", bare));
    let host = host.trim_matches(['[', ']']);
    let named = |ip: Option<IpAddr>| ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let host = if host.is_empty() { None } else { Some(named(resolve(host)?)) };
    Ok((host, parse_port("--dashboard-address", port)?))
}

fn parse_scheme(name: &str) -> Result<Scheme, CommandError> {
    let name = name.trim_end_matches("://");
    Scheme::from_name(name).ok_or_else(|| {
        CommandError::usage(format!("protocol {name} is not supported")).remedy("use tcp, tls, ws or wss")
    })
}

fn parse_port(flag: &str, text: &str) -> Result<u16, CommandError> {
    text.parse().map_err(|_| CommandError::usage(format!("{flag}: {text} is not a port (0 to 65535)")))
}

/// `[scheme://][host][:port]`
fn split_uri(text: &str) -> Result<(Option<Scheme>, &str, Option<u16>), CommandError> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(parse_scheme(scheme)?), rest),
        None => (None, text),
    };
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) =
            inner.split_once(']').ok_or_else(|| CommandError::usage(format!("--host {text} lacks a ]")))?;
        let port = after.strip_prefix(':').map(|port| parse_port("--host", port)).transpose()?;
        return Ok((scheme, host, port));
    }
    match rest.rsplit_once(':') {
        // More than one colon and no brackets: an IPv6 address.
        Some((host, _)) if host.contains(':') => Ok((scheme, rest, None)),
        Some((host, port)) => Ok((scheme, host, Some(parse_port("--host", port)?))),
        None => Ok((scheme, rest, None)),
    }
}

/// None: every interface, which is what nothing, `0.0.0.0` and `::` mean.
pub(in crate::app) fn resolve(host: &str) -> Result<Option<IpAddr>, CommandError> {
    if host.is_empty() {
        return Ok(None);
    }
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => {
            let found = (host, 0).to_socket_addrs().ok().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
            let v4_first = found.iter().find(|address| address.is_ipv4()).or_else(|| found.first());
            v4_first
                .map(std::net::SocketAddr::ip)
                .ok_or_else(|| CommandError::usage(format!("the host name {host} is unknown")))?
        }
    };
    Ok((!ip.is_unspecified()).then_some(ip))
}

/// The first address of a network interface, an IPv4 one if there is one.
pub(in crate::app) fn interface_address(name: &str) -> Result<IpAddr, CommandError> {
    let networks = sysinfo::Networks::new_with_refreshed_list()
        .map_err(|why| CommandError::world(format!("cannot list network interfaces: {why}")))?;
    let Some((_, network)) = networks.iter().find(|(interface, _)| interface.to_str() == Some(name)) else {
        let known: Vec<String> = networks.keys().map(|name| name.to_string_lossy().into_owned()).collect();
        return Err(CommandError::usage(format!("no network interface {name}"))
            .remedy(format!("there are: {}", known.join(", "))));
    };
    let addresses: Vec<IpAddr> = network.ip_networks().iter().map(|network| network.addr).collect();
    let v4_first = addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first()).copied();
    v4_first.ok_or_else(|| CommandError::usage(format!("the network interface {name} has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(host: Option<&str>, port: Option<&str>, protocol: Option<&str>) -> ListenSpec {
        let asked = Where { host, port, protocol, default_scheme: "tcp", ..Where::default() };
        specs(asked).expect("valid").remove(0)
    }

    #[test]
    fn addresses_are_read_as_dask_reads_them() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(one(None, None, None), ListenSpec { scheme: Scheme::Tcp, host: None, port: 8786 });
        let spec = ListenSpec { scheme: Scheme::Tls, host: ip("127.0.0.1"), port: 9000 };
        assert_eq!(one(Some("tls://127.0.0.1:9000"), None, None), spec);
        assert_eq!(one(Some("tls://"), Some("0"), None), ListenSpec { scheme: Scheme::Tls, host: None, port: 0 });
        assert_eq!(one(Some("0.0.0.0"), Some("7"), Some("ws")), ListenSpec { scheme: Scheme::Ws, host: None, port: 7 });
        assert_eq!(one(Some("::1"), None, None).host, ip("::1"));
        assert_eq!(one(Some("[::1]:7"), None, None), ListenSpec { scheme: Scheme::Tcp, host: ip("::1"), port: 7 });
        assert_eq!(dashboard_address(":8787"), Ok((None, 8787)));
        assert_eq!(dashboard_address("127.0.0.1:0"), Ok((ip("127.0.0.1"), 0)));
        assert_eq!(dashboard_address("8787"), Ok((None, 8787)));
        assert_eq!(dashboard_address("0.0.0.0:8787"), Ok((ip("0.0.0.0"), 8787)), "every interface, by name");
    }

    #[test]
    fn lists_must_match_and_protocols_be_known() {
        let both = Where { port: Some("8786,0"), protocol: Some("tcp,ws"), default_scheme: "tcp", ..Where::default() };
        let specs_of = |asked| specs(asked).map(|specs| specs.iter().map(|s| (s.scheme, s.port)).collect::<Vec<_>>());
        assert_eq!(specs_of(both), Ok(vec![(Scheme::Tcp, 8786), (Scheme::Ws, 0)]));
        assert!(specs_of(Where { port: Some("1,2"), protocol: Some("tcp"), ..both }).is_err());
        assert!(specs_of(Where { port: None, protocol: Some("ucx"), ..both }).is_err());
        assert!(specs_of(Where { port: Some("70000"), protocol: None, ..both }).is_err());
    }
}
