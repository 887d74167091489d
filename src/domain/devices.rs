//! Devices: what there is, what may be changed of it, and which status follows which.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::authz::Permission;
use super::op::{DeviceScope, Op, Principal};
use super::{Services, names};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{DeviceId, GroupId, OrganizationId, PolicyId, UserId};
use crate::model::command::{Command, CommandStatus, WipeIntent};
use crate::model::device::{Compliance, Device, Status};
use crate::model::gdpr::ErasedWipe;
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::index::{Filter, Fleet, Judgement, Sort};
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{commands, devices, erasures, groups, memory, policies, users};

pub use crate::store::recent::Known;

/// A device, with what memory knows beside the row.
pub struct Seen {
    pub device: Arc<Known>,
    pub last_seen: Option<Time>,
    /// The strongest policy that reaches it, and whether it complies.
    pub judgement: Judgement,
    /// What is wrong, or has not been reported.
    pub reasons: Vec<String>,
    /// The processing of its owner's data is.
    pub restricted: bool,
}

impl Seen {
    /// Tells apart what is shown beside the row.
    pub fn beside(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.last_seen, self.judgement.policy, self.judgement.compliance, &self.reasons, self.restricted)
            .hash(&mut hasher);
        hasher.finish()
    }
}

/// What a PATCH changes; `None` leaves a member as it is.
#[derive(Clone, Debug, Default)]
pub struct DeviceChange {
    pub device_name: Option<String>,
    pub user_id: Option<Option<UserId>>,
    pub policy_id: Option<Option<PolicyId>>,
    pub tags: Option<Vec<String>>,
}

impl Services {
    pub fn devices(
        &self,
        op: &Op,
        mut filter: Filter,
        sort: Sort,
        offset: u64,
        limit: usize,
    ) -> Result<(u64, Vec<Seen>), Error> {
        let organization = op.organization_id()?;
        match op.device_scope(Permission::DevicesView)? {
            DeviceScope::All => {}
            DeviceScope::OwnedBy(user) if filter.users.is_empty() || filter.users.contains(&user) => {
                filter.users = vec![user];
            }
            DeviceScope::OwnedBy(_) | DeviceScope::Only(_) => return Ok((0, Vec::new())),
        }
        self.with_members(&mut filter);
        let fleet = self.store.memory().fleet(organization);
        loop {
            let page = memory::read(&fleet).page(&filter, sort, offset, limit);
            let found: Option<Vec<_>> = self.store.devices(organization, &page.ids)?.into_iter().collect();
            // A row that is gone was deleted in a commit that the index is about to follow: look again.
            if let Some(found) = found {
                let fleet = memory::read(&fleet);
                return Ok((page.total, found.into_iter().map(|device| self.seen_in(&fleet, device)).collect()));
            }
            std::thread::yield_now();
        }
    }

    pub fn device(&self, op: &Op, id: DeviceId) -> Result<Seen, Error> {
        let mut found = self.store.devices(op.organization_id()?, &[id])?;
        let device = found.pop().flatten().ok_or(Error::NotFound("device"))?;
        check_scope(op, Permission::DevicesView, &device)?;
        Ok(self.seen(device))
    }

    pub fn seen(&self, device: Arc<Known>) -> Seen {
        let fleet = self.store.memory().fleet(device.organization_id);
        let fleet = memory::read(&fleet);
        self.seen_in(&fleet, device)
    }

    fn seen_in(&self, fleet: &Fleet, device: Arc<Known>) -> Seen {
        let judgement = fleet.judgement(device.id).unwrap_or_default();
        let may_have_reasons = judgement.policy.is_some() && judgement.compliance != Compliance::Compliant;
        let reasons = match may_have_reasons {
            true => self.store.memory().verdict(&device, self.now()).1,
            false => Vec::new(),
        };
        let restricted = self.is_restricted(&device);
        Seen { last_seen: fleet.last_seen(device.id), device, judgement, reasons, restricted }
    }

    /// Adds to a filter by groups who is in them, and in the groups within them.
    pub(super) fn with_members(&self, filter: &mut Filter) {
        if !filter.groups.is_empty() {
            let directory = self.store.memory().directory();
            let within = directory.groups_within(&filter.groups);
            filter.groups.extend(within);
            filter.members = filter.groups.iter().flat_map(|group| directory.members(*group)).collect();
        }
    }

