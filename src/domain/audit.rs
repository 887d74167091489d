//! Reading the audit log.

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::Services;
use super::op::Op;
use crate::clock::Time;
use crate::error::Error;
use crate::model::audit::{AuditEntry, AuditResult};
use crate::store::audit;

#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub from: Option<Time>,
    /// Exclusive.
    pub to: Option<Time>,
    /// An action, or with a dot at its end all that start with it.
    pub action: Option<String>,
    pub actor_id: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub result: Option<AuditResult>,
    pub source_ip: Option<IpAddr>,
}

impl AuditFilter {
    /// Nothing but time narrows, so that sequence numbers alone say how many there are.
    fn is_by_time_only(&self) -> bool {
        self.action.is_none()
            && self.actor_id.is_none()
            && self.resource_type.is_none()
            && self.resource_id.is_none()
            && self.result.is_none()
            && self.source_ip.is_none()
    }

    fn matches(&self, entry: &AuditEntry) -> bool {
        let resource = entry.resource.as_ref();
        self.action.as_ref().is_none_or(|action| {
            entry.action == *action || (action.ends_with('.') && entry.action.starts_with(action.as_str()))
        }) && self.actor_id.as_ref().is_none_or(|id| entry.actor.id.as_ref() == Some(id))
            && self.resource_type.as_ref().is_none_or(|kind| resource.is_some_and(|r| r.kind == *kind))
            && self.resource_id.as_ref().is_none_or(|id| resource.is_some_and(|r| r.id == *id))
            && self.result.is_none_or(|result| entry.result == result)
            && self.source_ip.is_none_or(|address| entry.source_ip == Some(address))
    }
}

impl Services {
    /// Newest first: how many entries match, and those from `offset` on.
    pub async fn audit_log(
        &self,
        op: &Op,
        filter: AuditFilter,
        offset: u64,
        limit: usize,
    ) -> Result<(u64, Vec<AuditEntry>), Error> {
        let organization = op.organization_id()?;
        let snapshot = self.store.snapshot()?;
        // A long log takes a while to search, which is no work for a thread that serves requests.
        let search = tokio::task::spawn_blocking(move || {
            let first = match filter.from {
                Some(from) => audit::first_where(&snapshot, organization, |entry| entry.timestamp >= from)?,
                None => 1,
            };
            let last = match filter.to {
                Some(to) => audit::first_where(&snapshot, organization, |entry| entry.timestamp >= to)? - 1,
                None => audit::head(&snapshot, organization)?.seq,
            };
            let mut entries = Vec::new();
            if filter.is_by_time_only() {
                let total = (last + 1).saturating_sub(first);
                if offset < total {
                    audit::newest_first(&snapshot, organization, first, last - offset, |entry| {
                        entries.push(entry);
                        if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    })?;
                }
                return Ok((total, entries));
            }
            let mut total = 0;
            audit::newest_first(&snapshot, organization, first, last, |entry| {
                if filter.matches(&entry) {
                    if total >= offset && entries.len() < limit {
                        entries.push(entry);
                    }
                    total += 1;
                }
                ControlFlow::Continue(())
            })?;
            Ok((total, entries))
        });
        search.await.map_err(Error::internal)?
    }
}
