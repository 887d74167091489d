//! Links that let a person choose a password: an invitation, or a reset. The secret is handed out once, and the store
//! keeps a hash of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::accounts::touch;
use super::lockout::Attempted;
use super::op::Op;
use super::passwords::Passwords;
use super::{Services, auth, secrets};
use crate::clock::Time;
use crate::error::Error;
use crate::model::link::{Link, Purpose};
use crate::model::user::{User, UserStatus};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Tx};
use crate::store::{links, outgoing_mail, sessions, users};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Purpose {
    /// How long the link is good for.
    pub(super) const fn life(self) -> Duration {
        match self {
            Self::Invitation => DAY.saturating_mul(7),
            Self::Reset => DAY,
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Invitation => secrets::INVITATION,
            Self::Reset => secrets::RESET,
        }
    }

    /// The dashboard's page for it.
    const fn page(self) -> &'static str {
        match self {
            Self::Invitation => "invite",
            Self::Reset => "reset",
        }
    }
}

/// A new link, with the only copy of its secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedLink {
    pub purpose: Purpose,
    pub token: String,
    pub expires_at: Time,
    /// It is on its way to the user by mail as well.
    #[serde(default)]
    pub mailed: bool,
}

/// What becomes of a new link beside being shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    ShownOnly,
    Mailed,
    /// Mailed and not shown: whoever requests it has not said who they are.
    Requested,
}

/// Gives the user a link, in place of those that [`links::put`] ends, and has it mailed where that is wanted.
pub(super) fn issue(tx: &mut Tx, user: &User, purpose: Purpose, delivery: Delivery) -> Result<IssuedLink, Error> {
    let (token, token_hash) = secrets::make(purpose.prefix());
    let (created_at, expires_at) = (tx.now(), tx.now().plus(purpose.life()));
    let (organization_id, user_id) = (user.organization_id, user.id);
    let is_requested = delivery == Delivery::Requested;
    let link = Link { organization_id, user_id, purpose, token_hash, is_requested, created_at, expires_at };
    links::put(tx, &link)?;
    let mailed = delivery != Delivery::ShownOnly && outgoing_mail::put(tx, &link, &token)?;
    Ok(IssuedLink { purpose, token, expires_at, mailed })
}

/// The user whom the secret lets choose a password now. A suspended user's link is no good until they may come back.
fn holder(from: &impl Read, token_hash: &[u8; 32], now: Time) -> Result<User, Error> {
    let link = links::get(from, token_hash)?.filter(|link| now < link.expires_at);
    let user = match link {
        Some(link) => users::get(from, link.organization_id, link.user_id)?,
        None => None,
    };
    user.filter(|user| user.status != UserStatus::Suspended)
        .ok_or_else(|| Error::Unauthenticated("the link is invalid, has expired or has been used".into()))
}

impl Services {
    /// Where the link leads. The secret stands in the fragment, which browsers keep to themselves: no log has it.
    pub fn link_url(&self, link: &IssuedLink) -> String {
        self.url_of(link.purpose, &link.token)
    }

    pub(super) fn url_of(&self, purpose: Purpose, token: &str) -> String {
        format!("{}/{}#{token}", self.url(), purpose.page())
    }

    /// Sets the password of whomever the link was given to, and spends the link.
    pub async fn accept_link(&self, op: &Op, token: &str, password: &str) -> Result<(), Error> {
        Passwords::check("password", password).map_err(|error| Error::Invalid(vec![error]))?;
        // Counted for each address by itself: nobody can lock others out of their links.
        let account = Attempted::links_from(op.peer);
        self.lockout.check(&account, op.peer, op.now)?;
        let accepted = self.spend_link(op, secrets::hash(token), password).await;
        match &accepted {
            Ok(email) => self.lockout.succeeded(&Attempted::account(email)),
            Err(Error::Unauthenticated(_)) => self.lockout.failed(&account, op.peer, op.now),
            Err(_) => {}
        }
        accepted.map(|_| ())
    }

    async fn spend_link(&self, op: &Op, token_hash: [u8; 32], password: &str) -> Result<String, Error> {
        // With an Idempotency-Key this may be the acceptance itself, sent again: the transaction tells.
        if op.idempotency.is_none() {
            holder(&self.store.snapshot()?, &token_hash, op.now)?;
        }
        let hash = self.passwords.hash(password).await?;
        self.store
            .write(op.stamp(), move |tx| {
                let mut user = holder(tx, &token_hash, tx.now())?;
                let event = AuditEvent::new("user.update").by(auth::actor(&user)).of(user.organization_id);
                let mut event = event.on("user", user.id, &user.name).detail("password", "chosen through a link");
                if user.status == UserStatus::Pending {
                    event = event.detail("status", format!("{} → {}", user.status, UserStatus::Active));
                }
                user.password_hash = Some(hash.clone());
                user.status = UserStatus::Active;
                touch(tx, &mut user);
                links::end(tx, user.organization_id, user.id)?;
                let ended = sessions::end_all(tx, user.organization_id, user.id)?;
                users::put(tx, user.clone())?;
                Ok(Audited::new(user.email, event.detail("sessions_ended", ended)))
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::config::Config;
    use crate::domain::authz::Permissions;
    use crate::domain::op::{Principal, UserPrincipal};
    use crate::domain::setup::{self, NewAppliance};
    use crate::ids::Ids;
    use crate::store::Store;

    #[tokio::test]
    async fn a_link_is_good_until_it_expires_and_a_replayed_acceptance_is_answered_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::at(Time::from_unix(1_800_000_000)));
        let (config, ids) = (Config::default(), Arc::new(Ids::new(clock.clone())));
        let store = Store::open(&folder.path().join("zero.redb"), &config.store, ids.clone(), clock.now()).unwrap();
        let no_certificates = Box::new(|_: &str, _, _, _| Err(Error::internal("none here")));
        let services = Services::new(store, config, ids.clone(), clock.clone(), no_certificates);
        let (organization, name) = ("Acme".into(), "Root".into());
        let (email, password) = ("root@acme.example".into(), "correct horse battery".into());
        let new = NewAppliance { organization, name, email, password };
        let root = setup::initialise(&services.store, new, clock.now()).await.unwrap().user;
        let principal = Principal::User(UserPrincipal {
            id: root.id,
            organization_id: root.organization_id,
            name: "Root".into(),
            session_id: ids.next(),
            must_enroll_mfa: false,
            permissions: Permissions::ALL,
        });
        let op = |principal: &Principal, idempotency| Op {
            principal: principal.clone(),
            request_id: ids.next(),
            peer: Ipv4Addr::LOCALHOST.into(),
            entrance: 0,
            now: clock.now(),
            idempotency,
        };
        let late = services.reset_password(&op(&principal, None), root.id).await.unwrap();
        clock.advance(DAY);
        let accept = async |token: &str, idempotency| {
            services.accept_link(&op(&Principal::Anonymous, idempotency), token, "another password").await
        };
        assert!(matches!(accept(&late.token, None).await, Err(Error::Unauthenticated(_))));

        let link = services.reset_password(&op(&principal, None), root.id).await.unwrap();
        clock.advance(DAY - Duration::from_secs(1));
        let key = crate::store::idempotency::Idempotency { id: [1; 32], fingerprint: [2; 32], secret: [3; 32] };
        accept(&link.token, Some(key.clone())).await.unwrap();
        accept(&link.token, Some(key)).await.unwrap();
        assert!(matches!(accept(&link.token, None).await, Err(Error::Unauthenticated(_))));
    }
}