    pub async fn change_device(
        &self,
        op: &Op,
        id: DeviceId,
        change: DeviceChange,
        revision: Option<u64>,
    ) -> Result<Seen, Error> {
        change.device_name.as_deref().map_or(Ok(()), |name| names::require("device_name", name))?;
        let by = op.clone();
        let change = move |tx: &mut Tx| {
            let mut device = in_scope(tx, &by, Permission::DevicesEdit, id)?;
            if revision.is_some_and(|revision| revision != device.revision) {
                return Err(Error::Stale);
            }
            if device.leaving.is_some() {
                return Err(Error::Conflict("this device only waits for its wipe: its owner was erased".into()));
            }
            if change.user_id.is_some() || change.tags.is_some() {
                by.require(Permission::DevicesEdit)?;
            }
            if change.policy_id.is_some() {
                by.require(Permission::PoliciesAssign)?;
            }
            // Its name is that of the owner's device, also when it is another's from now on.
            let mut event = AuditEvent::new("device.update").on("device", id, &device.device_name);
            if let Some(owner) = device.user_id {
                event = event.about(owner);
            }
            if let Some(name) = change.device_name.clone() {
                event = event.detail("device_name", name.clone());
                device.device_name = name;
            }
            if let Some(user) = change.user_id {
                check_user(tx, device.organization_id, user)?;
                event = event.detail("user_id", user.map(|user| user.to_string()));
                device.user_id = user;
            }
            if let Some(policy) = change.policy_id {
                check_policy(tx, device.organization_id, policy)?;
                event = event.detail("policy_id", policy.map(|policy| policy.to_string()));
                device.policy_id = policy;
            }
            if let Some(tags) = change.tags.clone() {
                event = event.detail("tags", tags.clone());
                device.tags = tags;
            }
            save(tx, &mut device)?;
            Ok(Audited::new(device, event))
        };
        Ok(self.seen(Known::new(self.store.write(op.stamp(), change).await?)))
    }

    /// A status that the device reports of itself, or that an administrator sets.
    pub async fn set_status(&self, op: &Op, id: DeviceId, status: Status) -> Result<Seen, Error> {
        let by = op.clone();
        let device = self
            .store
            .write(op.stamp(), move |tx| {
                let device = match &by.principal {
                    Principal::Device(_) => in_scope(tx, &by, Permission::DevicesView, id)?,
                    _ => {
                        by.require(Permission::DevicesActions)?;
                        find(tx, by.organization_id()?, id)?
                    }
                };
                let is_own = matches!(by.principal, Principal::Device(_));
                if is_own && users::of_device(tx, &device)?.is_some_and(|owner| owner.privacy.is_restricted()) {
                    return Ok(Audited::without_entry(device, Unaudited::Unchanged));
                }
                set_status(tx, is_own, device, status)
            })
            .await?;
        if matches!(op.principal, Principal::Device(_)) && !self.is_restricted(&device) {
            self.store.seen(device.organization_id, device.id, op.now);
        }
        Ok(self.seen(Known::new(device)))
    }

    pub async fn delete_device(&self, op: &Op, id: DeviceId, revision: Option<u64>) -> Result<(), Error> {
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let device = find(tx, by.organization_id()?, id)?;
                if revision.is_some_and(|revision| revision != device.revision) {
                    return Err(Error::Stale);
                }
                delete(tx, device)
            })
            .await
    }
}

pub(super) fn find(from: &impl Read, organization: OrganizationId, id: DeviceId) -> Result<Device, Error> {
    devices::get(from, organization, id)?.ok_or(Error::NotFound("device"))
}

/// The device, when it is one that the principal may see; otherwise it does not exist.
pub(super) fn in_scope(from: &impl Read, op: &Op, permission: Permission, id: DeviceId) -> Result<Device, Error> {
    let device = find(from, op.organization_id()?, id)?;
    check_scope(op, permission, &device)?;
    Ok(device)
}

fn check_scope(op: &Op, permission: Permission, device: &Device) -> Result<(), Error> {
    let visible = match op.device_scope(permission)? {
        DeviceScope::All => true,
        DeviceScope::OwnedBy(user) => device.user_id == Some(user),
        DeviceScope::Only(only) => only == device.id,
    };
    if !visible && op.may(Permission::DevicesView) {
        return Err(super::op::lacking(permission));
    }
    if visible { Ok(()) } else { Err(Error::NotFound("device")) }
}

