//! Signing in and out, and who is behind a token.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::challenges::Challenge;
use super::lockout::Attempted;
use super::op::{DevicePrincipal, Op, Principal, without_idempotency};
use super::{Services, principals, secrets, tokens};
use crate::clock::Time;
use crate::error::Error;
use crate::model::audit::{Actor, ActorType};
use crate::model::mfa::MfaMethod;
use crate::model::session::{Session, SigningKey};
use crate::model::user::{User, UserStatus};
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{devices, enrollment_tokens, seal, sessions, users};

/// A new session's tokens.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignedIn {
    pub token: String,
    pub refresh_token: String,
    /// Seconds that `token` is good for.
    pub expires_in: u64,
    pub user: User,
}

/// What a right password leads to.
#[derive(Clone, Serialize, Deserialize)]
pub enum LogIn {
    SignedIn(Box<SignedIn>),
    MfaRequired { mfa_token: String, methods: Vec<MfaMethod> },
}

#[derive(Serialize, Deserialize)]
enum Refreshed {
    Renewed {
        token: String,
        refresh_token: String,
        expires_in: u64,
    },
    /// The token had been used before, so somebody else may have it: the session is over.
    Reused,
}

/// What a refresh gives.
pub struct Renewed {
    pub token: String,
    pub refresh_token: String,
    pub expires_in: u64,
}

impl Services {
    /// Who holds this bearer token.
    pub fn identify(&self, token: &str, now: Time) -> Result<Principal, Error> {
        if token.starts_with(secrets::DEVICE) {
            self.identify_device(token, now)
        } else if token.starts_with(secrets::API_KEY) {
            self.identify_api_key(token, now)
        } else if token.starts_with(secrets::ENROLLMENT) {
            // Whether it has uses left is decided where it is used, in the transaction that counts.
            let found = enrollment_tokens::by_hash(&self.store.snapshot()?, &secrets::hash(token))?;
            let found = found.ok_or_else(Error::unauthenticated)?;
            let (id, organization_id) = (found.id, found.organization_id);
            Ok(Principal::EnrollmentToken { id, organization_id, name: found.name.into() })
        } else {
            self.identify_user(token, now)
        }
    }

    fn identify_user(&self, token: &str, now: Time) -> Result<Principal, Error> {
        let directory = self.store.memory().directory();
        let access = self.tokens.verify(directory.signing_keys(), token, now).ok_or_else(Error::unauthenticated)?;
        let signed_in = (access.user_id, access.session_id);
        let user = principals::user(&directory, self.config.auth.mfa_grace, signed_in, now);
        user.map(Principal::User).ok_or_else(Error::unauthenticated)
    }

    /// From memory alone.
    fn identify_api_key(&self, token: &str, now: Time) -> Result<Principal, Error> {
        let directory = self.store.memory().directory();
        let key = directory.api_key_by_hash(&secrets::hash(token)).ok_or_else(Error::unauthenticated)?;
        let principal = principals::api_key(&directory, self.config.auth.mfa_grace, key, now);
        let principal = principal.ok_or_else(Error::unauthenticated)?;
        key.used(now);
        Ok(Principal::ApiKey(principal))
    }

    fn identify_device(&self, token: &str, now: Time) -> Result<Principal, Error> {
        let device = devices::by_token(&self.store.snapshot()?, &secrets::hash(token))?;
        let device = device.filter(|device| now < device.token_expires_at).ok_or_else(Error::unauthenticated)?;
        Ok(Principal::Device(DevicePrincipal {
            id: device.id,
            organization_id: device.organization_id,
            name: device.device_name.into(),
            status: device.status,
        }))
    }

