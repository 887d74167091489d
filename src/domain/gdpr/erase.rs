//! Erasing a person: all that names them goes at once, and their devices as soon as they are wiped.

use std::collections::HashSet;
use std::time::Duration;

use super::own_or_lesser;
use crate::clock::Time;
use crate::domain::authz::Permission;
use crate::domain::op::Op;
use crate::domain::{Services, commands, devices, users};
use crate::error::Error;
use crate::ids::{DeviceId, ErasureId, OrganizationId, UserId};
use crate::model::command::{CommandStatus, CommandType};
use crate::model::device::{Device, Status};
use crate::model::gdpr::{ErasedDevice, ErasedWipe, Erasure, Leaving};
use crate::model::user::User;
use crate::store::Store;
use crate::store::audit::AuditEvent;
use crate::store::ledger::Entry;
use crate::store::write::{Audited, Stamp, Tx, Unaudited};
use crate::store::{api_keys, enrollment_tokens, erasures, outbox, persons};

/// How long a device may take to fetch its wipe before it is unenrolled without its word.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Stands for a name in the audit log.
const ERASED: &str = "erased";
/// Devices unenrolled in one transaction at most.
const STEP: usize = 500;

impl Services {
    /// Erases whoever asks, or with the permission somebody who may do no more than whoever asks.
    ///
    /// # Errors
    /// A conflict for the last super admin.
    pub async fn erase(&self, op: &Op, person: Option<UserId>) -> Result<Erasure, Error> {
        let (by, life) = (op.clone(), self.config.devices.command_life);
        let write = self.store.write(op.stamp(), move |tx| {
            let id = tx.new_id();
            if let Some(person) = person
                && by.may(Permission::GdprAdmin)
                && users::find(tx, by.organization_id()?, person).is_err()
            {
                return erase_deleted(tx, by.organization_id()?, person, id);
            }
            let user = own_or_lesser(tx, &by, person)?;
            let erased = erase(tx, &user, life, id)?;
            // Whoever erases themselves is not named as who did it.
            let is_own = by.acting_user().is_ok_and(|acting| acting == user.id);
            Ok(if is_own { erased.by(&by.principal.actor().unnamed()) } else { erased })
        });
        let erasure = write.await?;
        // After the commit: should the process end in between, the next start adds it.
        self.ledger.add(&[Entry::from(&erasure)]);
        Ok(erasure)
    }

    /// Newest first: how many people were erased, and those from `offset` on.
    pub fn erasures(&self, op: &Op, offset: u64, limit: usize) -> Result<(u64, Vec<Erasure>), Error> {
        op.require(Permission::GdprAdmin)?;
        erasures::page(&self.store.snapshot()?, op.organization_id()?, offset, limit)
    }

    /// Unenrols the devices of erased people that have not confirmed their wipe in time.
    pub(in crate::domain) async fn unenroll_overdue(&self) -> Result<(), Error> {
        let now = self.now();
        loop {
            let overdue = erasures::overdue(&self.store.snapshot()?, now, STEP)?;
            if overdue.is_empty() {
                return Ok(());
            }
            self.store
                .write(Stamp::system(now), move |tx| {
                    let mut all = Audited::without_entry((), Unaudited::Unchanged);
                    for (organization, id) in &overdue {
                        if let Some(device) = crate::store::devices::get(tx, *organization, *id)? {
                            all = all.with(devices::delete(tx, device)?);
                        }
                    }
                    Ok(all)
                })
                .await?;
        }
    }
}

/// Erases again whoever of `entries` has come back with a backup; tells how many.
///
/// # Errors
/// Also a conflict for one who is the last super admin in that backup.
pub async fn replay(store: &Store, entries: &[Entry], command_life: Duration, now: Time) -> Result<u64, Error> {
    let mut again = 0;
    for entry in entries.iter().cloned() {
        again += store
            .write(Stamp::system(now), move |tx| {
                let Some(user) = crate::store::users::get(tx, entry.organization_id, entry.user_id)? else {
                    return Ok(Audited::without_entry(0, Unaudited::Unchanged));
                };
                Ok(erase(tx, &user, command_life, entry.id)?.map(|_| 1))
            })
            .await?;
    }
    Ok(again)
}

/// What an erased person's device is called from then on.
fn pseudonym(id: DeviceId) -> String {
    let id = id.to_string();
    let end = id.rsplit('-').next().unwrap_or_default();
    format!("{ERASED}-{end}")
}

