//! The log, or what a filter leaves of it, from its oldest entry on: the order in which its chain is verified.

use std::ops::ControlFlow;

use super::AuditFilter;
use super::proof::Turn;
use crate::domain::Services;
use crate::domain::authz::Permission;
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::{AuditEntry, AuditResult};
use crate::store::audit::{self, AuditEvent};
use crate::store::persons::Opener;
use crate::store::write::Audited;
use crate::store::{Reader, audit::retention};

/// Exports of one organization at a time.
const AT_A_TIME: usize = 4;
/// Entries looked at on one snapshot.
const LOOKED_AT: u64 = 20_000;
/// Bytes of stored entries handed over at once: as soon as there are so many.
const HANDED_OVER: usize = 128 * 1024;

/// An export under way: where it is, and what it must not grow beyond.
pub struct Export {
    reader: Reader,
    organization: OrganizationId,
    filter: AuditFilter,
    next: u64,
    last: u64,
    _turn: Turn,
}

impl Services {
    /// Begins an export of what is in the log now, and notes it there.
    pub async fn export_audit_log(&self, op: &Op, filter: AuditFilter, format: &'static str) -> Result<Export, Error> {
        op.require(Permission::AuditExport)?;
        let organization = op.organization_id()?;
        let turn = self.audit_turns.take("an export", organization, AT_A_TIME)?;
        let asked = filter.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let event = AuditEvent::new("audit.export").detail("format", format);
            Ok(Audited::new(audit::head(tx, organization)?.seq, described(event, &asked)))
        });
        let end = write.await?;
        let (next, last) = filter.span(&self.store.snapshot()?, organization)?;
        let (reader, last) = (self.store.reader(), last.min(end));
        Ok(Export { reader, organization, filter, next, last, _turn: turn })
    }
}

/// What was asked for, as the audit log tells it.
fn described(event: AuditEvent, filter: &AuditFilter) -> AuditEvent {
    let AuditFilter { from, to, action, actor_id, resource_type, resource_id, result, source_ip } = filter;
    let given = [
        ("from", from.map(|time| time.to_string())),
        ("to", to.map(|time| time.to_string())),
        ("action", action.clone()),
        ("actor_id", actor_id.clone()),
        ("resource_type", resource_type.clone()),
        ("resource_id", resource_id.clone()),
        ("result", result.map(AuditResult::as_str).map(Into::into)),
        ("source_ip", source_ip.map(|address| address.to_string())),
    ];
    given.into_iter().fold(event, |event, (name, value)| match value {
        Some(value) => event.detail(name, value),
        None => event,
    })
}

impl Export {
    /// The next matching entries with their names open, oldest first; `None` at the end. There may be none in one
    /// part of the log. Reads from disk: for a thread that may wait.
    pub fn next_part(&mut self) -> Result<Option<Vec<AuditEntry>>, Error> {
        let snapshot = self.reader.snapshot()?;
        // What has been let go meanwhile is no more to be had.
        self.next = self.next.max(retention::anchor(&snapshot, self.organization)?.seq + 1);
        if self.next > self.last {
            return Ok(None);
        }
        let last = self.last.min(self.next.saturating_add(LOOKED_AT - 1));
        let mut opener = Opener::new(&snapshot);
        let (mut found, mut size) = (Vec::new(), 0);
        let words = self.filter.words();
        let matches = |entry: &audit::Glance<'_>| self.filter.matches(entry);
        let seen = audit::oldest_first(
            &snapshot,
            self.organization,
            (self.next, last),
            &words,
            matches,
            |mut entry, length| {
                opener.open(&mut entry)?;
                found.push(entry);
                size += length;
                Ok(if size < HANDED_OVER { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            },
        )?;
        self.next = seen + 1;
        Ok(Some(found))
    }
}
