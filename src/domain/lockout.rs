//! Failed sign-ins are counted by account and by address. In memory: a restart is not in an attacker's hands.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Time;
use crate::error::Error;

const WINDOW: Duration = Duration::from_secs(15 * 60);
const BY_ACCOUNT: usize = 5;
const BY_ADDRESS: usize = 20;
/// Accounts and addresses remembered, each.
const CAPACITY: usize = 10_000;

#[derive(Default)]
pub struct Lockout {
    accounts: Mutex<Failures<String>>,
    addresses: Mutex<Failures<IpAddr>>,
}

impl Lockout {
    /// Refuses further attempts for a while after too many failures.
    pub fn check(&self, account: &str, address: IpAddr, now: Time) -> Result<(), Error> {
        self.check_with(&lock(&self.accounts), account, address, now)
    }

    /// Counts against the account before it is known how the attempt ends, so that many at once are no more than one
    /// after the other; [`Self::succeeded`] takes it back.
    pub fn begin(&self, account: &str, address: IpAddr, now: Time) -> Result<(), Error> {
        let mut accounts = lock(&self.accounts);
        self.check_with(&accounts, account, address, now)?;
        accounts.add(account.to_owned(), BY_ACCOUNT, now);
        Ok(())
    }

    pub fn failed(&self, account: &str, address: IpAddr, now: Time) {
        lock(&self.accounts).add(account.to_owned(), BY_ACCOUNT, now);
        self.failed_from(address, now);
    }

    /// The failure of an attempt that [`Self::begin`] has counted against its account.
    pub fn failed_from(&self, address: IpAddr, now: Time) {
        lock(&self.addresses).add(network(address), BY_ADDRESS, now);
    }

    fn check_with(&self, accounts: &Failures<String>, account: &str, address: IpAddr, now: Time) -> Result<(), Error> {
        let by_account = accounts.locked_for(&account.to_owned(), BY_ACCOUNT, now);
        let by_address = lock(&self.addresses).locked_for(&network(address), BY_ADDRESS, now);
        match by_account.max(by_address) {
            None => Ok(()),
            Some(retry_after) => {
                Err(Error::TooMany { message: "too many login attempts, try again in 15 minutes".into(), retry_after })
            }
        }
    }

    /// The account's owner is here: what others guessed before does not lock the owner out.
    pub fn succeeded(&self, account: &str) {
        lock(&self.accounts).times.remove(account);
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
