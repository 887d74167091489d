//! The audit log: per organization a sequence without gaps, each entry chained to the one before it by SHA-256.

pub mod chain;
pub mod checkpoints;
pub mod forwarded;
pub mod retention;
#[cfg(test)]
mod tests;
pub mod verify;

use std::net::IpAddr;
use std::ops::{Bound, ControlFlow};

use memchr::memmem;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{API_KEYS, AUDIT, AUDIT_HEADS, DEVICES, ENROLLMENT_TOKENS, Key, KeyRange, ORGANIZATIONS, Table};
use super::write::Tx;
use super::{outbox, persons};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{ApiKeyId, DeviceId, EnrollmentTokenId, OrganizationId, UserId};
use crate::model::audit::{Actor, AuditEntry, AuditResult, Resource};
use crate::model::hex::Hex;

/// The newest entry of an organization's log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: [u8; 32],
    pub timestamp: Time,
}

/// What happened. Who did it, from where and when comes from the change's stamp.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    pub(super) action: &'static str,
    organization_id: Option<OrganizationId>,
    actor: Option<Actor>,
    pub(super) resource: Option<Resource>,
    person: Option<UserId>,
    pub(super) details: Map<String, Value>,
    pub(super) result: AuditResult,
}

/// Details that name a person, where the entry is about one.
const PERSONAL: &[&str] =
    &["resource.name", "details.email", "details.name", "details.device_name", "details.tags", "details.reason"];

impl AuditEvent {
    pub fn new(action: &'static str) -> Self {
        Self {
            action,
            organization_id: None,
            actor: None,
            resource: None,
            person: None,
            details: Map::new(),
            result: AuditResult::Success,
        }
    }

    pub fn failed(action: &'static str) -> Self {
        Self { result: AuditResult::Failure, ..Self::new(action) }
    }

    /// Belongs to another organization's log than the actor's.
    pub fn of(mut self, organization: OrganizationId) -> Self {
        self.organization_id = Some(organization);
        self
    }

    /// Somebody else than who the request came from: a user who has just signed in, say.
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    pub fn on(mut self, kind: &str, id: impl ToString, name: &str) -> Self {
        self.resource = Some(Resource { kind: kind.into(), id: id.to_string(), name: Some(name.into()) });
        self
    }

    /// Whom the resource's name and the details name, when the resource is not that user itself: the owner of a device
    /// or of a session, say.
    pub fn about(mut self, person: impl Into<Option<UserId>>) -> Self {
        self.person = person.into();
        self
    }

    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }
}

/// Adds the entry in the transaction of the change that it tells of.
///
/// What belongs to no organization (a failed sign-in under an unknown e-mail) goes to the first one, the appliance's
/// owner's.
pub(super) fn append(tx: &mut Tx, event: AuditEvent) -> Result<(), Error> {
    let organization_id = match event.organization_id.or(tx.stamp().organization_id) {
        Some(id) => id,
        None => match first_organization(tx)? {
            Some(id) => id,
            None => return Err(Error::Internal("an audit entry before there is an organization".into())),
        },
    };
    // Whoever asks may be of an organization that was deleted a moment ago: nothing of it comes back.
    if !ORGANIZATIONS.contains(tx, &organization_id)? {
        return Err(Error::unauthenticated());
    }
    let stamp = tx.stamp().clone();
    let actor = event.actor.clone().unwrap_or(stamp.actor);
    let actor_home = stamp.organization_id.unwrap_or(organization_id);
    let actor_person = match &actor.id {
        Some(id) => person_behind(tx, actor_home, actor.kind.as_str(), id)?,
        None => None,
    };
    let person = match (event.person, &event.resource) {
        (Some(person), _) => Some(person),
        // Who signs in, out, or ends a session is whose it is; elsewhere the event says whom it is about.
        (None, Some(resource)) if resource.kind == "session" => actor_person,
        (None, Some(resource)) => person_behind(tx, organization_id, &resource.kind, &resource.id)?,
        (None, None) => None,
    };
    // Which may add an entry of its own.
    outbox::publish(tx, organization_id, &event, person)?;
    let head = tx.get(AUDIT_HEADS, &organization_id)?.unwrap_or_default();
    let mut entry = AuditEntry {
        id: tx.new_id(),
        seq: head.seq + 1,
        // The log is in order of time even when the machine's clock is set back.
        timestamp: stamp.now.max(head.timestamp),
        organization_id,
        actor,
        action: event.action.into(),
        resource: event.resource,
        details: event.details,
        source_ip: stamp.source_ip,
        request_id: stamp.request_id,
        result: event.result,
        hash: String::new(),
        sealed: Vec::new(),
    };
    match (actor_person, person) {
        (Some(actor), Some(person)) if actor == person => {
            persons::seal_names(tx, &mut entry, person, &[&["actor.name"], PERSONAL].concat())?;
        }
        (actor, person) => {
            if let Some(actor) = actor {
                persons::seal_names(tx, &mut entry, actor, &["actor.name"])?;
            }
            if let Some(person) = person {
                persons::seal_names(tx, &mut entry, person, PERSONAL)?;
            }
        }
    }
    let hash = chain::hash(&head.hash, &(&entry).into())?;
    entry.hash = chain::hex(&hash);
    tx.put(AUDIT, &(organization_id, entry.seq), &entry)?;
    tx.effect(Effect::Logged(organization_id, entry.seq));
    tx.put(AUDIT_HEADS, &organization_id, &Head { seq: entry.seq, hash, timestamp: entry.timestamp })
}

