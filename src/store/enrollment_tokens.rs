use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::tables::{ENROLLMENT_TOKENS, ENROLLMENT_TOKENS_BY_HASH, KeyRange};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{EnrollmentTokenId, OrganizationId, UserId};
use crate::model::enrollment::EnrollmentToken;

pub fn get(
    from: &impl Read,
    organization: OrganizationId,
    id: EnrollmentTokenId,
) -> Result<Option<EnrollmentToken>, Error> {
    ENROLLMENT_TOKENS.get(from, &(organization, id))
}

pub fn by_hash(from: &impl Read, token_hash: &[u8; 32]) -> Result<Option<EnrollmentToken>, Error> {
    match ENROLLMENT_TOKENS_BY_HASH.get(from, token_hash)? {
        Some(key) => ENROLLMENT_TOKENS.get(from, &key),
        None => Ok(None),
    }
}

pub fn insert(tx: &mut Tx, token: &EnrollmentToken) -> Result<(), Error> {
    tx.require_space()?;
    tx.put(ENROLLMENT_TOKENS_BY_HASH, &token.token_hash, &(token.organization_id, token.id))?;
    put(tx, token)
}

pub fn put(tx: &mut Tx, token: &EnrollmentToken) -> Result<(), Error> {
    tx.put(ENROLLMENT_TOKENS, &(token.organization_id, token.id), token)
}

pub fn delete(tx: &mut Tx, token: &EnrollmentToken) -> Result<(), Error> {
    tx.delete(ENROLLMENT_TOKENS_BY_HASH, &token.token_hash)?;
    tx.delete(ENROLLMENT_TOKENS, &(token.organization_id, token.id))?;
    Ok(())
}

/// Newest first: the number of tokens, and the part from `offset` on.
pub fn page(
    from: &impl Read,
    organization: OrganizationId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<EnrollmentToken>), Error> {
    ENROLLMENT_TOKENS.page(from, KeyRange::prefix(&organization), Direction::Descending, offset, limit)
}

/// The tokens whose devices belong to the user, oldest first.
pub fn of_user(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Vec<EnrollmentToken>, Error> {
    let mut found = Vec::new();
    ENROLLMENT_TOKENS.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, token| {
        if token.user_id == Some(user) {
            found.push(token);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
