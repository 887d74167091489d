//! The ledger of erased people, the devices that stay only to be wiped, and the names in rows that outlive a person.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::tables::{ERASURES, KeyRange, LEAVING, POLICY_VERSIONS, WIPE_INTENTS};
use super::write::Tx;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{DeviceId, ErasureId, OrganizationId, UserId};
use crate::model::command::WipeIntent;
use crate::model::gdpr::{ErasedWipe, Erasure};

pub fn put(tx: &mut Tx, erasure: &Erasure) -> Result<(), Error> {
    tx.put(ERASURES, &(erasure.organization_id, erasure.id), erasure)
}

/// Newest first: the number of erasures, and the part from `offset` on.
pub fn page(
    from: &impl Read,
    organization: OrganizationId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<Erasure>), Error> {
    ERASURES.page(from, KeyRange::prefix(&organization), Direction::Descending, offset, limit)
}

/// Notes in the ledger how the wipe of a device has ended.
pub fn device_left(
    tx: &mut Tx,
    organization: OrganizationId,
    id: ErasureId,
    device: DeviceId,
    wipe: ErasedWipe,
) -> Result<(), Error> {
    let Some(mut erasure) = ERASURES.get(tx, &(organization, id))? else { return Ok(()) };
    for erased in erasure.devices.iter_mut().filter(|erased| erased.id == device) {
        erased.wipe = wipe;
    }
    put(tx, &erasure)
}

/// Up to `limit` devices of erased people that are to be unenrolled by now.
pub fn overdue(from: &impl Read, now: Time, limit: usize) -> Result<Vec<(OrganizationId, DeviceId)>, Error> {
    let mut found = Vec::new();
    LEAVING.scan(from, KeyRange::all(), Direction::Ascending, |key, until| {
        if until <= now {
            found.push(key);
        }
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// The wipes that wait for the serial numbers of devices which were the user's, by serial number.
pub fn wipe_intents(
    from: &impl Read,
    organization: OrganizationId,
    user: UserId,
) -> Result<Vec<(String, WipeIntent)>, Error> {
    let mut found = Vec::new();
    WIPE_INTENTS.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |(_, serial), intent| {
        if intent.user_id == Some(user) {
            found.push((serial, intent));
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Takes the names out of the organization's rows that outlive the user: of waiting wipes the device's, by
/// `pseudonym`, and of policy versions the author's, when that is one of `actors`.
pub fn forget_names(
    tx: &mut Tx,
    organization: OrganizationId,
    user: UserId,
    actors: &HashSet<String>,
    pseudonym: impl Fn(DeviceId) -> String,
) -> Result<(), Error> {
    for (serial, mut intent) in wipe_intents(tx, organization, user)? {
        intent.device_name = pseudonym(intent.device_id);
        intent.user_id = None;
        tx.put(WIPE_INTENTS, &(organization, serial), &intent)?;
    }
    let mut written = Vec::new();
    POLICY_VERSIONS.scan(tx, KeyRange::prefix(&organization), Direction::Ascending, |key, version| {
        if version.author.id.as_ref().is_some_and(|id| actors.contains(id)) {
            written.push((key, version));
        }
        ControlFlow::Continue(())
    })?;
    for (key, mut version) in written {
        version.author = version.author.unnamed();
        tx.put(POLICY_VERSIONS, &key, &version)?;
    }
    Ok(())
}
