use super::engine::Read;
use super::memory::Effect;
use super::tables::{USERS, USERS_BY_EMAIL};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, UserId};
use crate::model::user::User;

pub fn get(from: &impl Read, organization: OrganizationId, id: UserId) -> Result<Option<User>, Error> {
    USERS.get(from, &(organization, id))
}

pub fn by_email(from: &impl Read, email: &str) -> Result<Option<User>, Error> {
    match USERS_BY_EMAIL.get(from, &email_key(email))? {
        Some(key) => USERS.get(from, &key),
        None => Ok(None),
    }
}

/// Stores a new user; a conflict when the e-mail is taken.
pub fn insert(tx: &mut Tx, user: User) -> Result<(), Error> {
    tx.require_space()?;
    let email = email_key(&user.email);
    if USERS_BY_EMAIL.contains(tx, &email)? {
        return Err(Error::Conflict(format!("the e-mail {} is taken", user.email)));
    }
    tx.put(USERS_BY_EMAIL, &email, &(user.organization_id, user.id))?;
    put(tx, user)
}

/// Replaces a user whose e-mail has not changed.
pub fn put(tx: &mut Tx, user: User) -> Result<(), Error> {
    tx.put(USERS, &(user.organization_id, user.id), &user)?;
    tx.effect(Effect::User(user));
    Ok(())
}

/// E-mails compare without regard to case.
pub fn email_key(email: &str) -> String {
    email.to_lowercase()
}
