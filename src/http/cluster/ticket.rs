//! Tickets for panes without an origin: frames that JupyterLab and others sandbox without `allow-same-origin` say
//! `Origin: null`, as any page may. What tells ours apart is a ticket in its own HTML, which no other page can read. It
//! cannot be guessed, lasts some hours, ends with the scheduler, and opens nothing but reading.

use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A page made within one such stretch always has the same ticket, so that it can be cached. Unit: seconds.
const STRETCH_SECS: f64 = 3_600.0;
/// Stretches after which a ticket is no longer taken: a working day. Its page then loads itself anew.
const STRETCHES: u64 = 12;
/// Half a hash is beyond guessing. Unit: bytes.
const LENGTH: usize = 16;

/// Makes and knows tickets.
#[derive(Clone, Debug)]
pub struct Tickets {
    secret: [u8; 32],
}

impl Tickets {
    /// `secret`: random, of this scheduler only.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The ticket for a page that is loaded now. Unit of `at_secs`: seconds since the epoch.
    pub(super) fn issue(&self, at_secs: f64) -> String {
        self.of(stretch(at_secs))
    }

    /// Whether this is one of our panes that reads.
    pub(super) fn admits(&self, method: &Method, uri: &Uri, headers: &HeaderMap, at_secs: f64) -> bool {
        method == Method::GET
            && headers.get(header::ORIGIN).is_some_and(|origin| origin == HeaderValue::from_static("null"))
            && shown(uri).is_some_and(|ticket| self.is_valid(ticket, at_secs))
    }

    fn is_valid(&self, ticket: &str, at_secs: f64) -> bool {
        let now = stretch(at_secs);
        (now.saturating_sub(STRETCHES)..=now).any(|one| bool::from(self.of(one).as_bytes().ct_eq(ticket.as_bytes())))
    }

    fn of(&self, stretch: u64) -> String {
        // Both parts have a fixed length, so nobody can append to what was hashed.
        let hash = Sha256::new().chain_update(self.secret).chain_update(stretch.to_be_bytes()).finalize();
        HEXLOWER.encode(hash.get(..LENGTH).unwrap_or(&hash))
    }
}

fn stretch(at_secs: f64) -> u64 {
    (at_secs / STRETCH_SECS) as u64
}

fn shown(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("ticket="))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only our own ticket opens, only to a page without an origin that reads, and not for ever.
    #[test]
    fn a_ticket_opens_reading_to_its_own_page_for_some_hours() {
        let tickets = Tickets::new([7; 32]);
        let at = 1e9;
        let ticket = tickets.issue(at);
        let asks = |method: &Method, origin: &'static str, ticket: &str, at: f64| {
            let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            let uri: Uri = format!("/feed?q=1&ticket={ticket}").parse().expect("an address");
            tickets.admits(method, &uri, &headers, at)
        };
        assert!(asks(&Method::GET, "null", &ticket, at) && asks(&Method::GET, "null", &ticket, at + 3_600.0));
        assert!(!asks(&Method::POST, "null", &ticket, at) && !asks(&Method::GET, "http://evil.example", &ticket, at));
        assert!(!asks(&Method::GET, "null", "", at) && !asks(&Method::GET, "null", &ticket, at + 14.0 * 3_600.0));
        assert!(!asks(&Method::GET, "null", &Tickets::new([8; 32]).issue(at), at));
    }
}
