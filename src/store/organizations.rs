use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::assignments::{self, Assignee};
use super::engine::{Direction, Read};
use super::memory::Effect;
use super::outgoing_mail;
use super::sessions;
use super::tables::{
    self, DEVICES, DEVICES_BY_TOKEN, ENROLLMENT_TOKENS, ENROLLMENT_TOKENS_BY_HASH, KeyRange, LINK_OF_USER, LINKS,
    ORGANIZATIONS, OUTGOING_MAIL, REQUESTED_LINK_OF_USER, SESSIONS_OF_USER, SUPER_ADMINS, USERS, USERS_BY_EMAIL,
};
use super::users::{folded, require_super_admin};
use super::write::Tx;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::organization::Organization;

/// Organizations that an appliance may have.
const MOST: u64 = 10_000;

pub fn get(from: &impl Read, id: OrganizationId) -> Result<Option<Organization>, Error> {
    ORGANIZATIONS.get(from, &id)
}

/// Oldest first: the number of organizations, and the part from `offset` on.
pub fn page(from: &impl Read, offset: u64, limit: usize) -> Result<(u64, Vec<Organization>), Error> {
    ORGANIZATIONS.page(from, KeyRange::all(), Direction::Ascending, offset, limit)
}

/// Stores an organization, new or changed; a conflict when it would be one too many. Since when it requires a second
/// factor is settled here, whoever changes the setting.
pub fn put(tx: &mut Tx, mut organization: Organization) -> Result<(), Error> {
    let before = get(tx, organization.id)?;
    if before.is_none() {
        tx.require_space()?;
        if page(tx, 0, 0)?.0 >= MOST {
            return Err(Error::Conflict(format!("an appliance has at most {MOST} organizations")));
        }
    }
    let since = organization.require_mfa_since.unwrap_or(tx.now());
    organization.require_mfa_since = organization.settings.require_mfa.then_some(since);
    organization.require_mfa_until.take_if(|_| !organization.settings.require_mfa);
    let assigned = before.and_then(|before| before.default_policy_id);
    assignments::follow(tx, organization.id, Assignee::Organization, assigned, organization.default_policy_id)?;
    tx.put(ORGANIZATIONS, &organization.id, &organization)?;
    tx.effect(Effect::Organization(organization));
    Ok(())
}

/// Removes the organization with every row that is its own, its audit log included; tells how many there were, by
/// table. A conflict when it would leave the appliance without a super admin.
///
/// Outcomes remembered for its people stay until they lapse, a day at most: they are sealed, and nobody is left to
/// ask for them.
pub fn delete(tx: &mut Tx, id: OrganizationId) -> Result<BTreeMap<&'static str, u64>, Error> {
    let mut counts = BTreeMap::new();
    // What leads to its rows from outside, while they still say what that is.
    let mut open = Vec::new();
    SESSIONS_OF_USER.scan(tx, KeyRange::prefix(&id), Direction::Ascending, |(.., session), ()| {
        open.push(session);
        ControlFlow::Continue(())
    })?;
    counts.insert("sessions", open.len() as u64);
    for session in open {
        sessions::delete(tx, session)?;
    }
    for user in collect(tx, OUTGOING_MAIL, id, |mail| Some(mail.user_id))? {
        outgoing_mail::delete(tx, id, user)?;
    }
    for of_user in [LINK_OF_USER, REQUESTED_LINK_OF_USER] {
        for hash in collect(tx, of_user, id, Some)? {
            tx.delete(LINKS, &hash)?;
        }
    }
    for email in collect(tx, USERS, id, |user| Some(folded(&user.email)))? {
        tx.delete(USERS_BY_EMAIL, &email)?;
    }
    for hash in collect(tx, DEVICES, id, |device| device.token_hash)? {
        tx.delete(DEVICES_BY_TOKEN, &hash)?;
    }
    for hash in collect(tx, ENROLLMENT_TOKENS, id, |token| Some(token.token_hash))? {
        tx.delete(ENROLLMENT_TOKENS_BY_HASH, &hash)?;
    }
    for table in tables::ALL.iter().filter(|table| table.of_organization) {
        counts.insert(table.name, tx.delete_range(table.name, &KeyRange::prefix(&id))?);
    }
    if counts.get(SUPER_ADMINS.name).is_some_and(|count| *count > 0) {
        require_super_admin(tx)?;
    }
    tx.effect(Effect::OrganizationGone(id));
    Ok(counts)
}

/// What `pick` takes from each of the organization's rows.
fn collect<K: tables::Key, V: serde::Serialize + serde::de::DeserializeOwned, T>(
    from: &impl Read,
    table: tables::Table<K, V>,
    organization: OrganizationId,
    pick: impl Fn(V) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    table.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, row| {
        found.extend(pick(row));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests;
