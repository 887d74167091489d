//! The organization's users: who is made, changed and deleted, and by whom.

mod groups;
pub mod import;
mod list;
mod support;

use serde::{Deserialize, Serialize};

pub use list::{UserFilter, UserSort, UserSortKey};

use super::accounts::{Person, check_email, touch};
use super::authz::{Permission, grantable_role};
use super::links::{self, IssuedLink};
use super::op::{Op, Principal};
use super::passwords::Passwords;
use super::{Services, devices};
use crate::error::{Error, FieldError};
use crate::ids::{OrganizationId, UserId};
use crate::model::link::Purpose;
use crate::model::role::RoleRef;
use crate::model::user::{User, UserStatus};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{self, enrollment_tokens, roles, sessions, users};

/// What a user is made of or becomes.
#[derive(Clone, Debug)]
pub struct UserInput {
    pub name: String,
    pub email: String,
    /// A role's name.
    pub role: String,
    /// Ids or names; `None` leaves them as they are.
    pub groups: Option<Vec<String>>,
    pub password: Option<String>,
}

impl UserInput {
    fn check(&self) -> Result<(), Error> {
        let mut errors: Vec<FieldError> = [check_name("name", &self.name), check_email("email", &self.email)]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        errors.extend(self.password.iter().filter_map(|password| Passwords::check("password", password).err()));
        if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
    }
}

/// A name is any text of up to 200 characters that shows.
fn check_name(field: &str, name: &str) -> Result<(), FieldError> {
    if name.trim().is_empty() || name.chars().count() > 200 {
        return Err(FieldError::new(field, "must have 1 to 200 characters, not only blanks"));
    }
    Ok(())
}

/// A new user, and without a password the invitation to choose one.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct NewUser {
    pub user: User,
    pub invitation: Option<IssuedLink>,
}

impl Services {
    /// Users see others only with the permission; without it they see themselves.
    pub fn user(&self, op: &Op, id: UserId) -> Result<Person, Error> {
        if !op.may(Permission::UsersView) && !is_self(op, id) {
            return Err(Error::NotFound("user"));
        }
        let user = find(&self.store.snapshot()?, op.organization_id()?, id)?;
        Ok(self.person(user))
    }

    pub async fn create_user(&self, op: &Op, new: UserInput) -> Result<(Person, Option<IssuedLink>), Error> {
        new.check()?;
        let hash = self.hash_of(new.password.as_deref()).await?;
        let by = op.clone();
        let organization = op.organization_id()?;
        let made = self.store.write(op.stamp(), move |tx| {
            let role = grantable_role(tx, &by, organization, &new.role)?;
            let groups = groups::named(tx, organization, new.groups.as_deref().unwrap_or_default())?;
            let made = make(tx, organization, &new.name, &new.email, role, hash.clone())?;
            groups::set(tx, &made.user, &groups)?;
            let event = AuditEvent::new("user.create").on("user", made.user.id, &new.name);
            let event = event.detail("role", new.role.as_str()).detail("status", made.user.status.as_str());
            let event = event.detail("groups", groups::names(tx, organization, &groups)?);
            Ok(Audited::new(made, event))
        });
        let NewUser { user, invitation } = made.await?;
        Ok((self.person(user), invitation))
    }

    pub async fn change_user(
        &self,
        op: &Op,
        id: UserId,
        to: UserInput,
        revision: Option<u64>,
    ) -> Result<Person, Error> {
        to.check()?;
        if to.password.is_some() && is_self(op, id) {
            return Err(Error::field("password", "of your own is changed with POST /auth/password"));
        }
        let hash = self.hash_of(to.password.as_deref()).await?;
        let by = op.clone();
        let change = move |tx: &mut Tx| change(tx, &by, id, &to, hash.as_deref(), revision);
        Ok(self.person(self.store.write(op.stamp(), change).await?))
    }

    pub async fn delete_user(&self, op: &Op, id: UserId, revision: Option<u64>) -> Result<(), Error> {
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let user = target(tx, &by, id)?;
                if revision.is_some_and(|revision| revision != user.revision) {
                    return Err(Error::Stale);
                }
                forget(tx, &user)
            })
            .await
    }

    async fn hash_of(&self, password: Option<&str>) -> Result<Option<String>, Error> {
        match password {
            Some(password) => self.passwords.hash(password).await.map(Some),
            None => Ok(None),
        }
    }
}

pub(super) fn find(from: &impl Read, organization: OrganizationId, id: UserId) -> Result<User, Error> {
    users::get(from, organization, id)?.ok_or(Error::NotFound("user"))
}

/// The user, when whoever asks may act on them.
fn target(from: &impl Read, op: &Op, id: UserId) -> Result<User, Error> {
    let user = find(from, op.organization_id()?, id)?;
    op.may_act_on(from, &user)?;
    Ok(user)
}

fn is_self(op: &Op, id: UserId) -> bool {
    matches!(&op.principal, Principal::User(me) if me.id == id)
}

/// Stores a new user: active with a password, invited without one.
pub(super) fn make(
    tx: &mut Tx,
    organization_id: OrganizationId,
    name: &str,
    email: &str,
    role: RoleRef,
    password_hash: Option<String>,
) -> Result<NewUser, Error> {
    let now = tx.now();
    let user = User {
        id: tx.new_id(),
        organization_id,
        email: email.into(),
        name: name.into(),
        role,
        status: if password_hash.is_some() { UserStatus::Active } else { UserStatus::Pending },
        password_hash,
        policy_id: None,
        last_login: None,
        created_at: now,
        updated_at: now,
        revision: 1,
    };
    users::put(tx, user.clone())?;
    let invitation = match user.status {
        UserStatus::Pending => Some(links::issue(tx, &user, Purpose::Invitation)?),
        UserStatus::Active | UserStatus::Suspended => None,
    };
    Ok(NewUser { user, invitation })
}

fn change(
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
        sessions::end_all(tx, id)?;
    }
    // A link that went to an address by mistake, or that asks for a password that is there now, is no good any more.
    if password_hash.is_some() || users::folded(&before.email) != users::folded(&to.email) {
        store::links::end(tx, organization, id)?;
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

/// Removes the user and all that is theirs, in an order that leaves nothing behind that names a user who is gone.
/// Whatever is stored for a user from now on is removed here too.
pub(super) fn forget(tx: &mut Tx, user: &User) -> Result<Audited<()>, Error> {
    let (organization, id) = (user.organization_id, user.id);
    let event = AuditEvent::new("user.delete").on("user", id, &user.name).of(organization);
    let owned = store::devices::of_user(tx, organization, id)?;
    let mut all = Audited::new((), event.detail("email", user.email.as_str()).detail("devices", owned.len()));
    for device in owned {
        let device = devices::find(tx, organization, device)?;
        all = all.with(devices::delete(tx, device)?);
    }
    for token in enrollment_tokens::of_user(tx, organization, id)? {
        enrollment_tokens::delete(tx, &token)?;
        let event = AuditEvent::new("enrollment_token.delete").of(organization);
        all = all.and(event.on("enrollment_token", token.id, &token.name));
    }
    sessions::end_all(tx, id)?;
    store::links::end(tx, organization, id)?;
    groups::set(tx, user, &groups::Groups::new())?;
    users::delete(tx, user)?;
    Ok(all)
}
