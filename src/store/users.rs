use std::collections::HashSet;
use std::ops::ControlFlow;

use unicode_normalization::UnicodeNormalization;

use super::assignments::{self, Assignee};
use super::engine::{Direction, Read};
use super::memory::Effect;
use super::roles::permissions;
use super::tables::{KeyRange, SUPER_ADMINS, USERS, USERS_BY_EMAIL, USERS_BY_ROLE};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, UserId};
use crate::model::device::Device;
use crate::model::role::{Permissions, RoleRef};
use crate::model::user::{User, UserStatus};

pub fn get(from: &impl Read, organization: OrganizationId, id: UserId) -> Result<Option<User>, Error> {
    USERS.get(from, &(organization, id))
}

pub fn exists(from: &impl Read, organization: OrganizationId, id: UserId) -> Result<bool, Error> {
    USERS.contains(from, &(organization, id))
}

/// The device's owner.
pub fn of_device(from: &impl Read, device: &Device) -> Result<Option<User>, Error> {
    device.user_id.map_or(Ok(None), |user| get(from, device.organization_id, user))
}

/// What any of the organization's users may do.
pub fn permissions_held(from: &impl Read, organization: OrganizationId) -> Result<Permissions, Error> {
    let mut roles = HashSet::new();
    USERS.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, user| {
        roles.insert(user.role);
        ControlFlow::Continue(())
    })?;
    roles.into_iter().try_fold(Permissions::NONE, |held, role| Ok(held | permissions(from, organization, role)?))
}

pub fn by_email(from: &impl Read, email: &str) -> Result<Option<User>, Error> {
    match USERS_BY_EMAIL.get(from, &folded(email))? {
        Some(key) => USERS.get(from, &key),
        None => Ok(None),
    }
}

/// Stores a user, new or changed; a conflict when the e-mail is taken, or when it would leave the appliance without
/// anyone who may do everything.
pub fn put(tx: &mut Tx, user: User) -> Result<(), Error> {
    let key = (user.organization_id, user.id);
    let before = USERS.get(tx, &key)?;
    if before.is_none() {
        tx.require_space()?;
    }
    let email = folded(&user.email);
    if USERS_BY_EMAIL.get(tx, &email)?.is_some_and(|owner| owner != key) {
        return Err(Error::Conflict(format!("the e-mail {} is taken", user.email)));
    }
    let old = before.as_ref().map(|user| folded(&user.email));
    if old.as_ref() != Some(&email) {
        if let Some(old) = old {
            tx.delete(USERS_BY_EMAIL, &old)?;
        }
        tx.put(USERS_BY_EMAIL, &email, &key)?;
    }
    if before.as_ref().map(|user| user.role) != Some(user.role) {
        if let Some(before) = &before {
            leave_role(tx, before)?;
        }
        if let RoleRef::Custom(role) = user.role {
            tx.put(USERS_BY_ROLE, &(user.organization_id, role, user.id), &())?;
        }
    }
    let assigned = before.as_ref().and_then(|user| user.policy_id);
    assignments::follow(tx, user.organization_id, Assignee::User(user.id), assigned, user.policy_id)?;
    tx.put(USERS, &key, &user)?;
    match (before.is_some_and(|user| is_super_admin(&user)), is_super_admin(&user)) {
        (false, true) => tx.put(SUPER_ADMINS, &key, &())?,
        (true, false) => leave_super_admins(tx, &key)?,
        _ => {}
    }
    tx.effect(Effect::User(user));
    Ok(())
}

/// Removes the user's row and what finds it; a conflict for the last super admin. What hangs on a user (devices,
/// sessions, keys, memberships) goes before it.
pub fn delete(tx: &mut Tx, user: &User) -> Result<(), Error> {
    let key = (user.organization_id, user.id);
    tx.delete(USERS_BY_EMAIL, &folded(&user.email))?;
    leave_role(tx, user)?;
    assignments::follow(tx, user.organization_id, Assignee::User(user.id), user.policy_id, None)?;
    tx.delete(USERS, &key)?;
    if is_super_admin(user) {
        leave_super_admins(tx, &key)?;
    }
    tx.effect(Effect::UserGone(user.id));
    Ok(())
}

/// Whether anybody may do everything: an active super admin, of whichever organization.
pub fn has_super_admin(from: &impl Read) -> Result<bool, Error> {
    let mut is_there = false;
    SUPER_ADMINS.scan(from, KeyRange::all(), Direction::Ascending, |_, ()| {
        is_there = true;
        ControlFlow::Break(())
    })?;
    Ok(is_there)
}

/// The form in which e-mails and names compare: without regard to case and to how Unicode writes them (NFKC).
pub fn folded(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

fn is_super_admin(user: &User) -> bool {
    user.role == RoleRef::SUPER_ADMIN && user.status == UserStatus::Active
}

fn leave_role(tx: &mut Tx, user: &User) -> Result<(), Error> {
    if let RoleRef::Custom(role) = user.role {
        tx.delete(USERS_BY_ROLE, &(user.organization_id, role, user.id))?;
    }
    Ok(())
}

/// Whatever takes an active super admin away comes through here, so no way of doing it can take the last.
fn leave_super_admins(tx: &mut Tx, key: &(OrganizationId, UserId)) -> Result<(), Error> {
    tx.delete(SUPER_ADMINS, key)?;
    require_super_admin(tx)
}

/// A conflict when no active super admin is left.
pub(super) fn require_super_admin(from: &impl Read) -> Result<(), Error> {
    if has_super_admin(from)? {
        return Ok(());
    }
    Err(Error::Conflict("this is the last active super admin: make another one first".into()))
}
