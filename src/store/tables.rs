//! Every table of the appliance: its name, its key, its record. This list is the schema.

use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::{Direction, EngineError, Read, Transaction};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{
    ApiKeyId, CommandId, DeliveryId, DeviceId, EnrollmentTokenId, ErasureId, GroupId, OrganizationId, PolicyId, RoleId,
    SessionId, UserId, WebhookId,
};
use crate::model::api_key::ApiKey;
use crate::model::audit::{AuditEntry, Checkpoint};
use crate::model::command::{Command, WipeIntent};
use crate::model::device::Device;
use crate::model::enrollment::EnrollmentToken;
use crate::model::gdpr::Erasure;
use crate::model::group::Group;
use crate::model::link::Link;
use crate::model::mail::OutgoingMail;
use crate::model::organization::Organization;
use crate::model::policy::{Policy, PolicyVersion};
use crate::model::role::CustomRole;
use crate::model::session::{Session, SigningKey};
use crate::model::settings::Settings;
use crate::model::user::User;
use crate::model::webhook::{Delivery, Webhook, WebhookState};
use crate::store::assignments::Assignee;
use crate::store::audit::Head;
use crate::store::audit::retention::Anchor;
use crate::store::idempotency::Outcome;
use crate::store::persons::Person;

/// The appliance's own numbers, by name.
pub const META: Table<String, u64> = Table::new("meta");
/// The appliance's own keys, by purpose.
pub const SECRETS: Table<String, [u8; 32]> = Table::new("secrets");
/// Settings that are kept with the data.
pub const SETTINGS: Table<String, Settings> = Table::new("settings");
pub const ORGANIZATIONS: Table<OrganizationId, Organization> = Table::new("organizations");
pub const USERS: Table<(OrganizationId, UserId), User> = Table::new("users");
/// By the e-mail in its form for comparison; unique in the whole appliance, since it is all that sign-in asks for.
pub const USERS_BY_EMAIL: Table<String, (OrganizationId, UserId)> = Table::new("users_by_email");
/// The users with a role of the organization's own.
pub const USERS_BY_ROLE: Table<(OrganizationId, RoleId, UserId), ()> = Table::new("users_by_role");
/// The active super admins of the whole appliance: never empty once it is set up.
pub const SUPER_ADMINS: Table<(OrganizationId, UserId), ()> = Table::new("super_admins");
pub const ROLES: Table<(OrganizationId, RoleId), CustomRole> = Table::new("roles");
/// By the name in its form for comparison.
pub const ROLES_BY_NAME: Table<(OrganizationId, String), RoleId> = Table::new("roles_by_name");
pub const GROUPS: Table<(OrganizationId, GroupId), Group> = Table::new("groups");
/// By the name in its form for comparison.
pub const GROUPS_BY_NAME: Table<(OrganizationId, String), GroupId> = Table::new("groups_by_name");
/// The groups directly within a group.
pub const GROUPS_BY_PARENT: Table<(OrganizationId, GroupId, GroupId), ()> = Table::new("groups_by_parent");
/// Who is in a group directly.
pub const MEMBERS: Table<(OrganizationId, GroupId, UserId), ()> = Table::new("members");
pub const GROUPS_OF_USER: Table<(OrganizationId, UserId, GroupId), ()> = Table::new("groups_of_user");
pub const POLICIES: Table<(OrganizationId, PolicyId), Policy> = Table::new("policies");
/// By the name in its form for comparison.
pub const POLICIES_BY_NAME: Table<(OrganizationId, String), PolicyId> = Table::new("policies_by_name");
/// The policies that extend another, by that other.
pub const POLICIES_BY_BASE: Table<(OrganizationId, PolicyId, PolicyId), ()> = Table::new("policies_by_base");
pub const POLICY_VERSIONS: Table<(OrganizationId, PolicyId, u64), PolicyVersion> = Table::new("policy_versions");
pub const SIGNING_KEYS: Table<String, SigningKey> = Table::new("signing_keys");
pub const SESSIONS: Table<SessionId, Session> = Table::new("sessions");
pub const SESSIONS_BY_FAMILY: Table<[u8; 32], SessionId> = Table::new("sessions_by_family");
pub const SESSIONS_OF_USER: Table<(OrganizationId, UserId, SessionId), ()> = Table::new("sessions_of_user");
/// By the hash of its secret.
pub const LINKS: Table<[u8; 32], Link> = Table::new("links");
/// The one link that a user may have.
pub const LINK_OF_USER: Table<(OrganizationId, UserId), [u8; 32]> = Table::new("link_of_user");
/// As `LINK_OF_USER`, for the link that the user requested.
pub const REQUESTED_LINK_OF_USER: Table<(OrganizationId, UserId), [u8; 32]> = Table::new("requested_link_of_user");
/// What waits to be mailed. How many there are stands in `META`.
pub const OUTGOING_MAIL: Table<(OrganizationId, UserId), OutgoingMail> = Table::new("outgoing_mail");
pub const API_KEYS: Table<(OrganizationId, ApiKeyId), ApiKey> = Table::new("api_keys");
/// When each key was last used, in Unix seconds. Written together with the heartbeats.
pub const API_KEY_USES: Table<(OrganizationId, ApiKeyId), i64> = Table::new("api_key_uses");
pub const DEVICES: Table<(OrganizationId, DeviceId), Device> = Table::new("devices");
pub const DEVICES_BY_TOKEN: Table<[u8; 32], (OrganizationId, DeviceId)> = Table::new("devices_by_token");
pub const DEVICES_OF_USER: Table<(OrganizationId, UserId, DeviceId), ()> = Table::new("devices_of_user");
/// Addresses of the organization's pool that are in use.
pub const ADDRESSES: Table<(OrganizationId, u32), DeviceId> = Table::new("addresses");
/// When each device was last seen, in Unix seconds. Written in bulk, seconds apart.
pub const HEARTBEATS: Table<(OrganizationId, DeviceId), i64> = Table::new("heartbeats");
pub const COMMANDS: Table<(OrganizationId, DeviceId, CommandId), Command> = Table::new("commands");
/// The commands that wait for a device's word, so that a check-in reads no history.
pub const OPEN_COMMANDS: Table<(OrganizationId, DeviceId, CommandId), ()> = Table::new("open_commands");
/// What each policy is assigned to.
pub const ASSIGNMENTS: Table<(OrganizationId, PolicyId, Assignee), ()> = Table::new("assignments");
/// By the serial number in lower case.
pub const WIPE_INTENTS: Table<(OrganizationId, String), WipeIntent> = Table::new("wipe_intents");
pub const ENROLLMENT_TOKENS: Table<(OrganizationId, EnrollmentTokenId), EnrollmentToken> =
    Table::new("enrollment_tokens");
