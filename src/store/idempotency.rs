//! Answers that are given again: the outcome of a request with an `Idempotency-Key`, kept in the transaction of the
//! change itself, so that a crash leaves either both or neither.
//!
//! What is kept may hold secrets (a device token), so it is sealed with a key that takes both the appliance's own
//! secret and the client's key, of which only a hash is stored.

use std::ops::ControlFlow;
use std::time::Duration;

use ring::{aead, hmac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::{Direction, Read, Transaction};
use super::tables::{KeyRange, OUTCOMES, OUTCOMES_BY_EXPIRY, SECRETS};
use super::write::Tx;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::fill_random;

/// How long an outcome is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Outcomes forgotten in one transaction at most.
const SWEEP: usize = 1000;
const SEAL: &str = "outcomes";

/// A request that must take effect once, however often it is sent.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// Hash of the principal and the client's key.
    pub id: [u8; 32],
    /// Hash of the method, the path and the body.
    pub fingerprint: [u8; 32],
    /// Derived from the client's key; never stored.
    pub secret: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub fingerprint: [u8; 32],
    pub expires_at: Time,
    nonce: [u8; 12],
    sealed: Vec<u8>,
}

/// Whether the key was used for another request before.
pub fn conflicts(from: &impl Read, idempotency: &Idempotency, now: Time) -> Result<bool, Error> {
    let outcome = OUTCOMES.get(from, &idempotency.id)?;
    Ok(outcome.is_some_and(|o| now < o.expires_at && o.fingerprint != idempotency.fingerprint))
}

/// The value of the first run of this request, if there was one.
pub(super) fn recall<T: DeserializeOwned>(tx: &Tx) -> Result<Option<T>, Error> {
    let Some(idempotency) = &tx.stamp().idempotency else { return Ok(None) };
    let Some(outcome) = tx.get(OUTCOMES, &idempotency.id)?.filter(|o| tx.now() < o.expires_at) else {
        return Ok(None);
    };
    if outcome.fingerprint != idempotency.fingerprint {
        return Err(Error::Conflict("this Idempotency-Key was used for another request".into()));
    }
    let mut sealed = outcome.sealed;
    let nonce = aead::Nonce::assume_unique_for_key(outcome.nonce);
    let opened = sealing_key(tx, idempotency)?
        .open_in_place(nonce, aead::Aad::from(&idempotency.id), &mut sealed)
        .map_err(|_| Error::Internal("a remembered outcome cannot be opened".into()))?;
    rmp_serde::from_slice(opened).map(Some).map_err(Error::internal)
}

pub(super) fn remember<T: Serialize>(tx: &mut Tx, value: &T) -> Result<(), Error> {
    let Some(idempotency) = tx.stamp().idempotency.clone() else { return Ok(()) };
    let mut sealed = rmp_serde::to_vec_named(value).map_err(Error::internal)?;
    let mut nonce = [0; 12];
    fill_random(&mut nonce);
    sealing_key(tx, &idempotency)?
        .seal_in_place_append_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(&idempotency.id),
            &mut sealed,
        )
        .map_err(|_| Error::Internal("an outcome cannot be sealed".into()))?;
    let expires_at = tx.now().plus(REMEMBERED);
    let outcome = Outcome { fingerprint: idempotency.fingerprint, expires_at, nonce, sealed };
    tx.put(OUTCOMES, &idempotency.id, &outcome)?;
    tx.put(OUTCOMES_BY_EXPIRY, &(expires_at.unix().unsigned_abs(), idempotency.id), &())
}

/// Forgets what has lapsed; true when there may be more.
pub fn sweep(tx: &mut Tx) -> Result<bool, Error> {
    let mut lapsed = Vec::new();
    let now = tx.now().unix().unsigned_abs();
    OUTCOMES_BY_EXPIRY.scan(tx, KeyRange::all(), Direction::Ascending, |(expiry, id), ()| {
        if expiry > now || lapsed.len() == SWEEP {
            return ControlFlow::Break(());
        }
        lapsed.push((expiry, id));
        ControlFlow::Continue(())
    })?;
    for (expiry, id) in &lapsed {
        tx.delete(OUTCOMES_BY_EXPIRY, &(*expiry, *id))?;
        // The key may have been used again since its first outcome lapsed.
        if tx.get(OUTCOMES, id)?.is_some_and(|o| o.expires_at <= tx.now()) {
            tx.delete(OUTCOMES, id)?;
        }
    }
    Ok(lapsed.len() == SWEEP)
}

/// Makes the appliance's own part of the sealing key, at first start.
pub(super) fn make_secret(transaction: &mut Transaction) -> Result<(), Error> {
    let mut secret = [0; 32];
    fill_random(&mut secret);
    SECRETS.put(transaction, &SEAL.into(), &secret)
}

fn sealing_key(tx: &Tx, idempotency: &Idempotency) -> Result<aead::LessSafeKey, Error> {
    let secret = tx
        .get(SECRETS, &SEAL.into())?
        .ok_or_else(|| Error::Internal("the key that seals remembered outcomes is missing".into()))?;
    let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &idempotency.secret);
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key.as_ref())
        .map_err(|_| Error::Internal("a sealing key has the wrong length".into()))?;
    Ok(aead::LessSafeKey::new(key))
}
