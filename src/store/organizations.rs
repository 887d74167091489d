use super::assignments::{self, Assignee};
use super::engine::Read;
use super::memory::Effect;
use super::tables::ORGANIZATIONS;
use super::write::Tx;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::organization::Organization;

pub fn get(from: &impl Read, id: OrganizationId) -> Result<Option<Organization>, Error> {
    ORGANIZATIONS.get(from, &id)
}

/// Stores an organization, new or changed.
pub fn put(tx: &mut Tx, organization: Organization) -> Result<(), Error> {
    let assigned = get(tx, organization.id)?.and_then(|before| before.default_policy_id);
    assignments::follow(tx, organization.id, Assignee::Organization, assigned, organization.default_policy_id)?;
    tx.put(ORGANIZATIONS, &organization.id, &organization)?;
    tx.effect(Effect::Organization(organization));
    Ok(())
}
