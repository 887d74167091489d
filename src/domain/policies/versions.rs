//! What a policy said before, and going back to it.

use super::diff::{self, Change};
use super::{checked, find, replace, require_version};
use crate::domain::Services;
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::PolicyId;
use crate::model::policy::{Policy, PolicyVersion};
use crate::store::policies;
use crate::store::write::Tx;

/// A version beside the one before it.
pub struct Compared {
    pub version: PolicyVersion,
    /// None for the first version.
    pub changes: Vec<Change>,
}

impl Services {
    /// Newest first; long values are left out of the changes.
    pub fn policy_versions(
        &self,
        op: &Op,
        id: PolicyId,
        offset: u64,
        limit: usize,
    ) -> Result<(u64, Vec<Compared>), Error> {
        let (snapshot, organization) = (self.store.snapshot()?, op.organization_id()?);
        find(&snapshot, organization, id)?;
        // One more, for the last on the page to be compared with.
        let (total, found) = policies::versions(&snapshot, organization, id, offset, limit + 1)?;
        let mut compared = Vec::new();
        let mut found = found.into_iter().peekable();
        while let Some(version) = found.next().filter(|_| compared.len() < limit) {
            let mut next = compare(version, found.peek())?;
            next.changes = next.changes.into_iter().map(Change::brief).collect();
            compared.push(next);
        }
        Ok((total, compared))
    }

    pub fn policy_version(&self, op: &Op, id: PolicyId, version: u64) -> Result<Compared, Error> {
        let (snapshot, organization) = (self.store.snapshot()?, op.organization_id()?);
        let found = policies::version(&snapshot, organization, id, version)?.ok_or(Error::NotFound("version"))?;
        compare(found, policies::version(&snapshot, organization, id, version.saturating_sub(1))?.as_ref())
    }

    /// Makes the policy say again what it said as `to`; a new version unless it does already.
    pub async fn roll_back_policy(
        &self,
        op: &Op,
        id: PolicyId,
        to: u64,
        version: Option<u64>,
    ) -> Result<Policy, Error> {
        let organization = op.organization_id()?;
        let old = {
            let snapshot = self.store.snapshot()?;
            find(&snapshot, organization, id)?;
            policies::version(&snapshot, organization, id, to)?
        };
        let old = old.ok_or_else(|| Error::field("version", "names no version of this policy"))?;
        // A version never changes, but what is asked of one may have become stricter.
        let content = checked(old.content).await?;
        let change = move |tx: &mut Tx| {
            let policy = find(tx, organization, id)?;
            require_version(&policy, version)?;
            replace(tx, policy, content.clone(), Some(format!("rollback to {to}")))
        };
        self.store.write(op.stamp(), change).await
    }
}

fn compare(version: PolicyVersion, before: Option<&PolicyVersion>) -> Result<Compared, Error> {
    let changes = match before {
        Some(before) => diff::changes(&before.content, &version.content)?,
        None => Vec::new(),
    };
    Ok(Compared { version, changes })
}
