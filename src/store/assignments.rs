//! What each policy is assigned to, so that none is deleted from under anything.

use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::tables::{ASSIGNMENTS, Key, KeyRange};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{DeviceId, GroupId, OrganizationId, PolicyId, UserId};

/// What a policy can be assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignee {
    /// The organization: its default.
    Organization,
    Group(GroupId),
    User(UserId),
    Device(DeviceId),
}

impl Key for Assignee {
    fn write(&self, to: &mut Vec<u8>) {
        let (kind, id) = match self {
            Self::Organization => (0, &[][..]),
            Self::Group(id) => (1, &id.as_bytes()[..]),
            Self::User(id) => (2, &id.as_bytes()[..]),
            Self::Device(id) => (3, &id.as_bytes()[..]),
        };
        to.push(kind);
        to.extend_from_slice(id);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let (kind, rest) = from.split_first()?;
        *from = rest;
        match kind {
            0 => Some(Self::Organization),
            1 => GroupId::read(from).map(Self::Group),
            2 => UserId::read(from).map(Self::User),
            3 => DeviceId::read(from).map(Self::Device),
            _ => None,
        }
    }
}

/// Follows a change of what is assigned to `assignee`. Whoever stores an assignee's record calls this with it.
pub(super) fn follow(
    tx: &mut Tx,
    organization: OrganizationId,
    assignee: Assignee,
    before: Option<PolicyId>,
    after: Option<PolicyId>,
) -> Result<(), Error> {
    if before == after {
        return Ok(());
    }
    if let Some(policy) = before {
        tx.delete(ASSIGNMENTS, &(organization, policy, assignee))?;
    }
    if let Some(policy) = after {
        tx.put(ASSIGNMENTS, &(organization, policy, assignee), &())?;
    }
    Ok(())
}

/// What the policy is assigned to: the default first, then groups, users and devices.
pub fn of(from: &impl Read, organization: OrganizationId, policy: PolicyId) -> Result<Vec<Assignee>, Error> {
    let mut found = Vec::new();
    let range = KeyRange::prefix(&(organization, policy));
    ASSIGNMENTS.scan(from, range, Direction::Ascending, |(_, _, assignee), ()| {
        found.push(assignee);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
