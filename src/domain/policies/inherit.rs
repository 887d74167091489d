//! Policies over policies.

use crate::error::{Error, FieldError};
use crate::ids::{OrganizationId, PolicyId};
use crate::model::policy::{Over, PolicyContent, PolicyData};
use crate::store::engine::Read;
use crate::store::policies;

/// Policies over each other, at most.
const MAX_CHAIN: usize = 16;

/// Refuses, in the name of `field`, a base for the policy `id` that does not exist, that leads back to the policy, or
/// that makes too long a chain.
pub(super) fn check_base(
    from: &impl Read,
    organization: OrganizationId,
    (id, name): (PolicyId, &str),
    base: PolicyId,
    field: &str,
) -> Result<(), Error> {
    let above = height(from, organization, id)?;
    let mut names = vec![name.to_owned()];
    let mut next = Some(base);
    while let Some(at) = next {
        if at == id {
            names.push(name.into());
            return Err(Error::field(field, format!("makes a cycle: {}", names.join(" → "))));
        }
        let policy = policies::get(from, organization, at)?.ok_or_else(|| Error::field(field, "names no policy"))?;
        names.push(policy.content.name);
        if names.len() + above > MAX_CHAIN {
            return Err(Error::field(field, format!("makes a chain of more than {MAX_CHAIN} policies")));
        }
        next = policy.content.extends;
    }
    Ok(())
}

/// Refuses content for the policy `id` that cannot hold together with what it extends, or that makes a policy which
/// extends it contradict itself. The base has been checked.
pub(super) fn check_settings(
    from: &impl Read,
    organization: OrganizationId,
    id: PolicyId,
    content: &PolicyContent,
) -> Result<(), Error> {
    let mut names = vec![format!("{:?}", content.name)];
    let (mut whole, mut next) = (content.policy_data.clone(), content.extends);
    while let Some(base) = next {
        let base =
            policies::get(from, organization, base)?.ok_or_else(|| Error::field("extends", "names no policy"))?;
        whole = whole.over(base.content.policy_data);
        names.push(format!("{:?}", base.content.name));
        next = base.content.extends;
    }
    let found = whole.contradictions(false);
    if !found.is_empty() {
        let whose = format!(" in {}", names.join(" over "));
        return Err(Error::Invalid(found.into_iter().map(|error| with(error, "", &whose)).collect()));
    }
    let mut near: Vec<(PolicyId, PolicyData)> = vec![(id, whole)];
    while let Some((base, below)) = near.pop() {
        for id in policies::extending(from, organization, base)? {
            let Some(policy) = policies::get(from, organization, id)? else { continue };
            let whole = policy.content.policy_data.over(below.clone());
            let found = whole.contradictions(false);
            if !found.is_empty() {
                let whose = format!("of the policy {:?}, which extends this one, ", policy.content.name);
                return Err(Error::Invalid(found.into_iter().map(|error| with(error, &whose, "")).collect()));
            }
            near.push((id, whole));
        }
    }
    Ok(())
}

fn with(FieldError { field, message }: FieldError, before: &str, after: &str) -> FieldError {
    FieldError { field, message: format!("{before}{message}{after}") }
}

/// How many policies lie over this one, in the longest chain. There are no cycles to follow: none is ever stored.
fn height(from: &impl Read, organization: OrganizationId, id: PolicyId) -> Result<usize, Error> {
    let (mut height, mut level) = (0, vec![id]);
    loop {
        let mut above = Vec::new();
        for policy in level {
            above.extend(policies::extending(from, organization, policy)?);
        }
        if above.is_empty() {
            return Ok(height);
        }
        (height, level) = (height + 1, above);
    }
}
