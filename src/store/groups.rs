use std::ops::ControlFlow;

use super::assignments::{self, Assignee};
use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{GROUPS, GROUPS_BY_NAME, GROUPS_OF_USER, KeyRange, MEMBERS};
use super::users::folded;
use super::write::Tx;
use crate::error::Error;
use crate::ids::{GroupId, OrganizationId, UserId};
use crate::model::group::Group;

pub fn get(from: &impl Read, organization: OrganizationId, id: GroupId) -> Result<Option<Group>, Error> {
    GROUPS.get(from, &(organization, id))
}

pub fn by_name(from: &impl Read, organization: OrganizationId, name: &str) -> Result<Option<Group>, Error> {
    match GROUPS_BY_NAME.get(from, &(organization, folded(name)))? {
        Some(id) => get(from, organization, id),
        None => Ok(None),
    }
}

/// Stores a group, new or changed; a conflict when its name is taken.
pub fn put(tx: &mut Tx, group: Group) -> Result<(), Error> {
    let (organization, name) = (group.organization_id, folded(&group.name));
    let before = get(tx, organization, group.id)?;
    if before.is_none() {
        tx.require_space()?;
    }
    if GROUPS_BY_NAME.get(tx, &(organization, name.clone()))?.is_some_and(|id| id != group.id) {
        return Err(Error::Conflict(format!("there is a group {:?} already", group.name)));
    }
    let assigned = before.as_ref().and_then(|group| group.policy_id);
    assignments::follow(tx, organization, Assignee::Group(group.id), assigned, group.policy_id)?;
    if let Some(old) = before.map(|group| folded(&group.name)).filter(|old| *old != name) {
        tx.delete(GROUPS_BY_NAME, &(organization, old))?;
    }
    tx.put(GROUPS_BY_NAME, &(organization, name), &group.id)?;
    tx.put(GROUPS, &(organization, group.id), &group)?;
    tx.effect(Effect::Group(group));
    Ok(())
}

/// Removes the group; whoever was in it no longer is.
pub fn delete(tx: &mut Tx, group: &Group) -> Result<(), Error> {
    for user in members(tx, group.organization_id, group.id)? {
        leave(tx, group.organization_id, group.id, user)?;
    }
    tx.delete(GROUPS_BY_NAME, &(group.organization_id, folded(&group.name)))?;
    assignments::follow(tx, group.organization_id, Assignee::Group(group.id), group.policy_id, None)?;
    tx.delete(GROUPS, &(group.organization_id, group.id))?;
    tx.effect(Effect::GroupGone(group.id));
    Ok(())
}

/// Who is in the group directly, oldest first.
pub fn members(from: &impl Read, organization: OrganizationId, group: GroupId) -> Result<Vec<UserId>, Error> {
    let mut found = Vec::new();
    MEMBERS.scan(from, KeyRange::prefix(&(organization, group)), Direction::Ascending, |(_, _, user), ()| {
        found.push(user);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The groups that the user is in directly, oldest first.
pub fn of_user(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Vec<GroupId>, Error> {
    let mut found = Vec::new();
    GROUPS_OF_USER.scan(from, KeyRange::prefix(&(organization, user)), Direction::Ascending, |(_, _, group), ()| {
        found.push(group);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

pub fn join(tx: &mut Tx, organization: OrganizationId, group: GroupId, user: UserId) -> Result<(), Error> {
    tx.put(MEMBERS, &(organization, group, user), &())?;
    tx.put(GROUPS_OF_USER, &(organization, user, group), &())?;
    tx.effect(Effect::Joined(group, user));
    Ok(())
}

pub fn leave(tx: &mut Tx, organization: OrganizationId, group: GroupId, user: UserId) -> Result<(), Error> {
    tx.delete(MEMBERS, &(organization, group, user))?;
    tx.delete(GROUPS_OF_USER, &(organization, user, group))?;
    tx.effect(Effect::Left(group, user));
    Ok(())
}
