//! What the appliance knows without reading a table: who may sign in and do what, every organization's fleet index and
//! what its policies make of it, and the devices read of late. Rebuilt at start from the tables, and changed by nothing
//! but the effects of a commit.

mod api_keys;
mod directory;
mod followers;
mod to_send;
mod waiting;
mod webhooks;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Deserialize;
use tokio::sync::watch;

use super::index::{Facts, Fleet, Judgement};
use super::recent::Recent;
use super::resolution::{Circumstances, Report, Resolver};
use crate::clock::Time;
use crate::ids::{ApiKeyId, DeviceId, GroupId, OrganizationId, PolicyId, RoleId, SessionId, UserId, WebhookId};
use crate::model::api_key::ApiKey;
use crate::model::device::{Compliance, Device, Platform, Posture, Status};
use crate::model::group::Group;
use crate::model::organization::Organization;
use crate::model::policy::Policy;
use crate::model::role::CustomRole;
use crate::model::session::{Session, SigningKey};
use crate::model::settings::Settings;
use crate::model::user::User;
use crate::model::webhook::Webhook;

pub use api_keys::ApiKeyFacts;
pub use directory::{Directory, GroupFacts, RoleFacts, SessionFacts, UserFacts};
pub use to_send::ToSend;
pub use waiting::Waiter;

use followers::Followers;
use waiting::Waiting;

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
    Policy(Box<Policy>),
    PolicyGone(PolicyId),
    Session(Session),
    SessionGone(SessionId),
    /// A key, and when it was last used.
    ApiKey(ApiKey, Option<Time>),
    ApiKeyGone(ApiKeyId),
    SigningKeys(Vec<SigningKey>),
    Settings(Settings),
    /// Stored anew; when it was last seen stays as memory knows it.
    Device(Box<Device>),
    DeviceGone(OrganizationId, DeviceId),
    /// Something waits for the device: whoever holds its check-in open answers now.
    Wake(DeviceId),
    Webhook(Webhook),
    WebhookGone(OrganizationId, WebhookId),
    /// A delivery of the webhook is due.
    ToSend(OrganizationId, WebhookId),
    /// The organization's audit log has got this entry: after all else that the same change has done to memory.
    Logged(OrganizationId, u64),
    /// Verdicts that depend on the time are due again.
    TimePassed(OrganizationId),
}

/// Which devices of an organization may be judged otherwise than before.
pub(super) enum Reach {
    All,
    Of(HashSet<UserId>),
}

impl Reach {
    fn user(id: UserId) -> Self {
        Self::Of(HashSet::from([id]))
    }

    fn none() -> Self {
        Self::Of(HashSet::new())
    }

    fn and(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Of(users), Self::Of(more)) => users.extend(more),
            _ => *self = Self::All,
        }
    }

    fn includes(&self, user: Option<UserId>) -> bool {
        match self {
            Self::All => true,
            Self::Of(users) => user.is_some_and(|user| users.contains(&user)),
        }
    }
}

#[derive(Default)]
pub struct Memory {
    directory: RwLock<Directory>,
    fleets: RwLock<HashMap<OrganizationId, Arc<RwLock<Fleet>>>>,
    recent: Recent,
    waiting: Waiting,
    to_send: ToSend,
    followers: Followers,
}

