//! Which policy is assigned to what.

use std::collections::HashSet;

use super::Services;
use super::op::Op;
use crate::error::{Error, FieldError};
use crate::ids::{DeviceId, GroupId, OrganizationId, PolicyId, UserId};
use crate::model::policy::Policy;
use crate::store::assignments::Assignee;
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::resolution::Supposed;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{devices, groups, organizations, policies, users};

/// Ids that one call may name, of each kind.
pub const MOST: usize = 10_000;
/// Errors that one answer lists, at most.
const MAX_ERRORS: usize = 20;

/// What to assign a policy to, or to take it from.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub devices: Vec<DeviceId>,
    pub users: Vec<UserId>,
    pub groups: Vec<GroupId>,
    pub default: bool,
}

impl Targets {
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.users.is_empty() && self.groups.is_empty() && !self.default
    }

    /// Everything named must be there, and named once: otherwise nothing at all is changed. `within` goes before the
    /// fields that errors name.
    pub(super) fn assignees(
        &self,
        from: &impl Read,
        organization: OrganizationId,
        within: &str,
    ) -> Result<Vec<Assignee>, Error> {
        let mut errors = Vec::new();
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut take = |field: String, id: [u8; 16], exists: bool, kind: &str, assignee: Assignee| {
            if !exists {
                errors.push(FieldError::new(field, format!("names no {kind}")));
            } else if seen.insert(id) {
                found.push(assignee);
            } else {
                errors.push(FieldError::new(field, "is given more than once"));
            }
        };
        for (at, id) in self.devices.iter().enumerate() {
            let exists = devices::exists(from, organization, *id)?;
            take(format!("{within}device_ids[{at}]"), *id.as_bytes(), exists, "device", Assignee::Device(*id));
        }
        for (at, id) in self.users.iter().enumerate() {
            let exists = users::get(from, organization, *id)?.is_some();
            take(format!("{within}user_ids[{at}]"), *id.as_bytes(), exists, "user", Assignee::User(*id));
        }
        for (at, id) in self.groups.iter().enumerate() {
            let exists = groups::get(from, organization, *id)?.is_some();
            take(format!("{within}group_ids[{at}]"), *id.as_bytes(), exists, "group", Assignee::Group(*id));
        }
        if self.default {
            found.push(Assignee::Organization);
        }
        errors.truncate(MAX_ERRORS);
        if errors.is_empty() { Ok(found) } else { Err(Error::Invalid(errors)) }
    }

    /// As if each of them had `policy`.
    pub(super) fn suppose(&self, policy: Option<PolicyId>, supposed: &mut Supposed) {
        supposed.devices.extend(self.devices.iter().map(|id| (*id, policy)));
        supposed.users.extend(self.users.iter().map(|id| (*id, policy)));
        supposed.groups.extend(self.groups.iter().map(|id| (*id, policy)));
        if self.default {
            supposed.default = Some(policy);
        }
    }
}

impl Services {
    /// Assigns the policy in place of whatever each target had.
    pub async fn assign_policy(&self, op: &Op, id: PolicyId, targets: Targets) -> Result<Policy, Error> {
        self.change_assignments(op, id, targets, true).await
    }

    /// Takes the policy from those of the targets that have it.
    pub async fn unassign_policy(&self, op: &Op, id: PolicyId, targets: Targets) -> Result<Policy, Error> {
        self.change_assignments(op, id, targets, false).await
    }

    async fn change_assignments(&self, op: &Op, id: PolicyId, targets: Targets, assign: bool) -> Result<Policy, Error> {
        let organization = op.organization_id()?;
        if targets.is_empty() {
            return Err(Error::field("device_ids", "or user_ids, group_ids or default is required"));
        }
        self.store
            .write(op.stamp(), move |tx| {
                let policy = policies::get(tx, organization, id)?.ok_or(Error::NotFound("policy"))?;
                let mut changed = Vec::new();
                for assignee in targets.assignees(tx, organization, "")? {
                    let before = assigned(tx, organization, assignee)?;
                    let after = if assign { Some(id) } else { before.filter(|before| *before != id) };
                    if before != after {
                        set(tx, organization, assignee, after)?;
                        changed.push(assignee);
                    }
                }
                if changed.is_empty() {
                    return Ok(Audited::without_entry(policy, Unaudited::Unchanged));
                }
                let event = AuditEvent::new("policy.assign").on("policy", id, &policy.content.name);
                let event = event.detail("action", if assign { "assign" } else { "unassign" });
                let event = described(event, &changed);
                Ok(Audited::new(policy, event))
            })
            .await
    }
}

/// Ids of one kind that an audit entry lists; a longer list is told by its length.
const LISTED: usize = 100;

fn described(event: AuditEvent, changed: &[Assignee]) -> AuditEvent {
    let mut event = event.detail("default", changed.contains(&Assignee::Organization));
    let named = changed.iter().filter_map(|assignee| match assignee {
        Assignee::Organization => None,
        Assignee::Device(id) => Some(("devices", id.to_string())),
        Assignee::User(id) => Some(("users", id.to_string())),
        Assignee::Group(id) => Some(("groups", id.to_string())),
    });
    let named: Vec<(&str, String)> = named.collect();
    for kind in ["devices", "users", "groups"] {
        let ids: Vec<String> = named.iter().filter(|(of, _)| *of == kind).map(|(_, id)| id.clone()).collect();
        if !ids.is_empty() {
            event = event.detail(&format!("{kind}_count"), ids.len());
            event = event.detail(kind, ids.into_iter().take(LISTED).collect::<Vec<_>>());
        }
    }
    event
}

fn assigned(tx: &Tx, organization: OrganizationId, assignee: Assignee) -> Result<Option<PolicyId>, Error> {
    Ok(match assignee {
        Assignee::Organization => organizations::get(tx, organization)?.and_then(|found| found.default_policy_id),
        Assignee::Group(id) => groups::get(tx, organization, id)?.and_then(|found| found.policy_id),
        Assignee::User(id) => users::get(tx, organization, id)?.and_then(|found| found.policy_id),
        Assignee::Device(id) => devices::get(tx, organization, id)?.and_then(|found| found.policy_id),
    })
}

/// Assigns the policy, or none, to whatever it is. One that is gone needs none.
pub(super) fn set(
    tx: &mut Tx,
    organization: OrganizationId,
    assignee: Assignee,
    policy: Option<PolicyId>,
) -> Result<(), Error> {
    let now = tx.now();
    match assignee {
        Assignee::Organization => {
            if let Some(mut found) = organizations::get(tx, organization)? {
                found.default_policy_id = policy;
                (found.updated_at, found.revision) = (now, found.revision + 1);
                organizations::put(tx, found)?;
            }
        }
        Assignee::Group(id) => {
            if let Some(mut found) = groups::get(tx, organization, id)? {
                found.policy_id = policy;
                (found.updated_at, found.revision) = (now, found.revision + 1);
                groups::put(tx, found)?;
            }
        }
        Assignee::User(id) => {
            if let Some(mut found) = users::get(tx, organization, id)? {
                found.policy_id = policy;
                super::accounts::touch(tx, &mut found);
                users::put(tx, found)?;
            }
        }
        Assignee::Device(id) => {
            if let Some(mut found) = devices::get(tx, organization, id)? {
                found.policy_id = policy;
                super::devices::save(tx, &mut found)?;
            }
        }
    }
    Ok(())
}
