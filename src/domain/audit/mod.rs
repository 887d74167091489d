//! Reading the audit log.

pub mod checkpoints;
pub mod export;
pub mod forward;
pub mod offline;
pub mod proof;

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::Services;
use super::op::Op;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::{AuditEntry, AuditResult};
use crate::store::audit::{self, Glance, Part, retention};
use crate::store::engine::Read;
use crate::store::persons::Opener;

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

    /// Text that every match has in it somewhere.
    fn words(&self) -> Vec<&str> {
        let given = [&self.action, &self.actor_id, &self.resource_type, &self.resource_id];
        let given = given.into_iter().flatten().map(String::as_str);
        given.chain(self.result.map(AuditResult::as_str)).collect()
    }

    fn matches(&self, entry: &Glance<'_>) -> bool {
        let resource = entry.resource.as_ref();
        self.action.as_ref().is_none_or(|action| {
            entry.action == *action || (action.ends_with('.') && entry.action.starts_with(action.as_str()))
        }) && self.actor_id.as_ref().is_none_or(|id| entry.actor.id == Some(id.as_str()))
            && self.resource_type.as_ref().is_none_or(|kind| resource.is_some_and(|r| r.kind == *kind))
            && self.resource_id.as_ref().is_none_or(|id| resource.is_some_and(|r| r.id == *id))
            && self.result.is_none_or(|result| entry.result == result)
            && self.source_ip.is_none_or(|address| entry.source_ip == Some(address))
    }
}

impl AuditFilter {
    /// The entries between its times, by sequence number; crossed when there are none.
    fn span(&self, from: &impl Read, organization: OrganizationId) -> Result<(u64, u64), Error> {
        let begin = retention::anchor(from, organization)?.seq + 1;
        let first = match self.from {
            Some(time) => audit::first_where(from, organization, |entry| entry.timestamp >= time)?,
            None => begin,
        };
        let last = match self.to {
            Some(time) => audit::first_where(from, organization, |entry| entry.timestamp >= time)? - 1,
            None => audit::head(from, organization)?.seq,
        };
        Ok((first.max(begin), last))
    }
}

fn open_all(from: &impl Read, entries: &mut [AuditEntry]) -> Result<(), Error> {
    let mut opener = Opener::new(from);
    entries.iter_mut().try_for_each(|entry| opener.open(entry))
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
        // A long log takes a while to search, which is no work for a thread that serves requests.
        let turn = match filter.is_by_time_only() {
            true => None,
            false => Some(self.audit_searches.clone().acquire_owned().await.map_err(Error::internal)?),
        };
        let snapshot = self.store.snapshot()?;
        let search = tokio::task::spawn_blocking(move || {
            // Kept to the end, also when nobody waits for the answer any more.
            let _turn = turn;
            let (first, last) = filter.span(&snapshot, organization)?;
            let mut entries = Vec::new();
            if filter.is_by_time_only() {
                let total = (last + 1).saturating_sub(first);
                if offset < total {
                    audit::newest_first(&snapshot, organization, first, last - offset, |entry| {
                        entries.push(entry);
                        if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    })?;
                }
                open_all(&snapshot, &mut entries)?;
                return Ok((total, entries));
            }
            let (words, part) = (filter.words(), Part { offset, limit });
            let matches = |entry: &Glance<'_>| filter.matches(entry);
            let (total, mut found) = audit::search(&snapshot, organization, (first, last), &words, matches, part)?;
            open_all(&snapshot, &mut found)?;
            Ok((total, found))
        });
        search.await.map_err(Error::internal)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audit::{Actor, ActorType, Resource};

    fn entry(action: &str, actor: Option<&str>, resource: Option<(&str, &str)>, result: AuditResult) -> AuditEntry {
        let resource = resource.map(|(kind, id)| Resource { kind: kind.into(), id: id.into(), name: Some("x".into()) });
        AuditEntry {
            id: crate::ids::AuditId::from_bytes([1; 16]),
            seq: 1,
            timestamp: Time::from_unix(0),
            organization_id: crate::ids::OrganizationId::from_bytes([2; 16]),
            actor: Actor { kind: ActorType::User, id: actor.map(Into::into), name: None },
            action: action.into(),
            resource,
            // Words of a filter may stand in here, and make no match.
            details: [("from".to_owned(), "device.wipe failure ann".into())].into_iter().collect(),
            source_ip: Some(IpAddr::from([127, 0, 0, 1])),
            request_id: None,
            result,
            hash: String::new(),
            sealed: Vec::new(),
        }
    }

    /// What the words rule out, or a glance leaves out, would be missing from the answer without anybody noticing.
    #[test]
    fn a_glance_at_a_stored_entry_sees_all_that_a_filter_asks_for() {
        let text = |text: &str| Some(text.to_owned());
        let all = AuditFilter::default();
        let filters = [
            AuditFilter { action: text("device.wipe"), ..all.clone() },
            AuditFilter { action: text("device."), ..all.clone() },
            AuditFilter { actor_id: text("ann"), ..all.clone() },
            AuditFilter { resource_type: text("device"), ..all.clone() },
            AuditFilter { resource_id: text("7"), resource_type: text("device"), ..all.clone() },
            AuditFilter { result: Some(AuditResult::Failure), ..all.clone() },
            AuditFilter { source_ip: Some(IpAddr::from([127, 0, 0, 1])), ..all.clone() },
        ];
        let matching = entry("device.wipe", Some("ann"), Some(("device", "7")), AuditResult::Failure);
        let other = AuditEntry {
            source_ip: Some(IpAddr::from([0; 16])),
            ..entry("user.create", Some("bob"), None, AuditResult::Success)
        };
        for (wanted, entry) in [(true, matching), (false, other)] {
            let stored = rmp_serde::to_vec_named(&entry).unwrap();
            let glance: Glance<'_> = rmp_serde::from_slice(&stored).unwrap();
            for filter in &filters {
                assert_eq!(filter.matches(&glance), wanted, "{filter:?}");
                let has = |word: &str| stored.windows(word.len()).any(|part| part == word.as_bytes());
                assert!(!wanted || filter.words().into_iter().all(has), "{filter:?}");
            }
        }
    }
}
