//! What people may ask for under the GDPR: their data (articles 15 and 20), to be erased (17), that their data is not
//! processed (18), and that it is not used for a purpose (21).
//!
//! # Where a restriction is honoured
//! - statistics do not count the person's devices: [`Services::stats`]; how many things a list or an organization has is
//!   no statistic;
//! - nothing of their check-ins is kept, so that when they were last seen, their status and what they report stay as
//!   they were, save that a device that was online becomes offline when its time is over; commands and policies reach
//!   them as before: `Services::check_in`, `Services::set_status`;
//! - changes of their compliance are not kept as a history: `compliance::record`;
//! - the person and their devices are marked wherever they are shown: `Person`, `Seen`;
//! - entries of the audit log that name the person, as who acted or as who it is about, are not copied to a collector
//!   elsewhere: `audit::forward`; what was passed over is not sent when the restriction is lifted;
//! - whatever sends data away (webhooks, a SIEM, mails) asks [`Directory::is_restricted`] or
//!   [`Directory::may_notify`](crate::store::memory::Directory::may_notify) first.
//!
//! # Where an objection is honoured
//! - `analytics`: statistics do not count the person's devices;
//! - `notifications`: no mails but those about their own account's security: `Directory::may_notify`;
//! - `profiling`: whether their devices comply is known as of now, since policies depend on it, but what it was before
//!   is not kept: `compliance::record`.
//!
//! [`Directory::is_restricted`]: crate::store::memory::Directory::is_restricted

mod erase;
mod export;

pub use export::{Export, ExportedDevice};

pub use erase::replay;

use super::Services;
use super::accounts::touch;
use super::authz::Permission;
use super::op::{Op, Principal};
use super::users::{find, is_self};
use crate::error::Error;
use crate::ids::UserId;
use crate::model::device::Device;
use crate::model::gdpr::{Objection, Purpose, Restriction};
use crate::model::user::User;
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Unaudited};
use crate::store::{outbox, users};

impl Services {
    /// Restricts the processing of the person's data, or lifts that. Restricting again changes nothing but the reason.
    pub async fn restrict(
        &self,
        op: &Op,
        person: Option<UserId>,
        restricted: bool,
        reason: Option<String>,
    ) -> Result<User, Error> {
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = own_or_lesser(tx, &by, person)?;
            let since = user.privacy.restriction.as_ref().map_or(tx.now(), |before| before.since);
            let restriction = restricted.then(|| Restriction { since, reason: reason.clone() });
            if user.privacy.restriction == restriction {
                return Ok(Audited::without_entry(user, Unaudited::Unchanged));
            }
            user.privacy.restriction = restriction;
            touch(tx, &mut user);
            users::put(tx, user.clone())?;
            if restricted {
                outbox::withhold(tx, user.organization_id, user.id)?;
            }
            // The reason is the person's own, and stays with the person.
            let event = AuditEvent::new("gdpr.restrict").on("user", user.id, &user.name);
            Ok(Audited::new(user, event.detail("restricted", restricted)))
        });
        write.await
    }

    /// Records the person's objection; one that is there already stays as it is.
    pub async fn object(
        &self,
        op: &Op,
        person: Option<UserId>,
        purpose: Purpose,
        reason: Option<String>,
    ) -> Result<Objection, Error> {
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = own_or_lesser(tx, &by, person)?;
            if let Some(before) = user.privacy.objections.iter().find(|objection| objection.purpose == purpose) {
                return Ok(Audited::without_entry(before.clone(), Unaudited::Unchanged));
            }
            let objection = Objection { purpose, since: tx.now(), reason: reason.clone() };
            user.privacy.objections.push(objection.clone());
            touch(tx, &mut user);
            let event = AuditEvent::new("gdpr.object").on("user", user.id, &user.name);
            let event = event.detail("purpose", purpose.as_str()).detail("objects", true);
            users::put(tx, user)?;
            Ok(Audited::new(objection, event))
        });
        write.await
    }

    pub async fn withdraw_objection(&self, op: &Op, person: Option<UserId>, purpose: Purpose) -> Result<(), Error> {
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = own_or_lesser(tx, &by, person)?;
            if !user.privacy.objects_to(purpose) {
                return Err(Error::NotFound("objection"));
            }
            user.privacy.objections.retain(|objection| objection.purpose != purpose);
            touch(tx, &mut user);
            let event = AuditEvent::new("gdpr.object").on("user", user.id, &user.name);
            let event = event.detail("purpose", purpose.as_str()).detail("objects", false);
            users::put(tx, user)?;
            Ok(Audited::new((), event))
        });
        write.await
    }

    /// Whether the processing of the owner's data is restricted.
    pub(super) fn is_restricted(&self, device: &Device) -> bool {
        device.user_id.is_some_and(|user| self.store.memory().directory().is_restricted(user))
    }
}

/// As [`subject`], and whoever asks may change what is held on them.
fn own_or_lesser(from: &impl Read, op: &Op, person: Option<UserId>) -> Result<User, Error> {
    let user = subject(from, op, person)?;
    if !is_self(op, user.id) {
        op.may_act_on(from, &user)?;
    }
    Ok(user)
}

/// Whom it is about: whoever asks, or with the permission anybody of the organization.
fn subject(from: &impl Read, op: &Op, person: Option<UserId>) -> Result<User, Error> {
    let id = match (person, &op.principal) {
        (None, Principal::User(me)) => me.id,
        (None, _) => return Err(Error::field("user_id", "is required: a key asks for nobody by itself")),
        (Some(id), _) if is_self(op, id) => id,
        (Some(id), _) => {
            op.require(Permission::GdprAdmin)?;
            id
        }
    };
    find(from, op.organization_id()?, id)
}