pub(super) fn check_user(from: &impl Read, organization: OrganizationId, user: Option<UserId>) -> Result<(), Error> {
    match user {
        Some(user) if users::get(from, organization, user)?.is_none() => Err(Error::field("user_id", "names no user")),
        _ => Ok(()),
    }
}

pub(super) fn check_policy(
    from: &impl Read,
    organization: OrganizationId,
    policy: Option<PolicyId>,
) -> Result<(), Error> {
    match policy {
        Some(policy) if policies::get(from, organization, policy)?.is_none() => {
            Err(Error::field("policy_id", "names no policy"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_group(from: &impl Read, organization: OrganizationId, group: Option<GroupId>) -> Result<(), Error> {
    match group {
        Some(group) if groups::get(from, organization, group)?.is_none() => {
            Err(Error::field("group_id", "names no group"))
        }
        _ => Ok(()),
    }
}

/// Stores the device as its next revision.
pub(super) fn save(tx: &mut Tx, device: &mut Device) -> Result<(), Error> {
    device.updated_at = tx.now();
    device.revision += 1;
    devices::put(tx, device.clone())
}

pub(super) fn set_status(
    tx: &mut Tx,
    by_device: bool,
    mut device: Device,
    status: Status,
) -> Result<Audited<Device>, Error> {
    use Status::{Offline, Online, Pending, Suspended, Wiped};
    let before = device.status;
    if by_device {
        match (before, status) {
            (Suspended | Wiped, _) => return Err(Error::Forbidden(format!("this device is {before}"))),
            (_, Online | Offline) => {}
            _ => return Err(Error::Forbidden("a device may only report online or offline".into())),
        }
    } else {
        match (before, status) {
            (Pending | Online | Offline | Suspended, Suspended) | (Suspended | Online, Online) => {}
            (_, Wiped) => {
                return Err(Error::Conflict("a device is wiped when it confirms: POST its wipe instead".into()));
            }
            _ => return Err(Error::Conflict(format!("a device that is {before} cannot be made {status} this way"))),
        }
    }
    if before == status {
        return Ok(Audited::without_entry(device, Unaudited::Unchanged));
    }
    let event = status_event(&device, status);
    device.status = status;
    save(tx, &mut device)?;
    Ok(Audited::new(device, event))
}

pub(super) fn status_event(device: &Device, to: Status) -> AuditEvent {
    AuditEvent::new("device.status.change")
        .of(device.organization_id)
        .on("device", device.id, &device.device_name)
        .detail("from", device.status.as_str())
        .detail("to", to.as_str())
}

/// Unenrols the device. A wipe that it has not confirmed waits for whoever enrols under its serial number.
pub(super) fn delete(tx: &mut Tx, device: Device) -> Result<Audited<()>, Error> {
    let wipe = unconfirmed_wipe(tx, &device)?;
    let mut event = AuditEvent::new("device.unenroll").of(device.organization_id).about(device.user_id);
    event = event.on("device", device.id, &device.device_name).detail("platform", device.platform.as_str());
    if let (Some(wipe), Some(serial)) = (&wipe, &device.serial_number) {
        let intent = WipeIntent {
            device_id: device.id,
            user_id: device.user_id,
            device_name: device.device_name.clone(),
            requested_by: wipe.requested_by.clone(),
            requested_at: wipe.created_at,
        };
        commands::put_wipe_intent(tx, device.organization_id, serial, &intent)?;
        event = event.detail("unconfirmed_wipe", "waits for this serial number to enrol again");
    }
    if let Some(leaving) = device.leaving {
        let end = match (wipe, &device.serial_number) {
            (None, _) => ErasedWipe::Confirmed,
            (Some(_), Some(_)) => ErasedWipe::WaitingForSerial,
            (Some(_), None) => ErasedWipe::NotReachable,
        };
        erasures::device_left(tx, device.organization_id, leaving.erasure_id, device.id, end)?;
        event = event.detail("wipe", end.as_str());
    }
    devices::delete(tx, device)?;
    Ok(Audited::new((), event))
}

/// The device's wipe that waits for its word; while it stays for nothing else, also one that has failed.
fn unconfirmed_wipe(from: &impl Read, device: &Device) -> Result<Option<Command>, Error> {
    let last = commands::last_wipe(from, device.organization_id, device.id)?;
    let waits = |wipe: &Command| match device.leaving {
        Some(_) => wipe.status != CommandStatus::Succeeded,
        None => wipe.status.is_open(),
    };
    Ok(last.filter(waits))
}