pub const ENROLLMENT_TOKENS_BY_HASH: Table<[u8; 32], (OrganizationId, EnrollmentTokenId)> =
    Table::new("enrollment_tokens_by_hash");
pub const WEBHOOKS: Table<(OrganizationId, WebhookId), Webhook> = Table::new("webhooks");
pub const WEBHOOK_STATES: Table<(OrganizationId, WebhookId), WebhookState> = Table::new("webhook_states");
/// The outbox: each event once for each webhook that is told of it.
pub const DELIVERIES: Table<(OrganizationId, WebhookId, DeliveryId), Delivery> = Table::new("deliveries");
/// The pending deliveries by the time of their next attempt, in Unix seconds.
pub const DUE_DELIVERIES: Table<(OrganizationId, WebhookId, (u64, DeliveryId)), ()> = Table::new("due_deliveries");
/// When each delivery that is not pending has ended, in Unix seconds.
pub const ENDED_DELIVERIES: Table<(OrganizationId, WebhookId, DeliveryId), i64> = Table::new("ended_deliveries");
/// Who was erased, for a restored backup to do again.
pub const ERASURES: Table<(OrganizationId, ErasureId), Erasure> = Table::new("erasures");
/// The devices of erased people, and when each is unenrolled at the latest.
pub const LEAVING: Table<(OrganizationId, DeviceId), Time> = Table::new("leaving");
pub const AUDIT: Table<(OrganizationId, u64), AuditEntry> = Table::new("audit");
pub const AUDIT_HEADS: Table<OrganizationId, Head> = Table::new("audit_heads");
/// Where a log begins whose oldest entries are past their time.
pub const AUDIT_ANCHORS: Table<OrganizationId, Anchor> = Table::new("audit_anchors");
pub const AUDIT_CHECKPOINTS: Table<(OrganizationId, u64), Checkpoint> = Table::new("audit_checkpoints");
/// The newest entry of each log that a collector elsewhere has.
pub const AUDIT_FORWARDED: Table<OrganizationId, u64> = Table::new("audit_forwarded");
/// What seals people's names in the log.
pub const PERSONS: Table<(OrganizationId, UserId), Person> = Table::new("persons");
pub const OUTCOMES: Table<[u8; 32], Outcome> = Table::new("outcomes");
/// Outcomes by the time at which they are forgotten, in Unix seconds.
pub const OUTCOMES_BY_EXPIRY: Table<(u64, [u8; 32]), ()> = Table::new("outcomes_by_expiry");

