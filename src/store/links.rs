use super::engine::Read;
use super::outgoing_mail;
use super::tables::{LINK_OF_USER, LINKS, REQUESTED_LINK_OF_USER, Table};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, UserId};
use crate::model::link::Link;

pub fn get(from: &impl Read, token_hash: &[u8; 32]) -> Result<Option<Link>, Error> {
    LINKS.get(from, token_hash)
}

/// Those that the user has: one that was given, and one that was requested.
pub fn of_user(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Vec<Link>, Error> {
    let mut found = Vec::new();
    for of_user in [LINK_OF_USER, REQUESTED_LINK_OF_USER] {
        if let Some(hash) = of_user.get(from, &(organization, user))? {
            found.extend(get(from, &hash)?);
        }
    }
    Ok(found)
}

/// Stores a new link in place of any other that the user has; but whoever requests one, and may be anybody, takes no
/// link away that an administrator has given.
pub fn put(tx: &mut Tx, link: &Link) -> Result<(), Error> {
    let (organization, user) = (link.organization_id, link.user_id);
    let of_user = if link.is_requested {
        end_in(tx, REQUESTED_LINK_OF_USER, organization, user)?;
        REQUESTED_LINK_OF_USER
    } else {
        end(tx, organization, user)?;
        LINK_OF_USER
    };
    tx.put(of_user, &(organization, user), &link.token_hash)?;
    tx.put(LINKS, &link.token_hash, link)
}

/// Makes the user's links worthless, and takes them out of the mail.
pub fn end(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<(), Error> {
    end_in(tx, LINK_OF_USER, organization, user)?;
    end_in(tx, REQUESTED_LINK_OF_USER, organization, user)
}

type LinkOfUser = Table<(OrganizationId, UserId), [u8; 32]>;

fn end_in(tx: &mut Tx, of_user: LinkOfUser, organization: OrganizationId, user: UserId) -> Result<(), Error> {
    let Some(hash) = of_user.get(tx, &(organization, user))? else { return Ok(()) };
    outgoing_mail::delete(tx, organization, user)?;
    tx.delete(of_user, &(organization, user))?;
    tx.delete(LINKS, &hash).map(|_| ())
}
