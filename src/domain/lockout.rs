//! Failed sign-ins are counted by account and by address. In memory: a restart is not in an attacker's hands.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Time;
use crate::error::Error;
use crate::store::users::folded;

const WINDOW: Duration = Duration::from_secs(15 * 60);
const BY_ACCOUNT: usize = 5;
const BY_ADDRESS: usize = 20;
/// Accounts and addresses remembered, each.
const CAPACITY: usize = 10_000;

/// What is tried, beside the address that it is tried from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attempted {
    /// A password or code of the account with this e-mail, folded.
    Account(String),
    /// A link for another password, by this e-mail, folded.
    Reset(String),
    /// Links for another password, by anybody at this address.
    ResetsFrom(IpAddr),
    /// The secret of a link, by anybody at this address: nobody can lock others out of theirs.
    LinksFrom(IpAddr),
    Setup,
}

impl Attempted {
    pub fn account(email: &str) -> Self {
        Self::Account(folded(email))
    }

    pub fn reset(email: &str) -> Self {
        Self::Reset(folded(email))
    }

    pub fn resets_from(address: IpAddr) -> Self {
        Self::ResetsFrom(network(address))
    }

    pub fn links_from(address: IpAddr) -> Self {
        Self::LinksFrom(network(address))
    }

    const fn limit(&self) -> usize {
        match self {
            Self::ResetsFrom(_) => BY_ADDRESS,
            _ => BY_ACCOUNT,
        }
    }
}

#[derive(Default)]
pub struct Lockout {
    attempted: Mutex<Failures<Attempted>>,
    addresses: Mutex<Failures<IpAddr>>,
}

impl Lockout {
    /// Refuses further attempts for a while after too many failures.
    pub fn check(&self, attempted: &Attempted, address: IpAddr, now: Time) -> Result<(), Error> {
        self.check_with(&lock(&self.attempted), attempted, address, now)
    }

    /// Counts against the account before it is known how the attempt ends, so that many at once are no more than one
    /// after the other; [`Self::succeeded`] takes it back.
    pub fn begin(&self, attempted: &Attempted, address: IpAddr, now: Time) -> Result<(), Error> {
        let mut failures = lock(&self.attempted);
        self.check_with(&failures, attempted, address, now)?;
        failures.add(attempted.clone(), attempted.limit(), now);
        Ok(())
    }

    pub fn failed(&self, attempted: &Attempted, address: IpAddr, now: Time) {
        lock(&self.attempted).add(attempted.clone(), attempted.limit(), now);
        self.failed_from(address, now);
    }

    /// The failure of an attempt that [`Self::begin`] has counted against its account.
    pub fn failed_from(&self, address: IpAddr, now: Time) {
        lock(&self.addresses).add(network(address), BY_ADDRESS, now);
    }

    fn check_with(
        &self,
        failures: &Failures<Attempted>,
        attempted: &Attempted,
        address: IpAddr,
        now: Time,
    ) -> Result<(), Error> {
        let by_account = failures.locked_for(attempted, attempted.limit(), now);
        let by_address = lock(&self.addresses).locked_for(&network(address), BY_ADDRESS, now);
        match by_account.max(by_address) {
            None => Ok(()),
            Some(retry_after) => {
                Err(Error::TooMany { message: "too many login attempts, try again in 15 minutes".into(), retry_after })
            }
        }
    }

    /// The account's owner is here: what others guessed before does not lock the owner out.
    pub fn succeeded(&self, attempted: &Attempted) {
        lock(&self.attempted).times.remove(attempted);
    }
}

/// One customer of a provider holds a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

struct Failures<K> {
    times: HashMap<K, VecDeque<Time>>,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self { times: HashMap::new() }
    }
}

impl<K: Hash + Eq + Clone> Failures<K> {
    fn locked_for(&self, key: &K, limit: usize, now: Time) -> Option<Duration> {
        let times = self.times.get(key)?;
        let recent = times.iter().filter(|time| now.since(**time) < WINDOW).count();
        let oldest = times.iter().rev().nth(limit - 1)?;
        (recent >= limit).then(|| WINDOW.saturating_sub(now.since(*oldest)).max(Duration::from_secs(1)))
    }

    fn add(&mut self, key: K, limit: usize, now: Time) {
        if self.times.len() >= CAPACITY && !self.times.contains_key(&key) {
            self.times.retain(|_, times| times.back().is_some_and(|last| now.since(*last) < WINDOW));
            // Still full: forget one, so that memory is bounded and the newest failures count.
            if self.times.len() >= CAPACITY
                && let Some(any) = self.times.keys().next().cloned()
            {
                self.times.remove(&any);
            }
        }
        let times = self.times.entry(key).or_default();
        times.push_back(now);
        while times.len() > limit {
            times.pop_front();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