/// Every table above, for what concerns them all; a test holds this list against them.
pub const ALL: &[Described] = &[
    META.described(),
    SECRETS.described(),
    SETTINGS.described(),
    ORGANIZATIONS.described(),
    USERS.described(),
    USERS_BY_EMAIL.described(),
    USERS_BY_ROLE.described(),
    SUPER_ADMINS.described(),
    ROLES.described(),
    ROLES_BY_NAME.described(),
    GROUPS.described(),
    GROUPS_BY_NAME.described(),
    GROUPS_BY_PARENT.described(),
    MEMBERS.described(),
    GROUPS_OF_USER.described(),
    POLICIES.described(),
    POLICIES_BY_NAME.described(),
    POLICIES_BY_BASE.described(),
    POLICY_VERSIONS.described(),
    SIGNING_KEYS.described(),
    SESSIONS.described(),
    SESSIONS_BY_FAMILY.described(),
    SESSIONS_OF_USER.described(),
    LINKS.described(),
    LINK_OF_USER.described(),
    REQUESTED_LINK_OF_USER.described(),
    OUTGOING_MAIL.described(),
    API_KEYS.described(),
    API_KEY_USES.described(),
    DEVICES.described(),
    DEVICES_BY_TOKEN.described(),
    DEVICES_OF_USER.described(),
    ADDRESSES.described(),
    HEARTBEATS.described(),
    COMMANDS.described(),
    OPEN_COMMANDS.described(),
    ASSIGNMENTS.described(),
    WIPE_INTENTS.described(),
    ENROLLMENT_TOKENS.described(),
    ENROLLMENT_TOKENS_BY_HASH.described(),
    WEBHOOKS.described(),
    WEBHOOK_STATES.described(),
    DELIVERIES.described(),
    DUE_DELIVERIES.described(),
    ENDED_DELIVERIES.described(),
    ERASURES.described(),
    LEAVING.described(),
    AUDIT.described(),
    AUDIT_HEADS.described(),
    AUDIT_ANCHORS.described(),
    AUDIT_CHECKPOINTS.described(),
    AUDIT_FORWARDED.described(),
    PERSONS.described(),
    OUTCOMES.described(),
    OUTCOMES_BY_EXPIRY.described(),
];

/// A table without its types.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub name: &'static str,
    /// Its keys begin with the organization that the row belongs to.
    pub of_organization: bool,
}

/// A table with keys `K` in the order of their bytes and self-describing records `V`.
pub struct Table<K, V> {
    pub name: &'static str,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}

impl<K: Key, V: Serialize + DeserializeOwned> Table<K, V> {
    const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    const fn described(self) -> Described {
        Described { name: self.name, of_organization: K::OF_ORGANIZATION }
    }

    pub fn get(self, from: &impl Read, key: &K) -> Result<Option<V>, Error> {
        from.get(self.name, &key.bytes(), |bytes| self.decode(bytes))?.transpose()
    }

    pub fn contains(self, from: &impl Read, key: &K) -> Result<bool, Error> {
        Ok(from.get(self.name, &key.bytes(), |_| ())?.is_some())
    }

    /// Visits the rows of `range` in `direction` until `visit` breaks.
    pub fn scan(
        self,
        from: &impl Read,
        range: KeyRange,
        direction: Direction,
        mut visit: impl FnMut(K, V) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.scan_stored(from, range, direction, |key, value| Ok(visit(key, self.decode(value)?)))
    }

