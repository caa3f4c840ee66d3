//! How often an address may be wrong. Arithmetic; the time is given.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::base::Now;

/// Wrong tries that are free: fingers slip, and a script may try an old token on ten machines behind one router.
const FREE: f64 = 20.0;
/// Further ones. Unit: per second.
const RATE: f64 = 0.5;
/// Addresses remembered; beyond that the one that was wrong longest ago is forgotten.
const ADDRESSES_MAX: usize = 4096;

/// Wrong tries by address.
#[derive(Debug, Default)]
pub struct WrongTries {
    by_address: BTreeMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Now,
}

impl Bucket {
    fn refill(&mut self, now: Now) {
        self.left = (self.left + now.secs_since(self.at) * RATE).min(FREE);
        self.at = now;
    }
}

impl WrongTries {
    /// May this address try now? If not: seconds until it may.
    pub fn admit(&mut self, from: IpAddr, now: Now) -> Result<(), u64> {
        let Some(bucket) = self.by_address.get_mut(&network(from)) else { return Ok(()) };
        bucket.refill(now);
        if bucket.left >= 1.0 { Ok(()) } else { Err(((1.0 - bucket.left) / RATE).ceil().max(1.0) as u64) }
    }

    /// It was wrong.
    pub fn failed(&mut self, from: IpAddr, now: Now) {
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&network(from)) {
            let oldest = self.by_address.iter().min_by_key(|(_, bucket)| bucket.at).map(|(address, _)| *address);
            oldest.and_then(|address| self.by_address.remove(&address));
        }
        let bucket = self.by_address.entry(network(from)).or_insert(Bucket { left: FREE, at: now });
        bucket.refill(now);
        bucket.left = (bucket.left - 1.0).max(0.0);
    }
}

/// One machine has a whole /64 of IPv6 to try from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: 100 000 tries in a minute come to a few dozen that are looked at. Method: one address, virtual time.
    #[test]
    fn guessing_is_slowed_to_nothing_and_others_do_not_suffer() {
        let mut tries = WrongTries::default();
        let (guesser, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut looked_at = 0;
        for n in 0..100_000u64 {
            let now = Now(n * 600);
            if tries.admit(guesser, now).is_ok() {
                tries.failed(guesser, now);
                looked_at += 1;
            }
        }
        assert!((20..=60).contains(&looked_at), "{looked_at}");
        assert!(tries.admit(guesser, Now(60_000_000)).is_err());
        assert_eq!(tries.admit(other, Now(60_000_000)), Ok(()));
        assert_eq!(tries.admit(guesser, Now(70_000_000)), Ok(()));
    }

    #[test]
    fn memory_for_addresses_is_bounded() {
        let mut tries = WrongTries::default();
        for n in 0..10_000u32 {
            tries.failed(IpAddr::from(n.to_be_bytes()), Now(u64::from(n)));
        }
        assert_eq!(tries.by_address.len(), ADDRESSES_MAX);
    }
}
