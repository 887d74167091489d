//! Policies: what an organization asks of its devices, and every version of it.

mod check;
mod contradictions;
mod diff;
mod inherit;
mod remove;
mod versions;

use serde_json::json;

use super::op::Op;
use super::{Services, names};
use crate::error::{Error, FieldError};
use crate::ids::{OrganizationId, PolicyId};
use crate::model::policy::{Policy, PolicyContent};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::index::Filter;
use crate::store::resolution::PolicyFacts;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{memory, policies, users};

pub use diff::Change;
pub use versions::Compared;

/// Policies that an organization may have.
const MOST: usize = 1000;
/// Bytes that a policy's settings may take as JSON.
const MAX_SIZE: usize = 256 * 1024;

#[derive(Clone, Debug, Default)]
pub struct PolicyFilter {
    pub active: Option<bool>,
    /// Part of the name, in whatever case.
    pub text: String,
}

/// What a list of policies is ordered by; equal ones by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicySort {
    Name,
    CreatedAt,
    UpdatedAt,
}

impl Services {
    pub fn policies(
        &self,
        op: &Op,
        filter: &PolicyFilter,
        (sort, descending): (PolicySort, bool),
        offset: u64,
        limit: usize,
    ) -> Result<(u64, Vec<Policy>), Error> {
        let organization = op.organization_id()?;
        let text = users::folded(&filter.text);
        let fits = |facts: &PolicyFacts| {
            filter.active.is_none_or(|active| active == facts.active) && users::folded(&facts.name).contains(&text)
        };
        loop {
            let ids: Vec<PolicyId> = {
                let directory = self.store.memory().directory();
                let mut found: Vec<_> = directory.policies_of(organization).filter(|(_, facts)| fits(facts)).collect();
                match sort {
                    PolicySort::CreatedAt => {}
                    PolicySort::Name => found.sort_by_cached_key(|(_, facts)| users::folded(&facts.name)),
                    PolicySort::UpdatedAt => found.sort_by_key(|(_, facts)| facts.updated_at),
                }
                if descending {
                    found.reverse();
                }
                found.into_iter().map(|(id, _)| id).collect()
            };
            let page = ids.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(limit);
            let snapshot = self.store.snapshot()?;
            let found = page.map(|id| policies::get(&snapshot, organization, *id)).collect::<Result<Option<_>, _>>()?;
            // A row that is gone was deleted in a commit that memory is about to follow: look again.
            if let Some(found) = found {
                return Ok((ids.len() as u64, found));
            }
            std::thread::yield_now();
        }
    }

    pub fn policy(&self, op: &Op, id: PolicyId) -> Result<Policy, Error> {
        find(&self.store.snapshot()?, op.organization_id()?, id)
    }

    /// How many devices the policy is in force on.
    pub fn policy_device_count(&self, organization: OrganizationId, id: PolicyId) -> u64 {
        let fleet = self.store.memory().fleet(organization);
        memory::read(&fleet).count(&Filter { policies: vec![id], ..Filter::default() })
    }

    pub async fn create_policy(&self, op: &Op, content: PolicyContent) -> Result<Policy, Error> {
        let organization = op.organization_id()?;
        let content = checked(content).await?;
        let create = move |tx: &mut Tx| {
            if policies::count(tx, organization)? >= MOST {
                return Err(Error::Conflict(format!("an organization has at most {MOST} policies")));
            }
            let (id, content, now) = (tx.new_id(), content.clone(), tx.now());
            check_extends(tx, organization, id, &content)?;
            let policy =
                Policy { id, organization_id: organization, content, version: 1, created_at: now, updated_at: now };
            policies::put(tx, policy.clone(), Some("created".into()))?;
            let event = AuditEvent::new("policy.create").on("policy", id, &policy.content.name);
            Ok(Audited::new(policy, event))
        };
        self.store.write(op.stamp(), create).await
    }

    /// Replaces what the policy says; a new version unless it says the same already.
    pub async fn change_policy(
        &self,
        op: &Op,
        id: PolicyId,
        content: PolicyContent,
        version: Option<u64>,
    ) -> Result<Policy, Error> {
        let organization = op.organization_id()?;
        let content = checked(content).await?;
        let change = move |tx: &mut Tx| {
            let policy = find(tx, organization, id)?;
            require_version(&policy, version)?;
            replace(tx, policy, content.clone(), None)
        };
        self.store.write(op.stamp(), change).await
    }
}

pub(super) fn find(from: &impl Read, organization: OrganizationId, id: PolicyId) -> Result<Policy, Error> {
    policies::get(from, organization, id)?.ok_or(Error::NotFound("policy"))
}

fn require_version(policy: &Policy, version: Option<u64>) -> Result<(), Error> {
    if version.is_some_and(|version| version != policy.version) { Err(Error::Stale) } else { Ok(()) }
}

/// Refuses content that cannot lie where it would, between what it extends and what extends it.
pub(super) fn check_extends(
    from: &impl Read,
    organization: OrganizationId,
    id: PolicyId,
    content: &PolicyContent,
) -> Result<(), Error> {
    if let Some(base) = content.extends {
        inherit::check_base(from, organization, (id, &content.name), base, "extends")?;
    }
    inherit::check_settings(from, organization, id, content)
}

/// The content, when nothing is wrong with it by itself.
pub(super) async fn checked(content: PolicyContent) -> Result<PolicyContent, Error> {
    // Compiling a thousand patterns takes a while, which is no work for a thread that serves requests.
    let check = tokio::task::spawn_blocking(move || {
        let mut errors = Vec::new();
        errors.extend(names::check("name", &content.name).err());
        if serde_json::to_vec(&content.policy_data).map_err(Error::internal)?.len() > MAX_SIZE {
            errors.push(FieldError::new("policy_data", format!("must be at most {} KiB of JSON", MAX_SIZE / 1024)));
        }
        errors.extend(content.policy_data.check());
        errors.extend(content.policy_data.contradictions(content.extends.is_some()));
        if errors.is_empty() { Ok(content) } else { Err(Error::Invalid(errors)) }
    });
    check.await.map_err(Error::internal)?
}

/// Gives the policy new content, as its next version.
fn replace(
    tx: &mut Tx,
    mut policy: Policy,
    content: PolicyContent,
    note: Option<String>,
) -> Result<Audited<Policy>, Error> {
    let changes = diff::changes(&policy.content, &content)?;
    if changes.is_empty() {
        return Ok(Audited::without_entry(policy, Unaudited::Unchanged));
    }
    check_extends(tx, policy.organization_id, policy.id, &content)?;
    policy.content = content;
    policy.version += 1;
    policy.updated_at = tx.now();
    let changes: Vec<Change> = changes.into_iter().map(Change::brief).collect();
    let event = AuditEvent::new("policy.update").on("policy", policy.id, &policy.content.name);
    let event = event.detail("version", policy.version).detail("changes", json!(changes));
    let event = note.iter().fold(event, |event, note| event.detail("note", note.clone()));
    policies::put(tx, policy.clone(), note)?;
    Ok(Audited::new(policy, event))
}