/// Whom the name of a thing is likely to name: the user themself, the owner of a device or of what devices enrol with,
/// the maker of a key. Of what is deleted in the same transaction the event says it: [`AuditEvent::about`].
fn person_behind(tx: &Tx, organization: OrganizationId, kind: &str, id: &str) -> Result<Option<UserId>, Error> {
    #[derive(Deserialize)]
    struct Owned {
        #[serde(alias = "created_by")]
        user_id: Option<UserId>,
    }
    fn owner<K: Key, V>(tx: &Tx, table: &Table<K, V>, key: Option<K>) -> Result<Option<UserId>, Error>
    where
        V: Serialize + DeserializeOwned,
    {
        let Some(key) = key else { return Ok(None) };
        let owned = Read::get(tx, table.name, &key.bytes(), |row| table.decode::<Owned>(row))?;
        Ok(owned.transpose()?.and_then(|owned| owned.user_id))
    }
    match kind {
        "user" => Ok(UserId::parse(id)),
        "device" => owner(tx, &DEVICES, DeviceId::parse(id).map(|id| (organization, id))),
        "api_key" => owner(tx, &API_KEYS, ApiKeyId::parse(id).map(|id| (organization, id))),
        "enrollment_token" => {
            let token = EnrollmentTokenId::parse(id).map(|id| ENROLLMENT_TOKENS.get(tx, &(organization, id)));
            Ok(token.transpose()?.flatten().and_then(|token| token.user_id))
        }
        _ => Ok(None),
    }
}

fn first_organization(from: &impl Read) -> Result<Option<OrganizationId>, Error> {
    let mut first = None;
    ORGANIZATIONS.scan(from, KeyRange::all(), Direction::Ascending, |id, _| {
        first = Some(id);
        ControlFlow::Break(())
    })?;
    Ok(first)
}

pub fn head(from: &impl Read, organization: OrganizationId) -> Result<Head, Error> {
    Ok(AUDIT_HEADS.get(from, &organization)?.unwrap_or_default())
}

/// The hash of an entry, or of the last one that was let go; `None` for one that is not there.
pub fn hash_of(from: &impl Read, organization: OrganizationId, seq: u64) -> Result<Option<chain::Hash>, Error> {
    let anchor = retention::anchor(from, organization)?;
    if seq == anchor.seq {
        return Ok(Some(anchor.hash));
    }
    let entry = AUDIT.get(from, &(organization, seq))?;
    Ok(entry.and_then(|entry| Hex::parse(&entry.hash)).and_then(|hash| hash.0.try_into().ok()))
}

/// Visits entries `first..=last` by sequence number, newest first, until `visit` breaks.
pub fn newest_first(
    from: &impl Read,
    organization: OrganizationId,
    first: u64,
    last: u64,
    mut visit: impl FnMut(AuditEntry) -> ControlFlow<()>,
) -> Result<(), Error> {
    let range = KeyRange::between(&(organization, first), &(organization, last));
    AUDIT.scan(from, range, Direction::Descending, |_, entry| visit(entry))
}

