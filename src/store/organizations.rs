use super::memory::Effect;
use super::tables::ORGANIZATIONS;
use super::write::Tx;
use crate::error::Error;
use crate::model::organization::Organization;

pub fn put(tx: &mut Tx, organization: Organization) -> Result<(), Error> {
    tx.put(ORGANIZATIONS, &organization.id, &organization)?;
    tx.effect(Effect::Organization(organization));
    Ok(())
}
