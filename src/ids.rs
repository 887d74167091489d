//! Typed identifiers. Each is a UUID v7 (RFC 9562): ordered by the time it was made, so that new rows go to the end
//! of their table.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(transparent, inline)]
        pub struct $name(Uuid);

        impl $name {
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Reads the hyphenated form only; anything else is `None`.
            pub fn parse(text: &str) -> Option<Self> {
                (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

ids! {
    OrganizationId,
    UserId,
    SessionId,
    DeviceId,
    CommandId,
    EnrollmentTokenId,
    ApiKeyId,
    PolicyId,
    GroupId,
    RoleId,
    MailId,
    WebhookId,
    DeliveryId,
    AuditId,
    ErasureId,
    RequestId,
}

/// Makes identifiers that only ever grow, even when the clock stands still or steps back.
pub struct Ids {
    clock: Arc<dyn Clock>,
    last: Mutex<u128>,
    random: Mutex<Random>,
}

/// Random bytes in store: every request has an identifier, and the operating system takes as long for many bytes as for
/// a few. Nothing that is made of them is a secret.
struct Random {
    bytes: [u8; 1024],
    used: usize,
}

impl Random {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > self.bytes.len() {
            fill_random(&mut self.bytes);
            self.used = 0;
        }
        let mut next = [0; N];
        next.copy_from_slice(&self.bytes[self.used..self.used + N]);
        self.used += N;
        next
    }
}

impl Ids {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let random = Random { bytes: [0; 1024], used: 1024 };
        Self { clock, last: Mutex::new(0), random: Mutex::new(random) }
    }

    /// Every later identifier is greater than `seen`.
    pub fn start_after(&self, seen: &[u8; 16]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(u128::from_be_bytes(*seen));
    }

    pub fn next<T: From<Uuid>>(&self) -> T {
        T::from(Uuid::from_u128(self.grow(u128::from_be_bytes(*self.fresh().as_bytes()))))
    }

    fn fresh(&self) -> Uuid {
        let millis = u64::try_from(self.clock.now_ms()).unwrap_or(0);
        let random = self.random.lock().unwrap_or_else(PoisonError::into_inner).next();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    fn grow(&self, candidate: u128) -> u128 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Within one millisecond the random bits decide, so a candidate may be smaller than the last one: then count on
        // from the last, past the next multiple of 2^32 so that neighbours cannot be guessed from each other.
        let next = if candidate > *last { candidate } else { after(*last, candidate as u32) };
        *last = next;
        next
    }
}

/// The next valid v7 value after `last` with `noise` as its low bits.
fn after(last: u128, noise: u32) -> u128 {
    const VERSION: u128 = 0xF << 76;
    const VARIANT: u128 = 0b11 << 62;
    let mut millis_a = last >> 80 << 12 | (last >> 64 & 0xFFF);
    let mut tail = (last & ((1 << 62) - 1)) >> 32;
    tail += 1;
    if tail >> 30 != 0 {
        tail = 0;
        millis_a += 1;
    }
    let high = (millis_a >> 12 << 80) | ((millis_a & 0xFFF) << 64);
    (high & !VERSION | 7 << 76) | ((tail << 32 | u128::from(noise)) & !VARIANT | 0b10 << 62)
}

/// Fills `buffer` from the operating system's random source.
///
/// # Panics
/// When the system has no random source: nothing the appliance does would be safe then.
pub fn fill_random(buffer: &mut [u8]) {
    use ring::rand::SecureRandom;
    ring::rand::SystemRandom::new().fill(buffer).expect("the operating system has a random source");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Time};

    #[test]
    fn ids_grow_while_the_clock_stands_still_and_stay_version_7() {
        let ids = Ids::new(Arc::new(ManualClock::at(Time::from_unix(1_700_000_000))));
        let made: Vec<Uuid> = (0..10_000).map(|_| ids.next::<Uuid>()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(made.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
    }

    #[test]
    fn ids_start_after_what_the_store_already_holds() {
        let ids = Ids::new(Arc::new(ManualClock::at(Time::from_unix(0))));
        let seen = uuid::Builder::from_unix_timestamp_millis(1_800_000_000_000, &[0xFF; 10]).into_uuid();
        ids.start_after(seen.as_bytes());
        assert!(ids.next::<Uuid>() > seen);
    }
}