    /// Like [`Table::scan`], with records as they are stored, for [`Table::decode`] to read what is needed of them.
    pub(super) fn scan_stored(
        self,
        from: &impl Read,
        range: KeyRange,
        direction: Direction,
        mut visit: impl FnMut(K, &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut failed = None;
        from.scan(self.name, as_slice(&range.from), as_slice(&range.to), direction, &mut |key, value| {
            let visited = K::from_bytes(key).ok_or_else(|| self.damaged("key")).and_then(|key| visit(key, value));
            visited.unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        })?;
        failed.map_or(Ok(()), Err)
    }

    pub(super) fn put(self, to: &mut Transaction, key: &K, value: &V) -> Result<(), Error> {
        let value = rmp_serde::to_vec_named(value).map_err(Error::internal)?;
        Ok(to.put(self.name, &key.bytes(), &value)?)
    }

    /// The number of rows in `range`, and those from `offset` on, in `direction`.
    pub fn page(
        self,
        from: &impl Read,
        range: KeyRange,
        direction: Direction,
        offset: u64,
        limit: usize,
    ) -> Result<(u64, Vec<V>), Error> {
        let mut total = 0;
        let mut rows = Vec::new();
        from.scan(self.name, as_slice(&range.from), as_slice(&range.to), direction, &mut |_, value| {
            if total >= offset && rows.len() < limit {
                rows.push(self.decode(value));
            }
            total += 1;
            ControlFlow::Continue(())
        })?;
        Ok((total, rows.into_iter().collect::<Result<_, _>>()?))
    }

    /// A record, or what some other type takes from it.
    pub(super) fn decode<'a, T: Deserialize<'a>>(self, bytes: &'a [u8]) -> Result<T, Error> {
        rmp_serde::from_slice(bytes).map_err(|cause| self.damaged(&cause.to_string()))
    }

    fn damaged(self, cause: &str) -> Error {
        Error::Internal(format!("a row of table {} cannot be read: {cause}", self.name))
    }
}

impl From<EngineError> for Error {
    fn from(cause: EngineError) -> Self {
        Self::Internal(format!("the database cannot be read: {cause}"))
    }
}

/// A range of keys as bytes.
pub struct KeyRange {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl KeyRange {
    pub fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// The keys that start with the key part `prefix`.
    pub fn prefix(prefix: &impl Key) -> Self {
        let from = prefix.bytes();
        let mut to = from.clone();
        while to.last() == Some(&0xFF) {
            to.pop();
        }
        let to = match to.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(to)
            }
            None => Bound::Unbounded,
        };
        Self { from: Bound::Included(from), to }
    }

    pub fn between(first: &impl Key, last: &impl Key) -> Self {
        Self { from: Bound::Included(first.bytes()), to: Bound::Included(last.bytes()) }
    }

    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (as_slice(&self.from), as_slice(&self.to))
    }

    /// This range without `key` and what comes after it.
    pub fn before(self, key: &impl Key) -> Self {
        Self { to: Bound::Excluded(key.bytes()), ..self }
    }

    /// This range without what comes up to and including `key`.
    pub fn after(self, key: &impl Key) -> Self {
        Self { from: Bound::Excluded(key.bytes()), ..self }
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// A value that is stored as bytes in the order of the value itself.
pub trait Key: Sized {
    /// Its bytes begin with those of an organization.
    const OF_ORGANIZATION: bool = false;

    fn write(&self, to: &mut Vec<u8>);
    /// Takes its bytes off the front; `None` when they are not of this type.
    fn read(from: &mut &[u8]) -> Option<Self>;

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        self.write(&mut bytes);
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::read(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }
}

macro_rules! id_keys {
    ($of_organization:literal: $($id:ty),+) => {$(
        impl Key for $id {
            const OF_ORGANIZATION: bool = $of_organization;

            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(self.as_bytes());
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                from.split_off_first_chunk().map(|bytes| Self::from_bytes(*bytes))
            }
        }
    )+};
}

id_keys!(true: OrganizationId);
id_keys!(false: UserId, RoleId, GroupId, PolicyId, SessionId, DeviceId, CommandId, EnrollmentTokenId, ApiKeyId);
id_keys!(false: WebhookId, DeliveryId, ErasureId);

trait SplitOffFirstChunk<'a> {
    fn split_off_first_chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]>;
}

impl<'a> SplitOffFirstChunk<'a> for &'a [u8] {
    fn split_off_first_chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.split_first_chunk()?;
        *self = rest;
        Some(chunk)
    }
}

impl Key for [u8; 32] {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        from.split_off_first_chunk().copied()
    }
}

impl Key for u32 {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_be_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        from.split_off_first_chunk().map(|bytes| Self::from_be_bytes(*bytes))
    }
}

impl Key for u64 {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_be_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        from.split_off_first_chunk().map(|bytes| Self::from_be_bytes(*bytes))
    }
}

/// Text stands last in a key, so it needs no end mark.
impl Key for String {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        String::from_utf8(std::mem::take(from).to_vec()).ok()
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    const OF_ORGANIZATION: bool = A::OF_ORGANIZATION;

    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some((A::read(from)?, B::read(from)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    const OF_ORGANIZATION: bool = A::OF_ORGANIZATION;

    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
        self.2.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some((A::read(from)?, B::read(from)?, C::read(from)?))
    }
}
