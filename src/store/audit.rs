//! The audit log: per organization a sequence without gaps, each entry chained to the one before it by SHA-256.

use std::net::IpAddr;
use std::ops::{Bound, ControlFlow};

use memchr::memmem;
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::engine::{Direction, Read};
use super::outbox;
use super::tables::{AUDIT, AUDIT_HEADS, Key, KeyRange, ORGANIZATIONS};
use super::write::Tx;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::{Actor, AuditEntry, AuditResult, Resource};

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
    pub(super) details: Map<String, Value>,
    pub(super) result: AuditResult,
}

impl AuditEvent {
    pub fn new(action: &'static str) -> Self {
        Self {
            action,
            organization_id: None,
            actor: None,
            resource: None,
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
    outbox::publish(tx, organization_id, &event)?;
    let head = tx.get(AUDIT_HEADS, &organization_id)?.unwrap_or_default();
    let stamp = tx.stamp().clone();
    let mut entry = AuditEntry {
        id: tx.new_id(),
        seq: head.seq + 1,
        // The log is in order of time even when the machine's clock is set back.
        timestamp: stamp.now.max(head.timestamp),
        organization_id,
        actor: event.actor.unwrap_or(stamp.actor),
        action: event.action.into(),
        resource: event.resource,
        details: event.details,
        source_ip: stamp.source_ip,
        request_id: stamp.request_id,
        result: event.result,
        hash: String::new(),
    };
    let hash = chain(&head.hash, &entry)?;
    entry.hash = hex(&hash);
    tx.put(AUDIT, &(organization_id, entry.seq), &entry)?;
    tx.put(AUDIT_HEADS, &organization_id, &Head { seq: entry.seq, hash, timestamp: entry.timestamp })
}

/// SHA-256 over the hash before and the entry as JSON with an empty `hash`.
fn chain(before: &[u8; 32], entry: &AuditEntry) -> Result<[u8; 32], Error> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    context.update(&serde_json::to_vec(entry).map_err(Error::internal)?);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Ok(hash)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
