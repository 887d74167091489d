//! Chance that can be had again: SplitMix64 (Steele, Lea, Flood, 2014).

use std::time::Duration;

pub struct Dice(u64);

impl Dice {
    /// Every device has dice of its own, so that its fate does not depend on the order of answers.
    pub fn new(seed: u64, device: u32) -> Self {
        let mut mixed = Self(seed);
        Self(mixed.roll() ^ u64::from(device))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub fn percent(&mut self, share: u8) -> bool {
        self.below(100) < u64::from(share)
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Between nothing and `most`, in milliseconds.
    pub fn within(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.below(most.as_millis() as u64 + 1))
    }
}
