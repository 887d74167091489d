use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{KeyRange, SESSIONS, SESSIONS_BY_FAMILY, SESSIONS_OF_USER, SIGNING_KEYS};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, SessionId, UserId};
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
    tx.put(SESSIONS_OF_USER, &(session.organization_id, session.user_id, session.id), &())?;
    tx.put(SESSIONS, &session.id, &session)?;
    tx.effect(Effect::Session(session));
    Ok(())
}

/// Ends a session: its tokens stop working with this commit. False when it had ended before.
pub fn delete(tx: &mut Tx, id: SessionId) -> Result<bool, Error> {
    let Some(session) = tx.get(SESSIONS, &id)? else { return Ok(false) };
    tx.delete(SESSIONS_BY_FAMILY, &session.family_hash)?;
    tx.delete(SESSIONS_OF_USER, &(session.organization_id, session.user_id, id))?;
    tx.delete(SESSIONS, &id)?;
    tx.effect(Effect::SessionGone(id));
    Ok(true)
}

/// Up to `limit` of all sessions.
pub fn some(from: &impl Read, limit: usize) -> Result<Vec<Session>, Error> {
    let mut found = Vec::new();
    SESSIONS.scan(from, KeyRange::all(), Direction::Ascending, |_, session| {
        found.push(session);
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// The user's sessions, oldest first; in a transaction also those that memory does not know of yet.
pub fn of_user(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Vec<SessionId>, Error> {
    let mut found = Vec::new();
    SESSIONS_OF_USER.scan(from, KeyRange::prefix(&(organization, user)), Direction::Ascending, |(_, _, id), ()| {
        found.push(id);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Ends all of the user's sessions; tells how many there were.
pub fn end_all(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<usize, Error> {
    let sessions = of_user(tx, organization, user)?;
    for id in &sessions {
        delete(tx, *id)?;
    }
    Ok(sessions.len())
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
