//! Answers that are given again: the outcome of a request with an `Idempotency-Key`, kept in the transaction of the
//! change itself, so that a crash leaves either both or neither.
//!
//! What is kept may hold secrets (a device token), so it is sealed with a key that takes both the appliance's own
//! secret and the client's key, of which only a hash is stored.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::{Direction, Read};
use super::seal;
use super::tables::{KeyRange, OUTCOMES, OUTCOMES_BY_EXPIRY};
use super::write::Tx;
use crate::clock::Time;
use crate::error::Error;
use crate::model::sealed::Sealed;

/// How long an outcome is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Outcomes forgotten in one transaction at most.
const SWEEP: usize = 1000;

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
    let sealed = Sealed { nonce: outcome.nonce, bytes: outcome.sealed };
    let opened = seal::open(tx, &idempotency.secret, &idempotency.id, sealed)?;
    rmp_serde::from_slice(&opened).map(Some).map_err(Error::internal)
}

pub(super) fn remember<T: Serialize>(tx: &mut Tx, value: &T) -> Result<(), Error> {
    let Some(idempotency) = tx.stamp().idempotency.clone() else { return Ok(()) };
    // What is sent without a key, a wipe above all, still gets through.
    tx.require_space().map_err(|refusal| match refusal {
        Error::Unavailable { message, retry_after } => {
            let message = format!("{message}, and no Idempotency-Key can be remembered: send the request without one");
            Error::Unavailable { message, retry_after }
        }
        other => other,
    })?;
    let value = rmp_serde::to_vec_named(value).map_err(Error::internal)?;
    let Sealed { nonce, bytes: sealed } = seal::seal(tx, &idempotency.secret, &idempotency.id, value)?;
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
