//! Where policies are assigned.

use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::tables::{DEVICES, GROUPS, KeyRange, ORGANIZATIONS, USERS};
use crate::error::Error;
use crate::ids::{DeviceId, GroupId, OrganizationId, PolicyId, UserId};

pub fn groups(from: &impl Read, organization: OrganizationId, policy: PolicyId) -> Result<Vec<GroupId>, Error> {
    let mut found = Vec::new();
    GROUPS.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |(_, id), group| {
        found.extend((group.policy_id == Some(policy)).then_some(id));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

pub fn users(from: &impl Read, organization: OrganizationId, policy: PolicyId) -> Result<Vec<UserId>, Error> {
    let mut found = Vec::new();
    USERS.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |(_, id), user| {
        found.extend((user.policy_id == Some(policy)).then_some(id));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

pub fn devices(from: &impl Read, organization: OrganizationId, policy: PolicyId) -> Result<Vec<DeviceId>, Error> {
    let mut found = Vec::new();
    DEVICES.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |(_, id), device| {
        found.extend((device.policy_id == Some(policy)).then_some(id));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Whether the policy is that of every device for which nothing nearer is assigned.
pub fn is_default(from: &impl Read, organization: OrganizationId, policy: PolicyId) -> Result<bool, Error> {
    let organization = ORGANIZATIONS.get(from, &organization)?;
    Ok(organization.is_some_and(|organization| organization.default_policy_id == Some(policy)))
}
