//! Rate limits: the generic cell rate algorithm (the `governor` crate) over a bounded number of keys in memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use crate::clock::Clock;
use crate::config::LimitsConfig;
use crate::domain::op::Principal;
use crate::model::organization::Tier;

/// What the rate-limit headers say.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub limit: u32,
    pub remaining: u32,
    /// Until the full quota is available again.
    pub full_after: Duration,
    /// Set when this request is over the limit: how long to wait.
    pub retry_after: Option<Duration>,
}

/// Whom a request counts against: a principal by its id, or an address (IPv6: its /64, which is what one customer of
/// a provider holds).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct LimitKey([u8; 16]);

pub struct Limits {
    anonymous: Bucket,
    authenticated: Bucket,
    enterprise: Bucket,
}

impl Limits {
    pub fn new(config: &LimitsConfig, clock: Arc<dyn Clock>) -> Self {
        let bucket = |per_minute| Bucket::new(per_minute, config.keys as usize, Uptime(clock.clone()));
        Self {
            anonymous: bucket(config.unauthenticated_per_minute),
            authenticated: bucket(config.authenticated_per_minute),
            enterprise: bucket(config.enterprise_per_minute),
        }
    }

    pub fn by_address(&self, address: IpAddr) -> Verdict {
        self.anonymous.count(LimitKey(match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => v4.to_ipv6_mapped().octets(),
                None => (u128::from(v6) >> 64 << 64).to_be_bytes(),
            },
        }))
    }

    /// `None` for a principal that counts by its address.
    pub fn by_principal(&self, principal: &Principal, tier: Tier) -> Option<Verdict> {
        let bucket = match tier {
            Tier::Standard => &self.authenticated,
            Tier::Enterprise => &self.enterprise,
        };
        principal.key().map(|key| bucket.count(LimitKey(key)))
    }
}

struct Bucket {
    limiter: RateLimiter<LimitKey, BoundedKeys, Uptime, StateInformationMiddleware>,
    per_minute: NonZeroU32,
}

impl Bucket {
    fn new(per_minute: NonZeroU32, keys: usize, clock: Uptime) -> Self {
        let quota = Quota::per_minute(per_minute);
        let store = BoundedKeys { arrivals: Mutex::default(), capacity: keys.max(2), clock: clock.clone() };
        let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Since>>::new(quota, store, clock).with_middleware();
        Self { limiter, per_minute }
    }

    fn count(&self, key: LimitKey) -> Verdict {
        let limit = self.per_minute.get();
        let (remaining, retry_after) = match self.limiter.check_key(&key) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(until) => (0, Some(until.wait_time_from(self.limiter.clock().now()))),
        };
        let full_after = Duration::from_secs(60) * (limit - remaining.min(limit)) / limit;
        Verdict { limit, remaining, full_after, retry_after }
    }
}

/// For each key the theoretical arrival time of the algorithm, for so many keys and no more.
///
/// When there is no room, keys whose quota is full again go first, since they say nothing; then the half that has used
/// the least. Whoever has used a quota up is still known then, whatever addresses arrive.
struct BoundedKeys {
    arrivals: Mutex<HashMap<LimitKey, Nanos>>,
    capacity: usize,
    clock: Uptime,
}

impl StateStore for BoundedKeys {
    type Key = LimitKey;

    fn measure_and_replace<T, F, E>(&self, key: &LimitKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let (verdict, next) = decide(arrivals.get(key).copied())?;
        if arrivals.len() >= self.capacity && !arrivals.contains_key(key) {
            make_room(&mut arrivals, self.capacity, self.clock.now().0);
        }
        arrivals.insert(*key, next);
        Ok(verdict)
    }
}

fn make_room(arrivals: &mut HashMap<LimitKey, Nanos>, capacity: usize, now: Nanos) {
    arrivals.retain(|_, arrival| *arrival > now);
    if arrivals.len() < capacity {
        return;
    }
    let mut used: Vec<Nanos> = arrivals.values().copied().collect();
    let middle = used.len() / 2;
    let (_, median, _) = used.select_nth_unstable(middle);
    let median = *median;
    arrivals.retain(|_, arrival| *arrival > median);
}

/// Governor's view of the appliance's clock.
#[derive(Clone)]
struct Uptime(Arc<dyn Clock>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Since(Nanos);

impl GovernorClock for Uptime {
    type Instant = Since;

    fn now(&self) -> Since {
        Since(Nanos::from(self.0.uptime()))
    }
}

impl std::ops::Add<Nanos> for Since {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + nanos)
    }
}

impl Reference for Since {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0)
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}
