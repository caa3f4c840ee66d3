//! Ports, proxies, and whether a LAN can be reached.

use super::facts::{Network, Port, PortState};
use super::finding::Finding;

pub(super) fn check(network: &Network) -> Vec<Finding> {
    let mut found: Vec<Finding> = network.ports.iter().map(port).collect();
    found.push(proxy(network));
    found.push(multicast(&network.multicast));
    found
}

fn port(port: &Port) -> Finding {
    let (host, number, key, flag) = (&port.host, port.number, port.key, port.flag);
    let remedy = format!("stop it, or choose another port: {flag} 0 (any free one), or {key} in rask.toml");
    match &port.state {
        PortState::Free => Finding::ok("ports", format!("{host}:{number} is free ({key})")),
        PortState::Ours => Finding::ok("ports", format!("{host}:{number} is the appliance's ({key})")),
        PortState::Refused(why) => {
            Finding::problem("ports", format!("{host}:{number} cannot be opened ({key}): {why}"))
                .remedy(format!("choose another: {flag}, or {key} and up.host in rask.toml"))
        }
        PortState::Taken(holder) => {
            let by = match holder {
                Some(holder) => match &holder.process {
                    Some((pid, name)) => format!("process {pid} ({name})"),
                    None => format!("a process of user {}", holder.uid),
                },
                None => "a process that cannot be seen from here".to_owned(),
            };
            let rask = holder.as_ref().and_then(|holder| holder.process.as_ref()).is_some_and(|(_, name)| {
                name.split(' ').next().is_some_and(|program| program.rsplit('/').next() == Some("rask"))
            });
            let hint = if rask { "; it is another rask: rask status --state-dir ITS_FOLDER" } else { "" };
            Finding::problem("ports", format!("{host}:{number} is taken by {by} ({key})"))
                .why("`rask up` could not open it")
                .remedy(format!("{remedy}{hint}"))
        }
    }
}

/// Python's HTTP clients, `dask_gateway` among them, obey these variables even for this machine itself.
fn proxy(network: &Network) -> Finding {
    let Some((name, value)) = network.proxies.first() else {
        return Finding::ok("proxy", "no proxy variables");
    };
    let exempt: Vec<&str> = network.no_proxy.split(',').map(str::trim).collect();
    if exempt.contains(&"*") || exempt.contains(&network.host.as_str()) {
        return Finding::ok("proxy", format!("${name} is set, {} is exempt by $no_proxy", network.host));
    }
    Finding::warning("proxy", format!("${name} is {value}, and $no_proxy does not name {}", network.host))
        .why("Gateway() and curl would ask the proxy for this machine, and the proxy cannot reach it")
        .remedy(format!("export no_proxy={},localhost NO_PROXY={},localhost", network.host, network.host))
}

fn multicast(interfaces: &[String]) -> Finding {
    if interfaces.is_empty() {
        return Finding::note("lan", "no network interface reaches a LAN: other machines cannot be found (mDNS)")
            .remedy("on one machine nothing; else give `rask join` the head's URL");
    }
    Finding::ok("lan", format!("mDNS can use {}", interfaces.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;
    use crate::host::PortHolder;

    fn with_proxy(no_proxy: &str) -> Network {
        Network {
            proxies: vec![("http_proxy".to_owned(), "http://proxy:3128".to_owned())],
            no_proxy: no_proxy.to_owned(),
            host: "127.0.0.1".to_owned(),
            ..Network::default()
        }
    }

    #[test]
    fn a_proxy_is_fine_if_this_machine_is_exempt() {
        assert_eq!(proxy(&Network::default()).severity, Severity::Ok);
        assert_eq!(proxy(&with_proxy("localhost, 127.0.0.1")).severity, Severity::Ok);
        assert_eq!(proxy(&with_proxy("*")).severity, Severity::Ok);
        let bad = proxy(&with_proxy("localhost"));
        assert_eq!(bad.severity, Severity::Warning);
        assert!(bad.remedy.contains("no_proxy=127.0.0.1"), "{}", bad.remedy);
    }

    #[test]
    fn a_taken_port_names_who_has_it() {
        let taken = |process| Port {
            host: "127.0.0.1".to_owned(),
            number: 8787,
            key: "up.port",
            flag: "--port",
            state: PortState::Taken(Some(PortHolder { uid: 1000, process })),
        };
        let by_name = port(&taken(Some((7, "/usr/bin/rask up".to_owned()))));
        assert!(by_name.what.contains("process 7 (/usr/bin/rask up)"), "{}", by_name.what);
        assert!(by_name.remedy.contains("another rask"), "{}", by_name.remedy);
        assert!(port(&taken(None)).what.contains("user 1000"));
    }
}
