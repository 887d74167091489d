//! What the appliance knows without reading a table: who may sign in and do what, every organization's fleet index, and
//! the devices read of late. Rebuilt at start from the tables, and changed by nothing but the effects of a commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::index::{Facts, Fleet};
use super::recent::Recent;
use crate::clock::Time;
use crate::ids::{DeviceId, OrganizationId, SessionId, UserId};
use crate::model::device::Device;
use crate::model::organization::{Organization, Tier};
use crate::model::session::{Session, SigningKey};
use crate::model::user::{User, UserStatus};

/// What a commit changes in memory.
pub(super) enum Effect {
    Organization(Organization),
    User(User),
    Session(Session),
    SessionGone(SessionId),
    SigningKeys(Vec<SigningKey>),
    /// Stored anew; when it was last seen stays as memory knows it.
    Device(Box<Device>),
    DeviceGone(OrganizationId, DeviceId),
    /// Something waits for the device: whoever holds its check-in open answers now.
    Wake(DeviceId),
}

#[derive(Clone, Debug)]
pub struct UserFacts {
    pub id: UserId,
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub role: Arc<str>,
    pub status: UserStatus,
}

#[derive(Clone, Copy, Debug)]
pub struct SessionFacts {
    pub user_id: UserId,
    pub expires_at: Time,
}

/// Who may sign in, and as what.
#[derive(Default)]
pub struct Directory {
    organizations: HashMap<OrganizationId, Tier>,
    users: HashMap<UserId, UserFacts>,
    sessions: HashMap<SessionId, SessionFacts>,
    sessions_by_user: HashMap<UserId, BTreeSet<SessionId>>,
    signing_keys: Vec<SigningKey>,
}

impl Directory {
    pub fn is_set_up(&self) -> bool {
        !self.organizations.is_empty()
    }

    pub fn tier(&self, organization: OrganizationId) -> Tier {
        self.organizations.get(&organization).copied().unwrap_or(Tier::Standard)
    }

    pub fn organizations(&self) -> impl Iterator<Item = OrganizationId> {
        self.organizations.keys().copied()
    }

    pub fn user(&self, id: UserId) -> Option<&UserFacts> {
        self.users.get(&id)
    }

    pub fn session(&self, id: SessionId) -> Option<SessionFacts> {
        self.sessions.get(&id).copied()
    }

    /// A user's sessions, oldest first.
    pub fn sessions_of(&self, user: UserId) -> impl DoubleEndedIterator<Item = SessionId> {
        self.sessions_by_user.get(&user).into_iter().flatten().copied()
    }

    pub fn lapsed_sessions(&self, now: Time, limit: usize) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, s)| s.expires_at <= now).map(|(id, _)| *id).take(limit).collect()
    }

    /// Newest first; tokens are signed with the first.
    pub fn signing_keys(&self) -> &[SigningKey] {
        &self.signing_keys
    }
}

#[derive(Default)]
pub struct Memory {
    directory: RwLock<Directory>,
    fleets: RwLock<HashMap<OrganizationId, Arc<RwLock<Fleet>>>>,
    recent: Recent,
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

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
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

    pub(super) fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Device(device) => {
                    self.recent.changed(device.organization_id, device.id);
                    write(&self.fleet(device.organization_id)).upsert(&facts(&device, None));
                }
                Effect::DeviceGone(organization, device) => {
                    self.recent.changed(organization, device);
                    write(&self.fleet(organization)).remove(device);
                }
                Effect::Wake(device) => {
                    if let Some(waiter) = lock(&self.waiting).get(&device) {
                        waiter.send_replace(());
                    }
                }
                other => write(&self.directory).apply(other),
            }
        }
    }
}

impl Directory {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Organization(organization) => {
                self.organizations.insert(organization.id, organization.tier);
            }
            Effect::User(user) => {
                let facts = UserFacts {
                    id: user.id,
                    organization_id: user.organization_id,
                    name: user.name.into(),
                    role: user.role.into(),
                    status: user.status,
                };
                self.users.insert(user.id, facts);
            }
            Effect::Session(session) => {
                let facts = SessionFacts { user_id: session.user_id, expires_at: session.expires_at };
                self.sessions.insert(session.id, facts);
                self.sessions_by_user.entry(session.user_id).or_default().insert(session.id);
            }
            Effect::SessionGone(session) => {
                if let Some(facts) = self.sessions.remove(&session)
                    && let Some(sessions) = self.sessions_by_user.get_mut(&facts.user_id)
                {
                    sessions.remove(&session);
                    if sessions.is_empty() {
                        self.sessions_by_user.remove(&facts.user_id);
                    }
                }
            }
            Effect::SigningKeys(keys) => self.signing_keys = keys,
            Effect::Device(_) | Effect::DeviceGone(..) | Effect::Wake(_) => {}
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
