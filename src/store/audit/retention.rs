//! Entries past their time are let go, oldest first, and leave an anchor that the rest of the chain hangs on.
//!
//! The log tells of each such step, in the same commit: an anchor that it does not tell of was put there by somebody.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::chain::{EntryRef, Hash, Link, hex};
use super::{AuditEvent, first_where};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::hex::Hex;
use crate::store::engine::{Direction, Read};
use crate::store::tables::{AUDIT, AUDIT_ANCHORS, AUDIT_CHECKPOINTS, KeyRange};
use crate::store::write::Tx;

const ACTION: &str = "audit.retention";

/// The newest entry that was let go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anchor {
    pub seq: u64,
    pub hash: Hash,
}

/// Where the log begins.
pub fn anchor(from: &impl Read, organization: OrganizationId) -> Result<Link, Error> {
    let anchor = AUDIT_ANCHORS.get(from, &organization)?;
    Ok(anchor.map_or_else(Link::default, |Anchor { seq, hash }| Link { seq, hash }))
}

/// Where the entry says that the log begins.
pub(super) fn told(entry: &EntryRef<'_>) -> Option<Link> {
    let details = (entry.action == ACTION).then_some(&entry.details)?;
    let hash = Hex::parse(details.get("through_hash")?.as_str()?)?;
    Some(Link { seq: details.get("through")?.as_u64()?, hash: hash.0.try_into().ok()? })
}

/// When the oldest entry was written.
pub fn oldest(from: &impl Read, organization: OrganizationId) -> Result<Option<Time>, Error> {
    let mut oldest = None;
    AUDIT.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, entry| {
        oldest = Some(entry.timestamp);
        ControlFlow::Break(())
    })?;
    Ok(oldest)
}

/// Lets go of at most `limit` entries from before `end`, the oldest, and of the checkpoints before them; the event that
/// tells of it, or `None` when there are none.
pub fn step(tx: &mut Tx, organization: OrganizationId, end: Time, limit: u64) -> Result<Option<AuditEvent>, Error> {
    let due = first_where(tx, organization, |entry| entry.timestamp >= end)? - 1;
    Ok(let_go(tx, organization, due, limit)?.map(|event| event.detail("before", end.to_string())))
}

/// Lets go of at most `limit` entries up to and including `due`, the oldest, and of the checkpoints before them; the
/// event that tells of it, or `None` when there are none.
pub fn let_go(tx: &mut Tx, organization: OrganizationId, due: u64, limit: u64) -> Result<Option<AuditEvent>, Error> {
    let before = anchor(tx, organization)?.seq;
    let through = due.min(before.saturating_add(limit));
    let Some(last) = tx.get(AUDIT, &(organization, through))?.filter(|_| through > before) else { return Ok(None) };
    let hash = Hex::parse(&last.hash).and_then(|hash| Hash::try_from(hash.0).ok());
    let hash = hash.ok_or_else(|| Error::Internal(format!("entry {through} of the audit log has no hash")))?;
    let gone = KeyRange::between(&(organization, 0_u64), &(organization, through));
    let count = tx.delete_range(AUDIT.name, &gone)?;
    tx.delete_range(AUDIT_CHECKPOINTS.name, &gone)?;
    tx.put(AUDIT_ANCHORS, &organization, &Anchor { seq: through, hash })?;
    let event = AuditEvent::new(ACTION).of(organization).detail("entries", count);
    Ok(Some(event.detail("through", through).detail("through_hash", hex(&hash))))
}
