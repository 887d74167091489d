use super::engine::Read;
use super::tables::{LINK_OF_USER, LINKS};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, UserId};
use crate::model::link::Link;

pub fn get(from: &impl Read, token_hash: &[u8; 32]) -> Result<Option<Link>, Error> {
    LINKS.get(from, token_hash)
}

/// The one link that the user may have.
pub fn of_user(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Option<Link>, Error> {
    match LINK_OF_USER.get(from, &(organization, user))? {
        Some(hash) => get(from, &hash),
        None => Ok(None),
    }
}

/// Stores a new link in place of any other that the user has.
pub fn put(tx: &mut Tx, link: &Link) -> Result<(), Error> {
    end(tx, link.organization_id, link.user_id)?;
    tx.put(LINK_OF_USER, &(link.organization_id, link.user_id), &link.token_hash)?;
    tx.put(LINKS, &link.token_hash, link)
}

/// Makes the user's link worthless; false when there is none.
pub fn end(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<bool, Error> {
    let Some(hash) = LINK_OF_USER.get(tx, &(organization, user))? else { return Ok(false) };
    tx.delete(LINK_OF_USER, &(organization, user))?;
    tx.delete(LINKS, &hash)
}
