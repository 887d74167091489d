//! The way back in for a super admin who has lost password or phone, on the machine itself.

use super::accounts::touch;
use super::passwords::{self, Passwords};
use super::secrets;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::SessionId;
use crate::model::mfa::Mfa;
use crate::model::role::RoleRef;
use crate::model::user::UserStatus;
use crate::store::audit::AuditEvent;
use crate::store::memory::Directory;
use crate::store::write::{Audited, Stamp};
use crate::store::{Store, api_keys, links, sessions, users};

/// Letters of a password that is made up: 120 bits.
const LETTERS: usize = 24;
/// Super admins that a refusal names.
const NAMED: usize = 20;

pub struct Recovered {
    /// The password, when it was made up here.
    pub password: Option<String>,
    pub sessions_ended: usize,
    /// Keys of theirs, which still work.
    pub api_keys: usize,
}

/// Gives the super admin with that e-mail a new password and an active account without a second factor and sessions.
/// With no active super admin left, it makes one of whoever has the e-mail.
///
/// # Errors
/// When the password is too weak, or nobody with that e-mail may be recovered: the text names who may.
pub async fn recover_admin(store: &Store, email: &str, password: Option<&str>, now: Time) -> Result<Recovered, Error> {
    let found = users::by_email(&store.snapshot()?, email)?;
    let nobody_is_left = !users::has_super_admin(&store.snapshot()?)?;
    let user = found.filter(|user| user.role == RoleRef::SUPER_ADMIN || nobody_is_left);
    let Some(mut user) = user else { return Err(refusal(&store.memory().directory(), email, nobody_is_left)) };

    let made_up = password.is_none().then(|| secrets::readable(LETTERS));
    let password = password.or(made_up.as_deref()).unwrap_or_default();
    Passwords::check("the password", password).map_err(|error| Error::Invalid(vec![error]))?;
    let ended: Vec<SessionId> = store.memory().directory().sessions_of(user.id).collect();
    let had = (user.role, user.status, user.mfa_enabled());
    user.password_hash = Some(passwords::hash_now(password)?);
    user.role = RoleRef::SUPER_ADMIN;
    user.status = UserStatus::Active;
    user.mfa = Mfa::default();
    let write = store.write(Stamp::system(now), move |tx| {
        let mut user = user.clone();
        touch(tx, &mut user);
        for session in &ended {
            sessions::delete(tx, *session)?;
        }
        links::end(tx, user.organization_id, user.id)?;
        let event = AuditEvent::new("system.recover_admin").of(user.organization_id);
        let event = event.on("user", user.id, &user.name).detail("password", "replaced");
        let event = event.detail("sessions_ended", ended.len()).detail("mfa_removed", had.2);
        let event = event.detail("was_super_admin", had.0 == RoleRef::SUPER_ADMIN).detail("was", had.1.as_str());
        let api_keys = api_keys::made_by(tx, user.organization_id, user.id)?.len();
        users::put(tx, user)?;
        Ok(Audited::new((ended.len(), api_keys), event))
    });
    let (sessions_ended, api_keys) = write.await?;
    Ok(Recovered { password: made_up, sessions_ended, api_keys })
}

fn refusal(directory: &Directory, email: &str, nobody_is_left: bool) -> Error {
    if !directory.is_set_up() {
        return Error::Conflict("the appliance is not set up yet: zero init does that".into());
    }
    if nobody_is_left {
        return Error::Conflict(format!(
            "nobody has the e-mail {email:?}; no super admin is left, so any user's will do"
        ));
    }
    let everyone = directory.organizations().flat_map(|organization| directory.users_of(organization));
    let admins = everyone.filter(|user| user.role == RoleRef::SUPER_ADMIN).take(NAMED);
    let names: Vec<String> = admins
        .map(|user| match user.status {
            UserStatus::Active => user.email.to_string(),
            status => format!("{} ({status})", user.email),
        })
        .collect();
    Error::Conflict(format!("{email:?} is no super admin's e-mail; these are: {}", names.join(", ")))
}
