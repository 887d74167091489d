//! The organization's users: who is made, changed and deleted, and by whom.

mod change;
mod groups;
pub mod import;
mod list;
mod support;

use serde::{Deserialize, Serialize};

pub use list::{UserFilter, UserSort, UserSortKey};

use super::accounts::{Person, check_email};
use super::authz::{Permission, grantable_role};
use super::links::{self, Delivery, IssuedLink};
use super::op::{Op, Principal};
use super::passwords::Passwords;
use super::{Services, devices, names};
use crate::error::{Error, FieldError};
use crate::ids::{OrganizationId, UserId};
use crate::model::gdpr::Privacy;
use crate::model::link::Purpose;
use crate::model::mfa::Mfa;
use crate::model::role::RoleRef;
use crate::model::user::{User, UserStatus};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Tx};
use crate::store::{self, enrollment_tokens, sessions, users};

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
        let mut errors: Vec<FieldError> = [names::check("name", &self.name), check_email("email", &self.email)]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        errors.extend(self.password.iter().filter_map(|password| Passwords::check("password", password).err()));
        if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
    }
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
        let (by, delivery) = (op.clone(), self.delivery());
        let organization = op.organization_id()?;
        let made = self.store.write(op.stamp(), move |tx| {
            let role = grantable_role(tx, &by, organization, &new.role)?;
            let groups = groups::named(tx, organization, new.groups.as_deref().unwrap_or_default())?;
            let made = make(tx, organization, &new.name, &new.email, role, hash.clone(), delivery)?;
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
        let change = move |tx: &mut Tx| change::change(tx, &by, id, &to, hash.as_deref(), revision);
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

pub(super) fn is_self(op: &Op, id: UserId) -> bool {
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
    delivery: Delivery,
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
        privacy: Privacy::default(),
        mfa: Mfa::default(),
        last_login: None,
        created_at: now,
        updated_at: now,
        revision: 1,
    };
    users::put(tx, user.clone())?;
    let invitation = match user.status {
        UserStatus::Pending => Some(links::issue(tx, &user, Purpose::Invitation, delivery)?),
        UserStatus::Active | UserStatus::Suspended => None,
    };
    Ok(NewUser { user, invitation })
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
        all = all.and(event.on("enrollment_token", token.id, &token.name).about(token.user_id));
    }
    remove(tx, user)?;
    Ok(all)
}

/// What went with a user.
pub(super) struct Ended {
    pub sessions: usize,
    pub api_keys: usize,
}

/// Removes the user, who owns nothing any more, with all that lets them in and the groups they were in.
pub(super) fn remove(tx: &mut Tx, user: &User) -> Result<Ended, Error> {
    let (organization, id) = (user.organization_id, user.id);
    let sessions = sessions::end_all(tx, organization, id)?;
    store::links::end(tx, organization, id)?;
    let api_keys = store::api_keys::delete_of(tx, organization, id)?;
    groups::set(tx, user, &groups::Groups::new())?;
    users::delete(tx, user)?;
    Ok(Ended { sessions, api_keys })
}
