//! Asking for a new password oneself, by mail.

use super::Services;
use super::auth::tried_on;
use super::links::{self, Delivery};
use super::lockout::Attempted;
use super::op::{Op, without_idempotency};
use crate::error::Error;
use crate::model::link::Purpose;
use crate::model::user::UserStatus;
use crate::store::audit::AuditEvent;
use crate::store::users;
use crate::store::write::Audited;

impl Services {
    /// Mails a link to whoever has that e-mail; the password and the sessions stay as they are until it is used. What
    /// whoever asks sees is the same, and takes one write, whether or not there is such a user. Nothing happens where no
    /// mail is sent.
    ///
    /// # Errors
    /// `TooMany` after five for one e-mail within 15 minutes, known or not.
    pub async fn request_reset(&self, op: &Op, email: &str) -> Result<(), Error> {
        self.lockout.begin(&Attempted::reset(email), op.peer, op.now)?;
        self.lockout.begin(&Attempted::resets_from(op.peer), op.peer, op.now)?;
        if self.delivery() == Delivery::ShownOnly {
            return Ok(());
        }
        let shown: String = email.chars().take(254).collect();
        self.store
            .write(without_idempotency(op.stamp()), move |tx| {
                let user = users::by_email(tx, &shown)?;
                let refused = |user| tried_on(tx, AuditEvent::failed("auth.reset.request"), &shown, user);
                let Some(user) = user else { return Ok(Audited::new((), refused(None)?)) };
                if user.status == UserStatus::Suspended {
                    let event = refused(Some(&user))?;
                    return Ok(Audited::new((), event.detail("status", user.status.as_str())));
                }
                let is_invited = user.status == UserStatus::Pending;
                let purpose = if is_invited { Purpose::Invitation } else { Purpose::Reset };
                let link = links::issue(tx, &user, purpose, Delivery::Requested)?;
                let event = AuditEvent::new("auth.reset.request").of(user.organization_id);
                let event = event.on("user", user.id, &user.name).detail("link", purpose.as_str());
                Ok(Audited::new((), event.detail("mailed", link.mailed)))
            })
            .await
    }
}
