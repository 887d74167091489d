use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{KeyRange, ROLES, ROLES_BY_NAME, USERS_BY_ROLE};
use super::users::folded;
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, RoleId};
use crate::model::role::{CustomRole, Permissions, Role, RoleRef};

pub fn get(from: &impl Read, organization: OrganizationId, id: RoleId) -> Result<Option<CustomRole>, Error> {
    ROLES.get(from, &(organization, id))
}

/// The role of that name, built-in or the organization's own.
pub fn by_name(from: &impl Read, organization: OrganizationId, name: &str) -> Result<Option<RoleRef>, Error> {
    match Role::parse(name) {
        Some(role) => Ok(Some(RoleRef::BuiltIn(role))),
        None => Ok(ROLES_BY_NAME.get(from, &(organization, folded(name)))?.map(RoleRef::Custom)),
    }
}

/// What its holders may do; nothing for a role that is gone.
pub fn permissions(from: &impl Read, organization: OrganizationId, role: RoleRef) -> Result<Permissions, Error> {
    match role {
        RoleRef::BuiltIn(role) => Ok(role.permissions()),
        RoleRef::Custom(id) => Ok(get(from, organization, id)?.map_or(Permissions::NONE, |role| role.permissions)),
    }
}

/// Stores a role, new or changed; a conflict when its name is taken.
pub fn put(tx: &mut Tx, role: CustomRole) -> Result<(), Error> {
    let (organization, name) = (role.organization_id, folded(&role.name));
    let before = get(tx, organization, role.id)?;
    if before.is_none() {
        tx.require_space()?;
    }
    let taken = ROLES_BY_NAME.get(tx, &(organization, name.clone()))?.is_some_and(|id| id != role.id);
    if taken || Role::ALL.iter().any(|built_in| folded(built_in.as_str()) == name) {
        return Err(Error::Conflict(format!("there is a role {:?} already", role.name)));
    }
    if let Some(old) = before.map(|role| folded(&role.name)).filter(|old| *old != name) {
        tx.delete(ROLES_BY_NAME, &(organization, old))?;
    }
    tx.put(ROLES_BY_NAME, &(organization, name), &role.id)?;
    tx.put(ROLES, &(organization, role.id), &role)?;
    tx.effect(Effect::Role(role));
    Ok(())
}

pub fn delete(tx: &mut Tx, role: &CustomRole) -> Result<(), Error> {
    tx.delete(ROLES_BY_NAME, &(role.organization_id, folded(&role.name)))?;
    tx.delete(ROLES, &(role.organization_id, role.id))?;
    tx.effect(Effect::RoleGone(role.id));
    Ok(())
}

/// How many users have the role.
pub fn holders(from: &impl Read, organization: OrganizationId, id: RoleId) -> Result<u64, Error> {
    let mut count = 0;
    USERS_BY_ROLE.scan(from, KeyRange::prefix(&(organization, id)), Direction::Ascending, |_, ()| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// All of the organization's own roles, oldest first: their number is bounded where they are made.
pub fn all(from: &impl Read, organization: OrganizationId) -> Result<Vec<CustomRole>, Error> {
    let mut found = Vec::new();
    ROLES.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, role| {
        found.push(role);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