/// What can be searched for in an entry, read without the rest of it.
#[derive(Deserialize)]
pub struct Glance<'a> {
    #[serde(borrow)]
    pub actor: ActorGlance<'a>,
    pub action: &'a str,
    #[serde(borrow)]
    pub resource: Option<ResourceGlance<'a>>,
    pub source_ip: Option<IpAddr>,
    pub result: AuditResult,
}

#[derive(Deserialize)]
pub struct ActorGlance<'a> {
    pub id: Option<&'a str>,
}

#[derive(Deserialize)]
pub struct ResourceGlance<'a> {
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub id: &'a str,
}

/// Which part of what was found is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub offset: u64,
    pub limit: usize,
}

/// How many of the entries `first..=last` match, and part of them, newest first.
///
/// An entry that matches has all of `words` in its stored form, where text stands as it is: so most others are told
/// by their bytes, without being read.
pub fn search(
    from: &impl Read,
    organization: OrganizationId,
    (first, last): (u64, u64),
    words: &[&str],
    matches: impl Fn(&Glance<'_>) -> bool,
    part: Part,
) -> Result<(u64, Vec<AuditEntry>), Error> {
    let finders: Vec<_> = words.iter().map(|word| memmem::Finder::new(word.as_bytes())).collect();
    let (from_key, to_key) = ((organization, first).bytes(), (organization, last).bytes());
    let (mut total, mut wanted, mut unread) = (0, Vec::new(), None);
    let mut look = |key: &[u8], row: &[u8]| {
        if finders.iter().any(|finder| finder.find(row).is_none()) {
            return ControlFlow::Continue(());
        }
        match rmp_serde::from_slice::<Glance<'_>>(row) {
            Ok(glance) if matches(&glance) => {
                if total >= part.offset && wanted.len() < part.limit {
                    wanted.extend(<(OrganizationId, u64)>::from_bytes(key));
                }
                total += 1;
            }
            Ok(_) => {}
            Err(cause) => {
                unread = Some(Error::Internal(format!("an audit entry cannot be read: {cause}")));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let bounds = (Bound::Included(&*from_key), Bound::Included(&*to_key));
    from.scan(AUDIT.name, bounds.0, bounds.1, Direction::Descending, &mut look)?;
    if let Some(error) = unread {
        return Err(error);
    }
    let found = wanted.iter().map(|key| AUDIT.get(from, key));
    Ok((total, found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()))
}

/// Visits those of the entries `first..=last` that match, with their stored length in bytes, oldest first, until `visit`
/// breaks; tells how far it came. See [`search`] for `words`.
pub fn oldest_first(
    from: &impl Read,
    organization: OrganizationId,
    (first, last): (u64, u64),
    words: &[&str],
    matches: impl Fn(&Glance<'_>) -> bool,
    mut visit: impl FnMut(AuditEntry, usize) -> Result<ControlFlow<()>, Error>,
) -> Result<u64, Error> {
    let finders: Vec<_> = words.iter().map(|word| memmem::Finder::new(word.as_bytes())).collect();
    let mut seen = last;
    let range = KeyRange::between(&(organization, first), &(organization, last));
    AUDIT.scan_stored(from, range, Direction::Ascending, |(_, seq), row| {
        if finders.iter().any(|finder| finder.find(row).is_none()) || !matches(&AUDIT.decode(row)?) {
            return Ok(ControlFlow::Continue(()));
        }
        let next = visit(AUDIT.decode(row)?, row.len())?;
        if next.is_break() {
            seen = seq;
        }
        Ok(next)
    })?;
    Ok(seen)
}

/// The smallest sequence number whose entry is not before `accept` says so; entries are in order of time.
pub fn first_where(
    from: &impl Read,
    organization: OrganizationId,
    accept: impl Fn(&AuditEntry) -> bool,
) -> Result<u64, Error> {
    let (mut low, mut high) = (1, head(from, organization)?.seq + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match AUDIT.get(from, &(organization, middle))? {
            Some(entry) if accept(&entry) => high = middle,
            _ => low = middle + 1,
        }
    }
    Ok(low)
}
