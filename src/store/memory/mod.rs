//! What the appliance knows without reading a table: who may sign in and do what, and every organization's fleet
//! index. Rebuilt at start from the tables, and changed by nothing but the effects of a commit.

mod directory;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::index::{Facts, Fleet};
use crate::clock::Time;
use crate::ids::{DeviceId, GroupId, OrganizationId, RoleId, SessionId, UserId};
use crate::model::device::Device;
use crate::model::group::Group;
use crate::model::organization::Organization;
use crate::model::role::CustomRole;
use crate::model::session::{Session, SigningKey};
use crate::model::user::User;

pub use directory::{Directory, GroupFacts, SessionFacts, UserFacts};

/// What a commit changes in memory.
pub(super) enum Effect {
    Organization(Organization),
    /// With everything that belongs to it.
    OrganizationGone(OrganizationId),
    User(User),
    UserGone(UserId),
    Role(CustomRole),
    RoleGone(RoleId),
    Group(Group),
    GroupGone(GroupId),
    Joined(GroupId, UserId),
    Left(GroupId, UserId),
    Session(Session),
    SessionGone(SessionId),
    SigningKeys(Vec<SigningKey>),
    /// Stored anew; when it was last seen stays as memory knows it.
    Device(Box<Device>),
    DeviceGone(OrganizationId, DeviceId),
    /// Something waits for the device: whoever holds its check-in open answers now.
    Wake(DeviceId),
}

#[derive(Default)]
pub struct Memory {
    directory: RwLock<Directory>,
    fleets: RwLock<HashMap<OrganizationId, Arc<RwLock<Fleet>>>>,
    waiting: Mutex<HashMap<DeviceId, watch::Sender<()>>>,
}

impl Memory {
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        read(&self.directory)
    }

    /// The organization's fleet index; an empty one for an organization without devices.
    pub fn fleet(&self, organization: OrganizationId) -> Arc<RwLock<Fleet>> {
        if let Some(fleet) = read(&self.fleets).get(&organization) {
            return fleet.clone();
        }
        write(&self.fleets).entry(organization).or_default().clone()
    }

    /// Resolves as soon as something is committed for the device after this call.
    pub fn wait_for(&self, device: DeviceId) -> Waiter<'_> {
        let mut waiting = lock(&self.waiting);
        let woken = waiting.entry(device).or_insert_with(|| watch::channel(()).0).subscribe();
        Waiter { memory: self, device, woken: Some(woken) }
    }

    pub(super) fn adopt_fleet(&self, organization: OrganizationId, fleet: Fleet) {
        write(&self.fleets).insert(organization, Arc::new(RwLock::new(fleet)));
    }

    fn drop_fleet(&self, organization: OrganizationId) {
        let Some(fleet) = write(&self.fleets).remove(&organization) else { return };
        // Emptied in place: somebody may be at work on it.
        let gone = std::mem::take(&mut *write(&fleet));
        for (_, waiter) in lock(&self.waiting).iter().filter(|(device, _)| gone.contains(**device)) {
            waiter.send_replace(());
        }
    }

    pub(super) fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Device(device) => write(&self.fleet(device.organization_id)).upsert(&facts(&device, None)),
                Effect::DeviceGone(organization, device) => {
                    write(&self.fleet(organization)).remove(device);
                }
                Effect::Wake(device) => {
                    if let Some(waiter) = lock(&self.waiting).get(&device) {
                        waiter.send_replace(());
                    }
                }
                Effect::OrganizationGone(organization) => {
                    self.drop_fleet(organization);
                    write(&self.directory).apply(Effect::OrganizationGone(organization));
                }
                other => write(&self.directory).apply(other),
            }
        }
    }
}

/// What the index holds of a device.
pub(super) fn facts(device: &Device, last_seen: Option<Time>) -> Facts<'_> {
    Facts {
        id: device.id,
        status: device.status,
        platform: device.platform,
        compliance: device.compliance,
        user: device.user_id,
        policy: device.policy_id,
        groups: &[],
        last_seen,
        name: &device.device_name,
        hostname: device.hostname.as_deref(),
        serial: device.serial_number.as_deref(),
    }
}

/// A device's check-in that is held open.
pub struct Waiter<'a> {
    memory: &'a Memory,
    device: DeviceId,
    woken: Option<watch::Receiver<()>>,
}

impl Waiter<'_> {
    pub async fn woken(&mut self) {
        if let Some(woken) = &mut self.woken {
            // The sender stays in the map as long as this receiver exists.
            let _ = woken.changed().await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.memory.waiting);
        self.woken = None;
        if waiting.get(&self.device).is_some_and(|sender| sender.receiver_count() == 0) {
            waiting.remove(&self.device);
        }
    }
}

// Nothing that panics while it holds one of these locks leaves them half changed in a way that a later reader could
// not bear: each effect replaces whole values.
pub fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
