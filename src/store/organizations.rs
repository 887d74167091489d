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

pub fn put(tx: &mut Tx, organization: Organization) -> Result<(), Error> {
    tx.put(ORGANIZATIONS, &organization.id, &organization)?;
    tx.effect(Effect::Organization(organization));
    Ok(())
}
