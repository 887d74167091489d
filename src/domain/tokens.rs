//! Access tokens: JWT (RFC 7519), HS256, as RFC 9068 names their type and claims.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use super::secrets;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{SessionId, UserId, fill_random};
use crate::model::session::SigningKey;

const TYPE: &str = "at+jwt";
const ISSUER: &str = "zero";
const AUDIENCE: &str = "zero-api";

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// What a good access token says. Whether its session still lives is for the caller to find out.
#[derive(Clone, Copy)]
pub struct Access {
    pub user_id: UserId,
    pub session_id: SessionId,
}

pub fn new_signing_key(now: Time) -> SigningKey {
    let mut secret = [0; 32];
    fill_random(&mut secret);
    SigningKey { id: secrets::random()[..16].into(), secret, created_at: now }
}

/// Those of `keys`, newest first, that are needed besides a key which takes over now: a key signs until its successor
/// is made, and what it signed last is good for `token_life` more.
pub fn still_needed(keys: &[SigningKey], now: Time, token_life: Duration) -> Vec<SigningKey> {
    let successors = std::iter::once(now).chain(keys.iter().map(|key| key.created_at));
    let needed = keys.iter().zip(successors).filter(|(_, taken_over)| now.since(*taken_over) < token_life);
    needed.map(|(key, _)| key.clone()).collect()
}

pub fn sign(key: &SigningKey, user_id: UserId, session_id: SessionId, now: Time, end: Time) -> Result<String, Error> {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(TYPE.into());
    header.kid = Some(key.id.clone());
    let (iat, exp) = (now.unix(), end.unix());
    let claims = Claims { iss: ISSUER.into(), aud: AUDIENCE.into(), sub: user_id, sid: session_id, iat, nbf: iat, exp };
    encode(&header, &claims, &EncodingKey::from_secret(&key.secret)).map_err(Error::internal)
}

/// Checks tokens, and remembers those whose signature was right: a client shows the same one with every request.
///
/// What is remembered is worth nothing without the key that signed it, and says nothing of the time: both are looked at
/// with every request.
#[derive(Default)]
pub struct Verifier {
    /// By the token's hash.
    signed: Mutex<HashMap<[u8; 32], Arc<Signed>>>,
}

/// A token whose signature was right.
struct Signed {
    key: SigningKey,
    access: Access,
    nbf: i64,
    exp: i64,
}

/// Tokens that are remembered, at most. A full memory starts anew: what is forgotten is checked once more.
const REMEMBERED: usize = 4096;

impl Verifier {
    /// Checks signature, type, issuer, audience and times; `None` for a token that is no good.
    pub fn verify(&self, keys: &[SigningKey], token: &str, now: Time) -> Option<Access> {
        let hash = secrets::hash(token);
        let known = self.lock().get(&hash).filter(|signed| keys.contains(&signed.key)).cloned();
        let signed = match known {
            Some(signed) => signed,
            None => self.remember(hash, Arc::new(check(keys, token)?)),
        };
        (signed.nbf <= now.unix() && now.unix() < signed.exp).then_some(signed.access)
    }

    fn remember(&self, hash: [u8; 32], signed: Arc<Signed>) -> Arc<Signed> {
        let mut all = self.lock();
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(hash, signed.clone());
        signed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<Signed>>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks everything but the times.
fn check(keys: &[SigningKey], token: &str) -> Option<Signed> {
    let header = decode_header(token).ok()?;
    let (kid, typ) = (header.kid?, header.typ?);
    let key = keys.iter().find(|key| key.id == kid).filter(|_| typ == TYPE)?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    // The times are held against the appliance's own clock, by `verify`.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let claims = decode::<Claims>(token, &DecodingKey::from_secret(&key.secret), &validation).ok()?.claims;
    let access = Access { user_id: claims.sub, session_id: claims.sid };
    Some(Signed { key: key.clone(), access, nbf: claims.nbf, exp: claims.exp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::ids::Ids;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[test]
    fn a_token_outlives_the_key_change_and_its_key_no_more_than_that() {
        let start = Time::from_unix(1_800_000_000);
        let ids = Ids::new(std::sync::Arc::new(ManualClock::at(start)) as std::sync::Arc<dyn Clock>);
        let (user, session) = (ids.next(), ids.next());
        let first = new_signing_key(start);
        // The appliance was off for a year: the key is old, the token is not.
        let change = start.plus(365 * 24 * HOUR);
        let token = sign(&first, user, session, change, change.plus(24 * HOUR)).unwrap();
        let mut keys = vec![new_signing_key(change)];
        keys.extend(still_needed(std::slice::from_ref(&first), change, 24 * HOUR));
        // The same verifier throughout: that a token was good once must not make it good again.
        let verifier = Verifier::default();
        assert!(verifier.verify(&keys, &token, change.plus(23 * HOUR)).is_some());
        assert!(verifier.verify(&keys, &token, change.plus(24 * HOUR)).is_none(), "it has lapsed");
        assert!(verifier.verify(&[new_signing_key(change)], &token, change).is_none(), "nobody's key signed it");
        assert_eq!(still_needed(&keys, change.plus(24 * HOUR), 24 * HOUR), keys[..1]);
    }
}