fn erase(tx: &mut Tx, user: &User, command_life: Duration, id: ErasureId) -> Result<Audited<Erasure>, Error> {
    let organization_id = user.organization_id;
    let mut erased = Vec::new();
    let mut all = Audited::new((), AuditEvent::new("gdpr.delete").of(organization_id).on("user", user.id, ERASED));
    for device in crate::store::devices::of_user(tx, organization_id, user.id)? {
        let device = devices::find(tx, organization_id, device)?;
        let (device_id, (wipe, done)) = (device.id, part_with(tx, device, id, command_life)?);
        erased.push(ErasedDevice { id: device_id, wipe });
        all = all.with(done);
    }
    for token in enrollment_tokens::of_user(tx, organization_id, user.id)? {
        enrollment_tokens::delete(tx, &token)?;
        let event = AuditEvent::new("enrollment_token.delete").of(organization_id);
        all = all.and(event.on("enrollment_token", token.id, ERASED));
    }
    forget_person(tx, user)?;
    let ended = users::remove(tx, user)?;
    let erasure = Erasure {
        id,
        organization_id,
        user_id: user.id,
        erased_at: tx.now(),
        devices: erased,
        sessions_ended: ended.sessions as u64,
        api_keys_ended: ended.api_keys as u64,
    };
    erasures::put(tx, &erasure)?;
    Ok(all.map(|()| erasure))
}

/// Takes the device from its owner, with all that tells whose it was. It stays enrolled for its wipe when it can still
/// be told of it.
fn part_with(
    tx: &mut Tx,
    mut device: Device,
    erasure_id: ErasureId,
    command_life: Duration,
) -> Result<(ErasedWipe, Audited<()>), Error> {
    device.device_name = pseudonym(device.id);
    device.leaving = Some(Leaving { erasure_id, until: tx.now().plus(PATIENCE) });
    (device.user_id, device.hostname, device.posture) = (None, None, None);
    (device.wireguard_public_key, device.enrollment_token_id) = (None, None);
    device.tags = Vec::new();
    devices::save(tx, &mut device)?;
    let last_wipe = crate::store::commands::last_wipe(tx, device.organization_id, device.id)?;
    if last_wipe.is_some_and(|wipe| wipe.status == CommandStatus::Succeeded) {
        return Ok((ErasedWipe::Confirmed, devices::delete(tx, device)?));
    }
    // One that was written off has its wipe waiting already.
    let mut all = Audited::without_entry((), Unaudited::Unchanged);
    if device.status != Status::Wiped {
        all = commands::give(tx, device.clone(), CommandType::Wipe, false, command_life)?.map(|_| ());
    }
    if device.has_credentials(tx.now()) {
        return Ok((ErasedWipe::Requested, all));
    }
    let has_serial = device.serial_number.is_some();
    let wipe = if has_serial { ErasedWipe::WaitingForSerial } else { ErasedWipe::NotReachable };
    Ok((wipe, all.with(devices::delete(tx, device)?)))
}

/// Erases somebody who was deleted before: the log still names them.
fn erase_deleted(
    tx: &mut Tx,
    organization_id: OrganizationId,
    user_id: UserId,
    id: ErasureId,
) -> Result<Audited<Erasure>, Error> {
    if !persons::are_known(tx, organization_id, user_id)? {
        return Err(Error::NotFound("user"));
    }
    forget_named(tx, organization_id, user_id, &HashSet::from([user_id.to_string()]))?;
    let erasure = Erasure {
        id,
        organization_id,
        user_id,
        erased_at: tx.now(),
        devices: Vec::new(),
        sessions_ended: 0,
        api_keys_ended: 0,
    };
    erasures::put(tx, &erasure)?;
    let event = AuditEvent::new("gdpr.delete").of(organization_id).on("user", user_id, ERASED);
    Ok(Audited::new(erasure, event))
}

/// Ends what names the person in rows that stay after them. The one place for it: whatever is stored about a person
/// elsewhere than in their own rows is forgotten here.
fn forget_person(tx: &mut Tx, user: &User) -> Result<(), Error> {
    let keys = api_keys::made_by(tx, user.organization_id, user.id)?;
    let mut actors: HashSet<String> = keys.iter().map(|key| key.id.to_string()).collect();
    actors.insert(user.id.to_string());
    forget_named(tx, user.organization_id, user.id, &actors)
}

fn forget_named(
    tx: &mut Tx,
    organization: OrganizationId,
    user: UserId,
    actors: &HashSet<String>,
) -> Result<(), Error> {
    persons::forget(tx, organization, user)?;
    outbox::erase_user(tx, organization, user)?;
    erasures::forget_names(tx, organization, user, actors, pseudonym)
}
