use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{
    self, DEVICES, DEVICES_BY_TOKEN, ENROLLMENT_TOKENS, ENROLLMENT_TOKENS_BY_HASH, KeyRange, ORGANIZATIONS, SESSIONS,
    SESSIONS_BY_FAMILY, SUPER_ADMINS, USERS, USERS_BY_EMAIL,
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

/// Stores an organization, new or changed; a conflict when it would be one too many.
pub fn put(tx: &mut Tx, organization: Organization) -> Result<(), Error> {
    if !ORGANIZATIONS.contains(tx, &organization.id)? {
        tx.require_space()?;
        if page(tx, 0, 0)?.0 >= MOST {
            return Err(Error::Conflict(format!("an appliance has at most {MOST} organizations")));
        }
    }
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
    let mut counts = delete_sessions(tx, id)?;
    // What leads to its rows from outside, while they still say what that is.
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

/// Sessions are found by their own ids alone, so all of the appliance's are looked at.
fn delete_sessions(tx: &mut Tx, organization: OrganizationId) -> Result<BTreeMap<&'static str, u64>, Error> {
    let mut found = Vec::new();
    SESSIONS.scan(tx, KeyRange::all(), Direction::Ascending, |id, session| {
        if session.organization_id == organization {
            found.push((id, session.family_hash));
        }
        ControlFlow::Continue(())
    })?;
    for (id, family_hash) in &found {
        tx.delete(SESSIONS, id)?;
        tx.delete(SESSIONS_BY_FAMILY, family_hash)?;
    }
    Ok(BTreeMap::from([(SESSIONS.name, found.len() as u64)]))
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
