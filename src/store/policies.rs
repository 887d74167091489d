use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{KeyRange, POLICIES, POLICIES_BY_BASE, POLICIES_BY_NAME, POLICY_VERSIONS};
use super::users::folded;
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, PolicyId};
use crate::model::policy::{Policy, PolicyVersion};

pub fn get(from: &impl Read, organization: OrganizationId, id: PolicyId) -> Result<Option<Policy>, Error> {
    POLICIES.get(from, &(organization, id))
}

/// Stores a policy, new or changed, and the version that it is now; a conflict when its name is taken.
pub fn put(tx: &mut Tx, policy: Policy, note: Option<String>) -> Result<(), Error> {
    tx.require_space()?;
    let (organization, name) = (policy.organization_id, folded(&policy.content.name));
    if POLICIES_BY_NAME.get(tx, &(organization, name.clone()))?.is_some_and(|id| id != policy.id) {
        return Err(Error::Conflict(format!("there is a policy {:?} already", policy.content.name)));
    }
    let before = get(tx, organization, policy.id)?;
    if let Some(before) = &before {
        let old = folded(&before.content.name);
        if old != name {
            tx.delete(POLICIES_BY_NAME, &(organization, old))?;
        }
        if before.content.extends != policy.content.extends {
            leave_base(tx, before)?;
        }
    }
    tx.put(POLICIES_BY_NAME, &(organization, name), &policy.id)?;
    if let Some(base) = policy.content.extends {
        tx.put(POLICIES_BY_BASE, &(organization, base, policy.id), &())?;
    }
    let version = PolicyVersion {
        version: policy.version,
        content: policy.content.clone(),
        author: tx.stamp().actor.clone(),
        created_at: policy.updated_at,
        note,
    };
    tx.put(POLICY_VERSIONS, &(organization, policy.id, policy.version), &version)?;
    tx.put(POLICIES, &(organization, policy.id), &policy)?;
    tx.effect(Effect::Policy(Box::new(policy)));
    Ok(())
}

/// Removes the policy with its versions. Nothing may name it any more.
pub fn delete(tx: &mut Tx, policy: &Policy) -> Result<(), Error> {
    let (organization, id) = (policy.organization_id, policy.id);
    // Versions count from 1 without gaps.
    for version in 1..=policy.version {
        tx.delete(POLICY_VERSIONS, &(organization, id, version))?;
    }
    leave_base(tx, policy)?;
    tx.delete(POLICIES_BY_NAME, &(organization, folded(&policy.content.name)))?;
    tx.delete(POLICIES, &(organization, id))?;
    tx.effect(Effect::PolicyGone(id));
    Ok(())
}

fn leave_base(tx: &mut Tx, policy: &Policy) -> Result<(), Error> {
    if let Some(base) = policy.content.extends {
        tx.delete(POLICIES_BY_BASE, &(policy.organization_id, base, policy.id))?;
    }
    Ok(())
}

/// The policies that extend this one directly, oldest first.
pub fn extending(from: &impl Read, organization: OrganizationId, base: PolicyId) -> Result<Vec<PolicyId>, Error> {
    let mut found = Vec::new();
    let range = KeyRange::prefix(&(organization, base));
    POLICIES_BY_BASE.scan(from, range, Direction::Ascending, |(_, _, policy), ()| {
        found.push(policy);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

pub fn count(from: &impl Read, organization: OrganizationId) -> Result<usize, Error> {
    let mut count = 0;
    POLICIES_BY_NAME.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

pub fn version(
    from: &impl Read,
    organization: OrganizationId,
    id: PolicyId,
    version: u64,
) -> Result<Option<PolicyVersion>, Error> {
    POLICY_VERSIONS.get(from, &(organization, id, version))
}

/// Newest first: the number of versions, and the part from `offset` on.
pub fn versions(
    from: &impl Read,
    organization: OrganizationId,
    id: PolicyId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<PolicyVersion>), Error> {
    POLICY_VERSIONS.page(from, KeyRange::prefix(&(organization, id)), Direction::Descending, offset, limit)
}
