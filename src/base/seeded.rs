//! A fast hasher with a fixed start and a small generator: the same seed gives the same run.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

/// `HashMap` whose order depends on its contents alone, never on the process.
pub type SeededMap<K, V> = HashMap<K, V, Seeded>;
/// `HashSet` whose order depends on its contents alone, never on the process.
pub type SeededSet<K> = HashSet<K, Seeded>;

/// Builds hashers that always start alike. Keys come from the cluster's own user, so speed wins over resistance to
/// chosen collisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seeded;

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;
    fn build_hasher(&self) -> SeededHasher {
        SeededHasher { state: 0x9E37_79B9_7F4A_7C15 }
    }
}

/// Multiply-and-fold over eight bytes at a time.
pub struct SeededHasher {
    state: u64,
}

const MULTIPLIER: u64 = 0x2545_F491_4F6C_DD1D;

impl SeededHasher {
    fn mix(&mut self, word: u64) {
        let wide = u128::from(self.state ^ word).wrapping_mul(u128::from(MULTIPLIER) << 1 | 1);
        self.state = (wide as u64) ^ ((wide >> 64) as u64);
    }
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.mix(u64::from_le_bytes(*chunk));
        }
        let mut word = [0u8; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.mix(u64::from_le_bytes(word) ^ ((bytes.len() as u64) << 56));
    }
    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }
    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
    fn finish(&self) -> u64 {
        self.state ^ (self.state >> 29)
    }
}

/// SplitMix64: one word of state, good enough to break ties and to drive simulations.
///
/// From Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; zero when `bound` is zero.
    pub const fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next_u64() % bound as u64) as usize }
    }

    /// A number in `0.0..1.0`.
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}
