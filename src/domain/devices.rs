//! Devices: what there is, what may be changed of it, and which status follows which.

use std::sync::Arc;

use super::Services;
use super::authz::Permission;
use super::op::{DeviceScope, Op, Principal};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{DeviceId, GroupId, OrganizationId, PolicyId, UserId};
use crate::model::command::WipeIntent;
use crate::model::device::{Device, Status};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::index::{Filter, Judgement, Sort};
use crate::store::resolution::Resolver;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{commands, devices, groups, memory, policies, users};

/// A device, with what memory knows beside the row.
pub struct Seen {
    pub device: Arc<Device>,
    pub last_seen: Option<Time>,
    /// The strongest policy that reaches it, and whether it complies.
    pub judgement: Judgement,
    /// What is wrong, or has not been reported.
    pub reasons: Vec<String>,
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
                return Ok((page.total, self.seen_all(organization, found)));
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

    pub fn seen(&self, device: Arc<Device>) -> Seen {
        let fleet = self.store.memory().fleet(device.organization_id);
        let last_seen = memory::read(&fleet).last_seen(device.id);
        let (judgement, reasons) = self.store.memory().verdict(&device, self.now());
        Seen { device, last_seen, judgement, reasons }
    }

    fn seen_all(&self, organization: OrganizationId, devices: Vec<Arc<Device>>) -> Vec<Seen> {
        let (fleet, now) = (self.store.memory().fleet(organization), self.now());
        let fleet = memory::read(&fleet);
        let directory = self.store.memory().directory();
        let mut resolver = Resolver::new(&directory, organization);
        let seen = devices.into_iter().map(|device| {
            let (judgement, reasons) = resolver.verdict(&device, now);
            Seen { last_seen: fleet.last_seen(device.id), device, judgement, reasons }
        });
        seen.collect()
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
        let by = op.clone();
        let change = move |tx: &mut Tx| {
            let mut device = in_scope(tx, &by, Permission::DevicesEdit, id)?;
            if revision.is_some_and(|revision| revision != device.revision) {
                return Err(Error::Stale);
            }
            if change.user_id.is_some() || change.tags.is_some() {
                by.require(Permission::DevicesEdit)?;
            }
            if change.policy_id.is_some() {
                by.require(Permission::PoliciesAssign)?;
            }
            let mut event = AuditEvent::new("device.update").on("device", id, &device.device_name);
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
        Ok(self.seen(Arc::new(self.store.write(op.stamp(), change).await?)))
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
                set_status(tx, matches!(by.principal, Principal::Device(_)), device, status)
            })
            .await?;
        if matches!(op.principal, Principal::Device(_)) {
            self.store.seen(device.organization_id, device.id, op.now);
        }
        Ok(self.seen(Arc::new(device)))
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
    let open = commands::open(tx, device.organization_id, device.id)?;
    let wipe = open.iter().find(|command| command.kind == crate::model::command::CommandType::Wipe);
    let mut event =
        AuditEvent::new("device.unenroll").on("device", device.id, &device.device_name).about(device.user_id);
    if let (Some(wipe), Some(serial)) = (wipe, &device.serial_number) {
        let intent = WipeIntent {
            device_id: device.id,
            device_name: device.device_name.clone(),
            requested_by: wipe.requested_by.clone(),
            requested_at: wipe.created_at,
        };
        commands::put_wipe_intent(tx, device.organization_id, serial, &intent)?;
        event = event.detail("unconfirmed_wipe", "waits for this serial number to enrol again");
    }
    devices::delete(tx, device)?;
    Ok(Audited::new((), event))
}