// Whoever holds a fleet may go on to read the directory, and not the other way round.
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

    /// Resolves as soon as something is committed for the device after this call: a command, or other settings than
    /// those of `fingerprint`.
    pub fn wait_for(&self, organization: OrganizationId, device: DeviceId, fingerprint: u128) -> Waiter<'_> {
        self.waiting.add(organization, device, fingerprint)
    }

    /// Tells the settings that the device should have from any others.
    pub fn fingerprint(&self, organization: OrganizationId, device: DeviceId) -> u128 {
        let fleet = self.fleet(organization);
        let circumstances = read(&fleet).circumstances(device).map(|(circumstances, _)| circumstances);
        let directory = self.directory();
        let mut resolver = Resolver::new(&directory, organization);
        resolver.resolve(device, circumstances.unwrap_or_default()).1.fingerprint
    }

    /// How the device is judged, and why.
    pub fn verdict(&self, device: &Device, now: Time) -> (Judgement, Vec<String>) {
        let directory = self.directory();
        Resolver::new(&directory, device.organization_id).verdict(device, now)
    }

    /// The webhooks that have something to send.
    pub fn to_send(&self) -> &ToSend {
        &self.to_send
    }

    /// The newest entry of the organization's audit log, as soon as it and all that came before it is in memory; 0 until
    /// there is one after this call. Closed when the organization is gone.
    pub fn follow(&self, organization: OrganizationId) -> watch::Receiver<u64> {
        self.followers.add(organization)
    }

    /// Changes with every new entry of any audit log.
    pub fn follow_all(&self) -> watch::Receiver<()> {
        self.followers.of_all()
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(super) fn adopt_fleet(&self, organization: OrganizationId, fleet: Fleet) {
        write(&self.fleets).insert(organization, Arc::new(RwLock::new(fleet)));
    }

    fn drop_fleet(&self, organization: OrganizationId) {
        if let Some(fleet) = write(&self.fleets).remove(&organization) {
            // Emptied in place: somebody may be at work on it.
            *write(&fleet) = Fleet::default();
            self.recent.forget(organization);
            self.waiting.wake_all(organization);
        }
    }

    /// `now` is when the effects were caused.
    pub(super) fn apply(&self, effects: Vec<Effect>, now: Time) {
        let mut reached: HashMap<OrganizationId, Reach> = HashMap::new();
        // Whoever waits is told last: they read what all the rest has made of it.
        let (mut woken, mut logged) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Device(device) => {
                    self.recent.changed(device.organization_id, device.id);
                    let stored = StoredFacts::of(&device);
                    let facts = {
                        let directory = self.directory();
                        stored.facts(&mut Resolver::new(&directory, device.organization_id), device.id, None, now)
                    };
                    write(&self.fleet(device.organization_id)).upsert(&facts);
                }
                Effect::DeviceGone(organization, device) => {
                    self.recent.changed(organization, device);
                    write(&self.fleet(organization)).remove(device);
                }
                Effect::Wake(device) => woken.push(device),
                Effect::ToSend(organization, webhook) => self.to_send.add(organization, webhook),
                Effect::Logged(organization, seq) => logged.push((organization, seq)),
                Effect::OrganizationGone(organization) => {
                    self.drop_fleet(organization);
                    self.followers.forget(organization);
                    write(&self.directory).apply(Effect::OrganizationGone(organization));
                    reached.remove(&organization);
                }
                other => {
                    let mut directory = write(&self.directory);
                    if let Some((organization, reach)) = directory.reach(&other) {
                        reached.entry(organization).or_insert_with(Reach::none).and(reach);
                    }
                    directory.apply(other);
                }
            }
        }
        for (organization, reach) in reached {
            self.judge(organization, &reach, now);
            self.waiting.wake_changed(organization, |device| self.fingerprint(organization, device));
        }
        woken.into_iter().for_each(|device| self.waiting.wake(device));
        logged.into_iter().for_each(|(organization, seq)| self.followers.tell(organization, seq));
    }

    /// Judges anew whoever is within reach.
    fn judge(&self, organization: OrganizationId, reach: &Reach, now: Time) {
        let fleet = self.fleet(organization);
        let mut changed: Vec<(DeviceId, Judgement)> = Vec::new();
        {
            let fleet = read(&fleet);
            let directory = self.directory();
            let mut resolver = Resolver::new(&directory, organization);
            for (device, circumstances, report, before) in fleet.judged() {
                if reach.includes(circumstances.user) {
                    let after = resolver.judge(device, circumstances, report, now);
                    if after != before {
                        changed.push((device, after));
                    }
                }
            }
        }
        // This is the writer, and memory is changed by nobody else: what was read still holds.
        let mut fleet = write(&fleet);
        for (device, judgement) in changed {
            fleet.judge(device, judgement);
        }
    }
}

/// What of a stored [`Device`] the index holds, borrowed: a start copies nothing that it would throw away.
#[derive(Deserialize)]
pub(super) struct StoredFacts<'a> {
    status: Status,
    platform: Platform,
    /// As the row has it; the index has what the policies make of the device now.
    compliance: Compliance,
    user_id: Option<UserId>,
    policy_id: Option<PolicyId>,
    #[serde(default)]
    group_id: Option<GroupId>,
    posture: Option<Posture>,
    device_name: &'a str,
    #[serde(borrow)]
    os_version: Option<&'a str>,
    #[serde(borrow)]
    hostname: Option<&'a str>,
    #[serde(borrow)]
    serial_number: Option<&'a str>,
}

impl<'a> StoredFacts<'a> {
    fn of(device: &'a Device) -> Self {
        Self {
            status: device.status,
            platform: device.platform,
            compliance: device.compliance,
            user_id: device.user_id,
            policy_id: device.policy_id,
            group_id: device.group_id,
            posture: device.posture,
            device_name: &device.device_name,
            os_version: device.os_version.as_deref(),
            hostname: device.hostname.as_deref(),
            serial_number: device.serial_number.as_deref(),
        }
    }

    pub fn facts(&self, resolver: &mut Resolver<'_>, id: DeviceId, last_seen: Option<Time>, now: Time) -> Facts<'_> {
        let report = Report::new(self.os_version, self.posture.as_ref(), self.compliance);
        let circumstances = Circumstances { policy: self.policy_id, user: self.user_id, group: self.group_id };
        let judgement = resolver.judge(id, circumstances, report, now);
        Facts {
            id,
            status: self.status,
            platform: self.platform,
            compliance: judgement.compliance,
            user: self.user_id,
            policy: judgement.policy,
            assigned: self.policy_id,
            groups: self.group_id.as_slice(),
            last_seen,
            report,
            name: self.device_name,
            hostname: self.hostname,
            serial: self.serial_number,
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
