//! Certificates in the state folder: when they end, who signed them, whether their keys are there.

use super::facts::Certificate;
use super::finding::{Finding, show};
use crate::app::text::counted;

/// Before the end of a certificate that nobody renews by itself, a person should hear of it. Unit: seconds.
const SOON: i64 = 30 * 24 * 3600;

pub(super) fn check(all: &[Certificate], now: f64) -> Vec<Finding> {
    if all.is_empty() {
        return vec![Finding::ok("tls", "no certificates yet: they are made when they are needed")];
    }
    // Seconds since the epoch fit in 63 bits for a while.
    let bad: Vec<Finding> = all.iter().filter_map(|one| one_of(one, all, now as i64)).collect();
    if bad.is_empty() {
        let number = counted(all.len() as u64, "certificate");
        return vec![Finding::ok("tls", format!("{number}, all valid"))];
    }
    bad
}

fn one_of(one: &Certificate, all: &[Certificate], now: i64) -> Option<Finding> {
    let (what, file) = (&one.what, show(&one.path));
    let facts = match &one.facts {
        Ok(facts) => facts,
        Err(why) => {
            return Some(
                Finding::problem("tls", format!("{what}: {file} is no certificate: {why}"))
                    .why("nobody can connect by TLS with it")
                    .remedy("restore the file; or remove it with its key: a new one is made"),
            );
        }
    };
    let anew = if one.is_authority {
        "remove it with its key: `rask up` makes a new one, and other machines must join again"
    } else {
        "restart what it belongs to: it is made anew at the start"
    };
    if facts.not_after < now {
        return Some(
            Finding::problem("tls", format!("{what} is no longer valid ({file})"))
                .why("every client refuses it")
                .remedy(anew),
        );
    }
    if facts.not_before > now {
        return Some(
            Finding::problem("tls", format!("{what} is not valid yet ({file})"))
                .why("the clock was ahead when it was made, or is behind now")
                .remedy("set the clock: timedatectl set-ntp true"),
        );
    }
    if !one.has_key {
        return Some(
            Finding::problem("tls", format!("{what} has no key ({})", show(&one.path.with_extension("key"))))
                .why("nothing can be proved with it")
                .remedy(anew),
        );
    }
    let authority = all.iter().find(|other| other.is_authority).and_then(|other| other.facts.as_ref().ok());
    let stranger = one.by_authority && authority.is_some_and(|authority| authority.subject != facts.issuer);
    if stranger {
        return Some(
            Finding::warning("tls", format!("{what} was signed by another authority ({})", facts.issuer))
                .why("who trusts the authority of this folder refuses it")
                .remedy(anew),
        );
    }
    (facts.not_after.saturating_sub(now) < SOON && one.is_authority).then(|| {
        Finding::warning("tls", format!("{what} ends within 30 days ({file})"))
            .why("after that nobody can join or connect by TLS")
            .remedy(anew)
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::finding::Severity;
    use super::*;
    use crate::pki::CertificateFacts;

    const NOW: i64 = 1_800_000_000;

    fn certificate(is_authority: bool, issuer: &str, days: i64) -> Certificate {
        Certificate {
            what: "it".to_owned(),
            path: PathBuf::from("/state/x.crt"),
            is_authority,
            by_authority: !is_authority,
            has_key: true,
            facts: Ok(CertificateFacts {
                subject: "CN=a".to_owned(),
                issuer: issuer.to_owned(),
                names: Vec::new(),
                not_before: NOW - 3600,
                not_after: NOW + days * 24 * 3600,
                fingerprint: String::new(),
                public_key: Vec::new(),
            }),
        }
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_a_certificate_is_told() {
        let rate = |all: &[Certificate]| check(all, NOW as f64).iter().map(|finding| finding.severity).max();
        let authority = certificate(true, "CN=a", 400);
        assert_eq!(rate(&[]), Some(Severity::Ok));
        assert_eq!(rate(&[authority.clone(), certificate(false, "CN=a", 5)]), Some(Severity::Ok));
        assert_eq!(rate(&[certificate(true, "CN=a", 5)]), Some(Severity::Warning));
        assert_eq!(rate(&[authority.clone(), certificate(false, "CN=b", 90)]), Some(Severity::Warning));
        assert_eq!(rate(&[authority.clone(), certificate(false, "CN=a", -1)]), Some(Severity::Problem));
        assert_eq!(rate(&[Certificate { has_key: false, ..authority.clone() }]), Some(Severity::Problem));
        assert_eq!(rate(&[Certificate { facts: Err("torn".to_owned()), ..authority }]), Some(Severity::Problem));
    }
}
