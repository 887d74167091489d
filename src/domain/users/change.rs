//! What becomes of a user.

use super::{UserInput, groups, is_self, target};
use crate::domain::accounts::touch;
use crate::domain::authz::grantable_role;
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::UserId;
use crate::model::user::{User, UserStatus};
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{links, roles, sessions, users};

/// Makes the user what `to` says; nothing is said of what stays as it is.
pub(super) fn change(
    tx: &mut Tx,
    op: &Op,
    id: UserId,
    to: &UserInput,
    password_hash: Option<&str>,
    revision: Option<u64>,
) -> Result<Audited<User>, Error> {
    let before = target(tx, op, id)?;
    if revision.is_some_and(|revision| revision != before.revision) {
        return Err(Error::Stale);
    }
    let organization = before.organization_id;
    let role = grantable_role(tx, op, organization, &to.role)?;
    let is_promoted = role != before.role;
    let was_in = groups::of(tx, &before)?;
    let groups = match &to.groups {
        Some(names) => groups::named(tx, organization, names)?,
        None => was_in.clone(),
    };
    let mut changes: Vec<(&str, String)> = Vec::new();
    let mut note = |what, old: &str, new: &str| {
        if old != new {
            changes.push((what, format!("{old} → {new}")));
        }
    };
    note("name", &before.name, &to.name);
    note("email", &before.email, &to.email);
    if is_promoted {
        note("role", &roles::name(tx, organization, before.role)?, &to.role);
    }
    let (old, new) = (groups::names(tx, organization, &was_in)?, groups::names(tx, organization, &groups)?);
    note("groups", &old, &new);
    if password_hash.is_some() {
        changes.push(("password", "set".into()));
    }
    if changes.is_empty() {
        return Ok(Audited::without_entry(before, Unaudited::Unchanged));
    }
    let mut user = User { name: to.name.clone(), email: to.email.clone(), role, ..before.clone() };
    if let Some(hash) = password_hash {
        user.password_hash = Some(hash.into());
        if user.status == UserStatus::Pending {
            user.status = UserStatus::Active;
        }
        sessions::end_all(tx, organization, id)?;
    }
    // A link that went to an address by mistake, or that asks for a password that is there now, is no good any more.
    if password_hash.is_some() || users::folded(&before.email) != users::folded(&to.email) {
        links::end(tx, organization, id)?;
    }
    touch(tx, &mut user);
    users::put(tx, user.clone())?;
    groups::set(tx, &user, &groups)?;
    // After the change itself, so that the last super admin hears of that first.
    if is_promoted && is_self(op, id) {
        return Err(Error::Forbidden("you cannot change your own role".into()));
    }
    let event = AuditEvent::new(if is_promoted { "user.role.change" } else { "user.update" });
    let event = event.on("user", id, &user.name);
    let event = changes.into_iter().fold(event, |event, (what, change)| event.detail(what, change));
    Ok(Audited::new(user, event))
}
