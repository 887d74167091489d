use super::memory::Effect;
use super::tables::ORGANIZATIONS;
use super::write::Tx;
use crate::error::Error;
use crate::model::organization::Organization;

/// Stores an organization, new or changed. Since when it requires a second factor is settled here, whoever changes the
/// setting.
pub fn put(tx: &mut Tx, mut organization: Organization) -> Result<(), Error> {
    let since = organization.require_mfa_since.unwrap_or(tx.now());
    organization.require_mfa_since = organization.settings.require_mfa.then_some(since);
    tx.put(ORGANIZATIONS, &organization.id, &organization)?;
    tx.effect(Effect::Organization(organization));
    Ok(())
}
