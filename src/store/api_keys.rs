use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{API_KEY_USES, API_KEYS, KeyRange};
use super::write::Tx;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{ApiKeyId, OrganizationId, UserId};
use crate::model::api_key::ApiKey;

/// The keys that were used since the last time they were asked for, and when.
pub(super) type Uses = Vec<(OrganizationId, ApiKeyId, Time)>;

pub fn get(from: &impl Read, organization: OrganizationId, id: ApiKeyId) -> Result<Option<ApiKey>, Error> {
    API_KEYS.get(from, &(organization, id))
}

pub fn insert(tx: &mut Tx, key: ApiKey) -> Result<(), Error> {
    tx.require_space()?;
    tx.put(API_KEYS, &(key.organization_id, key.id), &key)?;
    tx.effect(Effect::ApiKey(key, None));
    Ok(())
}

/// Ends a key with this commit.
pub fn delete(tx: &mut Tx, key: &ApiKey) -> Result<(), Error> {
    tx.delete(API_KEYS, &(key.organization_id, key.id))?;
    tx.delete(API_KEY_USES, &(key.organization_id, key.id))?;
    tx.effect(Effect::ApiKeyGone(key.id));
    Ok(())
}

/// Ends every key that the user has made: how many there were.
pub fn delete_of(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<usize, Error> {
    let theirs = made_by(tx, organization, user)?;
    theirs.iter().try_for_each(|key| delete(tx, key))?;
    Ok(theirs.len())
}

/// The keys that the user has made, oldest first: their number is bounded where they are made.
pub fn made_by(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Vec<ApiKey>, Error> {
    let mut theirs = Vec::new();
    API_KEYS.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, key| {
        if key.created_by == user {
            theirs.push(key);
        }
        ControlFlow::Continue(())
    })?;
    Ok(theirs)
}

/// How many keys the organization has, expired ones included.
pub fn count(from: &impl Read, organization: OrganizationId) -> Result<u64, Error> {
    Ok(page(from, organization, 0, 0)?.0)
}

/// Newest first: the number of keys, and the part from `offset` on.
pub fn page(
    from: &impl Read,
    organization: OrganizationId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<ApiKey>), Error> {
    API_KEYS.page(from, KeyRange::prefix(&organization), Direction::Descending, offset, limit)
}

pub(super) fn store_uses(tx: &mut Tx, uses: &Uses) -> Result<(), Error> {
    for (organization, id, time) in uses {
        // A key deleted meanwhile leaves nothing behind.
        if API_KEYS.contains(tx, &(*organization, *id))? {
            tx.put(API_KEY_USES, &(*organization, *id), &time.unix())?;
        }
    }
    Ok(())
}
