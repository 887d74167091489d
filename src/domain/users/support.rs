//! What support does for or to a user. All of it holds from the very next request on.

use super::target;
use crate::domain::Services;
use crate::domain::accounts::{Person, touch};
use crate::domain::links::{self, IssuedLink};
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::UserId;
use crate::model::link::Purpose;
use crate::model::user::UserStatus;
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Unaudited};
use crate::store::{sessions, users};

impl Services {
    /// Keeps the user out and ends their sessions; nothing happens to one who is suspended already.
    pub async fn suspend_user(&self, op: &Op, id: UserId) -> Result<Person, Error> {
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = target(tx, &by, id)?;
            if user.status == UserStatus::Suspended {
                return Ok(Audited::without_entry(user, Unaudited::Unchanged));
            }
            let event = AuditEvent::new("user.suspend").on("user", id, &user.name);
            user.status = UserStatus::Suspended;
            touch(tx, &mut user);
            users::put(tx, user.clone())?;
            let ended = sessions::end_all(tx, user.organization_id, id)?;
            Ok(Audited::new(user, event.detail("sessions_ended", ended)))
        });
        Ok(self.person(write.await?))
    }

    /// Lets a suspended user back in; one without a password is invited as before.
    pub async fn resume_user(&self, op: &Op, id: UserId) -> Result<Person, Error> {
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = target(tx, &by, id)?;
            if user.status != UserStatus::Suspended {
                return Ok(Audited::without_entry(user, Unaudited::Unchanged));
            }
            let has_password = user.password_hash.is_some();
            user.status = if has_password { UserStatus::Active } else { UserStatus::Pending };
            touch(tx, &mut user);
            users::put(tx, user.clone())?;
            let event = AuditEvent::new("user.resume").on("user", id, &user.name);
            let event = event.detail("status", user.status.as_str());
            Ok(Audited::new(user, event))
        });
        Ok(self.person(write.await?))
    }

    /// Makes the password worthless, ends the user's sessions and gives a link for another password; an invited user
    /// gets a new invitation.
    pub async fn reset_password(&self, op: &Op, id: UserId) -> Result<IssuedLink, Error> {
        let (by, delivery) = (op.clone(), self.delivery());
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = target(tx, &by, id)?;
            let is_invited = user.status == UserStatus::Pending;
            let purpose = if is_invited { Purpose::Invitation } else { Purpose::Reset };
            user.password_hash = None;
            touch(tx, &mut user);
            users::put(tx, user.clone())?;
            let ended = sessions::end_all(tx, user.organization_id, id)?;
            let link = links::issue(tx, &user, purpose, delivery)?;
            let event = AuditEvent::new("user.update").on("user", id, &user.name);
            let event = event.detail("password", if is_invited { "invited again" } else { "reset" });
            Ok(Audited::new(link, event.detail("sessions_ended", ended)))
        });
        write.await
    }

    /// Ends all of the user's sessions; tells how many there were.
    pub async fn revoke_sessions(&self, op: &Op, id: UserId) -> Result<u64, Error> {
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let user = target(tx, &by, id)?;
            let ended = sessions::end_all(tx, user.organization_id, id)? as u64;
            if ended == 0 {
                return Ok(Audited::without_entry(0, Unaudited::Unchanged));
            }
            let event = AuditEvent::new("auth.session.revoked").on("user", id, &user.name);
            Ok(Audited::new(ended, event.detail("sessions_ended", ended)))
        });
        write.await
    }
}
