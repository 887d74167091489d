//! How many connections there may be: in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts connections. Its memory is bounded by the limit itself: an address is known only while it is connected.
pub(super) struct Admission {
    most: usize,
    most_per_address: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Admission {
    pub(super) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, state: Mutex::default() })
    }

    /// A place for one more connection, held until it is dropped; `None` when there is none. Whoever it is from takes
    /// it with [`Place::take`].
    pub(super) fn admit(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.all >= self.most {
            return None;
        }
        state.all += 1;
        Some(Place { network: None, admission: self.clone() })
    }
}

pub(super) struct Place {
    network: Option<IpAddr>,
    admission: Arc<Admission>,
}

impl Place {
    /// Whether the place may be `address`'s: one address has only so many.
    pub(super) fn take(&mut self, address: IpAddr) -> bool {
        let network = network(address);
        let mut state = self.admission.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.network.is_some()
            || state.by_address.get(&network).is_some_and(|n| *n >= self.admission.most_per_address)
        {
            return false;
        }
        *state.by_address.entry(network).or_default() += 1;
        self.network = Some(network);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.all -= 1;
        let Some(network) = self.network else { return };
        if let Some(count) = state.by_address.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&network);
            }
        }
    }
}

/// What one customer of a network provider has: an IPv4 address, or an IPv6 /64 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// Lets a log line through at most once in a while, and counts those it holds back.
pub(super) struct Occasionally {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Occasionally {
    const INTERVAL: Duration = Duration::from_secs(5);

    pub(super) const fn new() -> Self {
        Self { state: Mutex::new((None, 0)) }
    }

    /// How often this has happened since the last line, when it is time for a line.
    pub(super) fn due(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        if state.0.is_some_and(|last| last.elapsed() < Self::INTERVAL) {
            return None;
        }
        state.0 = Some(Instant::now());
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(admission: &Arc<Admission>, address: IpAddr) -> Option<Place> {
        let mut place = admission.admit()?;
        place.take(address).then_some(place)
    }

    #[test]
    fn one_address_cannot_take_all_places_nor_an_ipv6_subscriber_with_many() {
        let admission = Admission::new(10, 2);
        let v6 = |last: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 1, 0, 0, 0, last));
        let held: Vec<_> = (0..2).map(|n| admit(&admission, v6(n)).unwrap()).collect();
        assert!(admit(&admission, v6(9)).is_none(), "the same /64");
        assert!(admit(&admission, "2001:db8:0:2::1".parse().unwrap()).is_some());
        let _mapped = [(); 2].map(|()| admit(&admission, "::ffff:192.0.2.1".parse().unwrap()).unwrap());
        assert!(admit(&admission, "192.0.2.1".parse().unwrap()).is_none(), "the same address in IPv6 notation");
        drop(held);
        assert!(admit(&admission, v6(9)).is_some(), "a place that is free again");
    }

    #[test]
    fn all_addresses_together_are_limited_and_forgotten_when_they_leave() {
        let admission = Admission::new(3, 2);
        let held: Vec<_> = (0..3).map(|n| admit(&admission, IpAddr::from([192, 0, 2, n])).unwrap()).collect();
        assert!(admit(&admission, IpAddr::from([192, 0, 2, 3])).is_none());
        drop(held);
        assert!(admission.state.lock().unwrap().by_address.is_empty());
    }
}
