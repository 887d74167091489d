//! The signed-in user's own account.

use super::lockout::Attempted;
use super::op::Op;
use super::passwords::Passwords;
use super::{Services, names};
use crate::error::{Error, FieldError};
use crate::ids::{GroupId, OrganizationId, UserId};
use crate::model::user::User;
use crate::store::audit::AuditEvent;
use crate::store::index::Filter;
use crate::store::write::{Audited, Tx};
use crate::store::{links, memory, sessions, users};

/// A user, as people see one.
pub struct Person {
    pub user: User,
    /// What the role is called.
    pub role: String,
    /// Those that the user is in directly.
    pub groups: Vec<GroupId>,
    pub device_count: u64,
}

impl Services {
    pub fn me(&self, op: &Op) -> Result<Person, Error> {
        let me = op.user()?;
        let user = users::get(&self.store.snapshot()?, me.organization_id, me.id)?;
        user.map(|user| self.person(user)).ok_or_else(Error::unauthenticated)
    }

    /// The user, with what memory knows beside the row.
    pub fn person(&self, user: User) -> Person {
        let fleet = self.store.memory().fleet(user.organization_id);
        let device_count = memory::read(&fleet).count(&Filter { users: vec![user.id], ..Filter::default() });
        let directory = self.store.memory().directory();
        let (role, groups) = (directory.role_name(user.role).to_owned(), directory.groups_of(user.id).collect());
        Person { user, role, groups, device_count }
    }

    pub async fn rename_me(&self, op: &Op, name: String, revision: Option<u64>) -> Result<Person, Error> {
        names::require("name", &name)?;
        let me = op.user()?.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = mine(tx, me.organization_id, me.id)?;
            if revision.is_some_and(|revision| revision != user.revision) {
                return Err(Error::Stale);
            }
            let event = AuditEvent::new("user.update").on("user", user.id, &name);
            let event = event.detail("name", format!("{} → {name}", user.name));
            user.name.clone_from(&name);
            touch(tx, &mut user);
            users::put(tx, user.clone())?;
            Ok(Audited::new(user, event))
        });
        Ok(self.person(write.await?))
    }

    /// The signed-in user, who has given the password again in `field`; whoever only has the session gets no further.
    pub(super) async fn check_my_password(&self, op: &Op, field: &str, password: &str) -> Result<User, Error> {
        let Person { user, .. } = self.me(op)?;
        let account = Attempted::account(&user.email);
        self.lockout.check(&account, op.peer, op.now)?;
        let is_right = self.passwords.verify(password, user.password_hash.as_deref()).await?;
        // Many attempts may have been under way at once: none past the limit learns whether it was right.
        self.lockout.check(&account, op.peer, op.now)?;
        if is_right {
            return Ok(user);
        }
        self.lockout.failed(&account, op.peer, op.now);
        Err(Error::field(field, "is wrong"))
    }

    /// Changes the password and ends the user's other sessions.
    pub async fn change_password(&self, op: &Op, current: &str, new: &str) -> Result<(), Error> {
        let me = op.user()?.clone();
        Passwords::check("new_password", new).map_err(|error| Error::Invalid(vec![error]))?;
        let checked = self.check_my_password(op, "current_password", current).await?.password_hash;
        let hash = self.passwords.hash(new).await?;
        self.store
            .write(op.stamp(), move |tx| {
                let mut user = mine(tx, me.organization_id, me.id)?;
                // Meanwhile an administrator may have reset it, or ended the session: that is not undone.
                if user.password_hash != checked || sessions::get(tx, me.session_id)?.is_none() {
                    return Err(Error::unauthenticated());
                }
                user.password_hash = Some(hash.clone());
                touch(tx, &mut user);
                let others =
                    sessions::of_user(tx, me.organization_id, me.id)?.into_iter().filter(|id| *id != me.session_id);
                let others: Vec<_> = others.collect();
                let event = AuditEvent::new("user.update").on("user", user.id, &user.name);
                let event = event.detail("password", "changed").detail("sessions_ended", others.len());
                links::end(tx, user.organization_id, user.id)?;
                users::put(tx, user)?;
                for session in &others {
                    sessions::delete(tx, *session)?;
                }
                Ok(Audited::new((), event))
            })
            .await
    }
}

pub(super) fn mine(tx: &Tx, organization: OrganizationId, id: UserId) -> Result<User, Error> {
    users::get(tx, organization, id)?.ok_or_else(Error::unauthenticated)
}

pub(super) fn touch(tx: &Tx, user: &mut User) {
    user.updated_at = tx.now();
    user.revision += 1;
}

/// An e-mail is something before and after one `@`, without spaces or control characters, of at most 254 bytes.
/// Whether it exists, only a mail to it can tell.
pub fn check_email(field: &str, email: &str) -> Result<(), FieldError> {
    let well_formed = email.len() <= 254
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.')
        });
    if well_formed { Ok(()) } else { Err(FieldError::new(field, "is not an e-mail address")) }
}
