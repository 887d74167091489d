//! Who has proven a password and must prove more. In memory: a restart asks for the password again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lockout::Attempted;
use super::secrets;
use crate::clock::Time;
use crate::ids::{OrganizationId, UserId};
use crate::model::user::{User, UserStatus};

/// How long the second factor may be given.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// Codes that may be tried.
const ATTEMPTS: u8 = 5;
/// Challenges at a time.
const CAPACITY: usize = 10_000;

#[derive(Clone)]
pub struct Challenge {
    pub organization_id: OrganizationId,
    pub user_id: UserId,
    /// As failures are counted.
    pub account: Attempted,
    password: [u8; 32],
    expires_at: Time,
    attempts: u8,
}

impl Challenge {
    pub fn new(user: &User, now: Time) -> Self {
        Self {
            organization_id: user.organization_id,
            user_id: user.id,
            account: Attempted::account(&user.email),
            password: fingerprint(user),
            expires_at: now.plus(LIFE),
            attempts: 0,
        }
    }

    /// Whether the user is still the one who has proven the password, and still has a second factor to prove.
    pub fn stands(&self, user: &User) -> bool {
        user.status == UserStatus::Active && user.mfa_enabled() && fingerprint(user) == self.password
    }
}

fn fingerprint(user: &User) -> [u8; 32] {
    secrets::hash(user.password_hash.as_deref().unwrap_or_default())
}

/// By the hash of their tokens.
#[derive(Default)]
pub struct Challenges(Mutex<HashMap<[u8; 32], Challenge>>);

impl Challenges {
    pub fn put(&self, token: &str, challenge: Challenge, now: Time) {
        let mut challenges = self.lock();
        if challenges.len() >= CAPACITY {
            challenges.retain(|_, challenge| now < challenge.expires_at);
            // Still full: whoever has had the longest time loses the rest of it.
            let oldest = challenges.iter().min_by_key(|(_, challenge)| challenge.expires_at).map(|(hash, _)| *hash);
            if let Some(oldest) = oldest.filter(|_| challenges.len() >= CAPACITY) {
                challenges.remove(&oldest);
            }
        }
        challenges.insert(secrets::hash(token), challenge);
    }

    /// Takes one of the token's attempts, before it is known how it ends: many at once are no more than one by one.
    pub fn attempt(&self, token: &str, now: Time) -> Option<Challenge> {
        let (mut challenges, hash) = (self.lock(), secrets::hash(token));
        let challenge = challenges.get_mut(&hash)?;
        if now >= challenge.expires_at || challenge.attempts == ATTEMPTS {
            challenges.remove(&hash);
            return None;
        }
        challenge.attempts += 1;
        Some(challenge.clone())
    }

    pub fn end(&self, token: &str) {
        self.lock().remove(&secrets::hash(token));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Challenge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_lapse_and_the_newest_always_fit() {
        let challenges = Challenges::default();
        let start = Time::from_unix(1_800_000_000);
        let challenge = |now: Time| Challenge {
            organization_id: OrganizationId::from_bytes([1; 16]),
            user_id: UserId::from_bytes([2; 16]),
            account: Attempted::account("ada@acme.example"),
            password: [0; 32],
            expires_at: now.plus(LIFE),
            attempts: 0,
        };
        challenges.put("oldest", challenge(start), start);
        let later = start.plus(Duration::from_secs(1));
        for number in 0..CAPACITY {
            challenges.put(&number.to_string(), challenge(later), later);
        }
        assert_eq!(challenges.lock().len(), CAPACITY);
        assert!(challenges.attempt("oldest", later).is_none());
        assert!(challenges.attempt("0", start.plus(LIFE)).is_some());
        assert!(challenges.attempt("0", later.plus(LIFE)).is_none());
        for new in ["new", "newer"] {
            challenges.put(new, challenge(later.plus(LIFE)), later.plus(LIFE));
        }
        assert_eq!(challenges.lock().len(), 2, "what has lapsed makes room");
    }
}
