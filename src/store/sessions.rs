use super::engine::Read;
use super::memory::Effect;
use super::tables::{SESSIONS, SESSIONS_BY_FAMILY, SIGNING_KEYS};
use super::write::Tx;
use crate::error::Error;
use crate::ids::SessionId;
use crate::model::session::{Session, SigningKey};

pub fn get(from: &impl Read, id: SessionId) -> Result<Option<Session>, Error> {
    SESSIONS.get(from, &id)
}

pub fn by_family(from: &impl Read, family_hash: &[u8; 32]) -> Result<Option<Session>, Error> {
    match SESSIONS_BY_FAMILY.get(from, family_hash)? {
        Some(id) => SESSIONS.get(from, &id),
        None => Ok(None),
    }
}

pub fn put(tx: &mut Tx, session: Session) -> Result<(), Error> {
    tx.put(SESSIONS_BY_FAMILY, &session.family_hash, &session.id)?;
    tx.put(SESSIONS, &session.id, &session)?;
    tx.effect(Effect::Session(session));
    Ok(())
}

/// Ends a session: its tokens stop working with this commit. False when it had ended before.
pub fn delete(tx: &mut Tx, id: SessionId) -> Result<bool, Error> {
    let Some(session) = tx.get(SESSIONS, &id)? else { return Ok(false) };
    tx.delete(SESSIONS_BY_FAMILY, &session.family_hash)?;
    tx.delete(SESSIONS, &id)?;
    tx.effect(Effect::SessionGone(id));
    Ok(true)
}

/// Replaces the signing keys with `keys`, newest first.
pub fn set_signing_keys(tx: &mut Tx, old: &[SigningKey], keys: Vec<SigningKey>) -> Result<(), Error> {
    for key in old.iter().filter(|old| keys.iter().all(|key| key.id != old.id)) {
        tx.delete(SIGNING_KEYS, &key.id)?;
    }
    for key in &keys {
        tx.put(SIGNING_KEYS, &key.id, key)?;
    }
    tx.effect(Effect::SigningKeys(keys));
    Ok(())
}