    pub async fn log_in(
        &self,
        op: &Op,
        email: &str,
        password: &str,
        user_agent: Option<String>,
    ) -> Result<LogIn, Error> {
        let account = Attempted::account(email);
        self.lockout.check(&account, op.peer, op.now)?;
        let user = users::by_email(&self.store.snapshot()?, email)?;
        let hash = user.as_ref().and_then(|user| user.password_hash.as_deref());
        let is_right = self.passwords.verify(password, hash).await?;
        // Many attempts may have been under way at once: none past the limit learns whether it was right.
        self.lockout.check(&account, op.peer, op.now)?;
        let user = user.filter(|user| is_right && user.status == UserStatus::Active);
        let Some(user) = user else {
            self.lockout.failed(&account, op.peer, op.now);
            let is_locked = self.lockout.check(&account, op.peer, op.now).is_err();
            return self.refuse(op, email, is_locked).await;
        };
        let session = self.new_session(op, user.id, user_agent)?;
        let (made, challenge) = (secrets::make(secrets::MFA).0, Challenge::new(&user, op.now));
        let mfa_token = made.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            // Between the check and this commit the user may have been suspended or given another password.
            let current = users::get(tx, user.organization_id, user.id)?;
            let user = current
                .filter(|now| now.status == UserStatus::Active && now.password_hash == user.password_hash)
                .ok_or_else(|| Error::Unauthenticated("invalid credentials".into()))?;
            if user.mfa_enabled() {
                let event = AuditEvent::new("auth.mfa.challenge").by(actor(&user)).of(user.organization_id);
                let (mfa_token, methods) = (mfa_token.clone(), user.mfa.methods());
                let event = event.on("user", user.id, &user.name);
                return Ok(Audited::new(LogIn::MfaRequired { mfa_token, methods }, event));
            }
            let (signed_in, event) = session.start(tx, user)?;
            Ok(Audited::new(LogIn::SignedIn(Box::new(signed_in)), event))
        });
        let outcome = write.await?;
        match &outcome {
            // Only now is the account's owner here.
            LogIn::SignedIn(_) => self.lockout.succeeded(&account),
            // An answer that is given again brings no new attempts.
            LogIn::MfaRequired { mfa_token, .. } if *mfa_token == made => self.challenges.put(&made, challenge, op.now),
            LogIn::MfaRequired { .. } => {}
        }
        Ok(outcome)
    }

    /// `is_locked`: this was one failure too many.
    async fn refuse<T>(&self, op: &Op, email: &str, is_locked: bool) -> Result<T, Error> {
        let shown: String = email.chars().take(254).collect();
        let stamp = without_idempotency(op.stamp());
        self.store
            .write(stamp, move |tx| {
                let user = users::by_email(tx, &shown)?;
                let tell = |action| tried_on(tx, AuditEvent::failed(action), &shown, user.as_ref());
                let refused = Audited::new((), tell("auth.login.failure")?);
                Ok(if is_locked { refused.and(tell("auth.lockout")?) } else { refused })
            })
            .await?;
        Err(Error::Unauthenticated("invalid credentials".into()))
    }

    /// How long a refresh token is good for.
    pub fn refresh_token_life(&self) -> Duration {
        self.config.auth.refresh_token_life
    }

    /// Spends the refresh token for new tokens of the same session.
    pub async fn refresh(&self, op: &Op, refresh_token: &str) -> Result<Renewed, Error> {
        let invalid = || Error::Unauthenticated("the refresh token is invalid or has expired".into());
        let (family, current) = secrets::refresh_parts(refresh_token).ok_or_else(invalid)?;
        let (family, current) = (family.to_owned(), secrets::hash(current));
        let life = self.config.auth.clone();
        let key = self.signing_key()?;
        // A spent token is answered as such however it is sent again; and what a stranger holds tells nobody apart.
        let write = self.store.write(without_idempotency(op.stamp()), move |tx| {
            let session =
                sessions::by_family(tx, &secrets::hash(&family))?.filter(|session| tx.now() < session.expires_at);
            let mut session = session.ok_or_else(invalid)?;
            let user = users::get(tx, session.organization_id, session.user_id)?;
            let user = user.filter(|user| user.status == UserStatus::Active).ok_or_else(invalid)?;
            if session.refresh_hash != current {
                return end_reused(tx, &session, &user);
            }
            let now = tx.now();
            let next = secrets::random();
            session.refresh_hash = secrets::hash(&next);
            session.last_used_at = now;
            session.expires_at = now.plus(life.refresh_token_life);
            let token = tokens::sign(&key, user.id, session.id, now, now.plus(life.access_token_life))?;
            let refresh_token = format!("{}{family}.{next}", secrets::REFRESH);
            sessions::put(tx, session)?;
            let expires_in = life.access_token_life.as_secs();
            let renewed = Refreshed::Renewed { token, refresh_token, expires_in };
            Ok(Audited::without_entry(renewed, Unaudited::Housekeeping))
        });
        match write.await? {
            Refreshed::Renewed { token, refresh_token, expires_in } => Ok(Renewed { token, refresh_token, expires_in }),
            Refreshed::Reused => {
                Err(Error::Unauthenticated("the refresh token was used before: the session has ended".into()))
            }
        }
    }

    pub async fn log_out(&self, op: &Op) -> Result<(), Error> {
        let me = op.user()?.clone();
        // A later session must end even under a key that another has ended with.
        self.store
            .write(without_idempotency(op.stamp()), move |tx| {
                sessions::delete(tx, me.session_id)?;
                Ok(Audited::new((), AuditEvent::new("auth.logout").on("session", me.session_id, &me.name)))
            })
            .await
    }

    pub(super) fn signing_key(&self) -> Result<SigningKey, Error> {
        let directory = self.store.memory().directory();
        directory.signing_keys().first().cloned().ok_or_else(|| Error::Internal("there is no signing key".into()))
    }
}

fn end_reused(tx: &mut Tx, session: &Session, user: &User) -> Result<Audited<Refreshed>, Error> {
    sessions::delete(tx, session.id)?;
    let event = AuditEvent::failed("auth.session.revoked").of(user.organization_id);
    let event = event
        .on("session", session.id, &user.name)
        .about(user.id)
        .detail("reason", "a spent refresh token was used again");
    Ok(Audited::new(Refreshed::Reused, event))
}

pub(super) fn actor(user: &User) -> Actor {
    Actor { kind: ActorType::User, id: Some(user.id.to_string()), name: Some(user.name.clone()) }
}

/// Whose account somebody tried, in the log of its organization. Of an e-mail that is nobody's the log has a pseudonym:
/// it tells attempts apart, and there is no key by whose end the e-mail could be erased; it may be an erased person's,
/// or a password in the wrong field.
pub(super) fn tried_on(tx: &Tx, event: AuditEvent, email: &str, user: Option<&User>) -> Result<AuditEvent, Error> {
    Ok(match user {
        Some(user) => event.of(user.organization_id).on("user", user.id, &user.name).detail("email", email),
        None => event.detail("email_pseudonym", seal::pseudonym(tx, b"audit: unknown e-mail", &users::folded(email))?),
    })
}
