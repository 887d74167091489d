//! Policies over policies.

use crate::error::Error;
use crate::ids::{OrganizationId, PolicyId};
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
