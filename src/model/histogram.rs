//! Counting how often and how long, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of observations up to each of some bounds, and their sum. In the unit of the bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Observations of at most the bound, but above the one before; the last counter is for those above all.
    counts: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bound, and how many were at most that.
    pub buckets: Vec<(u64, u64)>,
    pub count: u64,
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; N], above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        place.map_or(&self.above, |place| &self.counts[place]).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub fn read(&self) -> Reading {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(N);
        for (bound, here) in self.bounds.iter().zip(&self.counts) {
            count += here.load(Ordering::Relaxed);
            buckets.push((*bound, count));
        }
        count += self.above.load(Ordering::Relaxed);
        Reading { buckets, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}
