//! The second factor: codes of an authenticator app (TOTP, RFC 6238: SHA-1, 6 digits, 30 seconds, which every app
//! knows), and recovery codes for the day on which the app is lost.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::accounts::{mine, touch};
use super::auth::{SignedIn, actor};
use super::lockout::Attempted;
use super::op::Op;
use super::{Services, secrets};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{UserId, fill_random};
use crate::model::mfa::{Mfa, MfaMethod, PendingTotp, Totp};
use crate::model::sealed::Sealed;
use crate::model::user::User;
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Tx};
use crate::store::{seal, users};

/// How long a new secret waits for its first code.
const PENDING: Duration = Duration::from_secs(10 * 60);
const RECOVERY_CODES: usize = 10;
/// Of a recovery code; 80 bits, so that a plain hash of it tells nothing.
const RECOVERY_LETTERS: usize = 16;
/// What the secrets are sealed for.
const PURPOSE: &[u8] = b"totp";

/// What an authenticator app has to be told, once.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewTotp {
    /// In base32.
    pub secret: String,
    pub otpauth_uri: String,
}

impl Services {
    /// A new secret for the user's app. What the user signs in with changes when a code of it is confirmed.
    pub async fn enroll_totp(&self, op: &Op, password: &str) -> Result<NewTotp, Error> {
        let me = self.check_my_password(op, "password", password).await?;
        let mut secret = [0; 20];
        fill_random(&mut secret);
        let text = totp_rs::Secret::new_stack(secret).to_base32();
        let label = utf8_percent_encode(&me.email, NON_ALPHANUMERIC);
        let otpauth_uri =
            format!("otpauth://totp/Zero:{label}?secret={text}&issuer=Zero&algorithm=SHA1&digits=6&period=30");
        let new = NewTotp { secret: text, otpauth_uri };
        self.store
            .write(op.stamp(), move |tx| {
                let mut user = still(tx, &me)?;
                let sealed = seal::seal(tx, PURPOSE, user.id.as_bytes(), secret.to_vec())?;
                user.mfa.pending = Some(PendingTotp { secret: sealed, expires_at: tx.now().plus(PENDING) });
                changed(tx, user, "totp enrolment started").map(|audited| audited.map(|()| new.clone()))
            })
            .await
    }

    /// The first code of a new secret puts it into force: from now on signing in takes one. Gives new recovery codes.
    pub async fn confirm_totp(&self, op: &Op, code: &str) -> Result<Vec<String>, Error> {
        let me = op.user()?.clone();
        let account = self.store.memory().directory().user(me.id).map(|user| Attempted::account(&user.email));
        let account = account.ok_or_else(Error::unauthenticated)?;
        self.lockout.check(&account, op.peer, op.now)?;
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| secrets::readable(RECOVERY_LETTERS)).collect();
        let code = code.to_owned();
        let write = self.store.write(op.stamp(), move |tx| {
            let mut user = mine(tx, me.organization_id, me.id)?;
            let pending = user.mfa.pending.take().filter(|pending| tx.now() < pending.expires_at);
            let pending = pending.ok_or_else(|| {
                Error::Conflict("no new secret waits for a code, or its 10 minutes are over: start again".into())
            })?;
            let step = step_of(tx, user.id, &pending.secret, &code)?.ok_or_else(|| Error::field("code", "is wrong"))?;
            let recovery_codes = codes.iter().map(|code| secrets::hash(&secrets::typed(code))).collect();
            let totp = Totp { secret: pending.secret, last_step: step };
            user.mfa = Mfa { totp: Some(totp), pending: None, recovery_codes };
            changed(tx, user, "totp on").map(|audited| audited.map(|()| codes.clone()))
        });
        let confirmed = write.await;
        if matches!(confirmed, Err(Error::Invalid(_))) {
            self.lockout.failed(&account, op.peer, op.now);
        }
        confirmed
    }

    /// From now on the password is enough again.
    pub async fn remove_totp(&self, op: &Op, password: &str) -> Result<(), Error> {
        let me = self.check_my_password(op, "password", password).await?;
        self.store
            .write(op.stamp(), move |tx| {
                let mut user = still(tx, &me)?;
                if user.mfa == Mfa::default() {
                    return Err(Error::NotFound("second factor"));
                }
                user.mfa = Mfa::default();
                changed(tx, user, "off")
            })
            .await
    }

    /// Signs in whoever has proven the password and now shows a code.
    pub async fn verify_mfa(
        &self,
        op: &Op,
        mfa_token: &str,
        method: MfaMethod,
        code: &str,
        user_agent: Option<String>,
    ) -> Result<SignedIn, Error> {
        let dead = || Error::Unauthenticated("the mfa_token is invalid or has expired: sign in again".into());
        let attempt = match self.challenges.attempt(mfa_token, op.now) {
            Some(challenge) => {
                self.lockout.begin(&challenge.account, op.peer, op.now)?;
                let session = self.new_session(op, challenge.user_id, user_agent)?;
                Some((challenge, session))
            }
            // With an Idempotency-Key this may be the sign-in itself, sent again: the transaction tells.
            None if op.idempotency.is_some() => None,
            None => return Err(dead()),
        };
        let account = attempt.as_ref().map(|(challenge, _)| challenge.account.clone());
        let code = code.to_owned();
        let write = self.store.write(op.stamp(), move |tx| {
            let (challenge, session) = attempt.as_ref().ok_or_else(dead)?;
            let user = users::get(tx, challenge.organization_id, challenge.user_id)?;
            let mut user = user.filter(|user| challenge.stands(user)).ok_or_else(dead)?;
            let is_right = spend(tx, &mut user, method, &code)?;
            let event = |new: fn(&'static str) -> AuditEvent| {
                let event = new("auth.mfa.verify").of(user.organization_id).on("user", user.id, &user.name);
                event.detail("method", method.as_str())
            };
            if !is_right {
                return Ok(Audited::new(None, event(AuditEvent::failed)));
            }
            let verified = event(AuditEvent::new).by(actor(&user));
            let (signed_in, started) = session.start(tx, user)?;
            Ok(Audited::new(Some(signed_in), verified).and(started))
        });
        match (write.await?, account) {
            (Some(signed_in), Some(account)) => {
                self.challenges.end(mfa_token);
                self.lockout.succeeded(&account);
                Ok(signed_in)
            }
            (Some(signed_in), None) => Ok(signed_in),
            (None, account) => {
                if account.is_some() {
                    self.lockout.failed_from(op.peer, op.now);
                }
                Err(Error::Unauthenticated("the code is wrong or was used before".into()))
            }
        }
    }

    /// By when a user without a second factor must have one; `None` for whoever needs none or has one.
    pub fn mfa_setup_required_by(&self, user: &User) -> Option<Time> {
        let since = self.store.memory().directory().require_mfa_since(user.organization_id);
        since.filter(|_| !user.mfa_enabled()).map(|since| since.plus(self.config.auth.mfa_grace))
    }
}

/// The user as stored now, with the password that was checked.
fn still(tx: &Tx, checked: &User) -> Result<User, Error> {
    let user = mine(tx, checked.organization_id, checked.id)?;
    if user.password_hash == checked.password_hash {
        return Ok(user);
    }
    Err(Error::Conflict("the password was changed meanwhile: try again with the new one".into()))
}

fn changed(tx: &mut Tx, mut user: User, what: &str) -> Result<Audited<()>, Error> {
    touch(tx, &mut user);
    let event = AuditEvent::new("user.update").on("user", user.id, &user.name).detail("mfa", what);
    users::put(tx, user)?;
    Ok(Audited::new((), event))
}

/// Whether the code is good, which it then no longer is.
fn spend(tx: &Tx, user: &mut User, method: MfaMethod, code: &str) -> Result<bool, Error> {
    match (method, &mut user.mfa.totp) {
        (MfaMethod::Totp, Some(totp)) => {
            let step = step_of(tx, user.id, &totp.secret, code)?.filter(|step| *step > totp.last_step);
            totp.last_step = step.unwrap_or(totp.last_step);
            Ok(step.is_some())
        }
        (MfaMethod::Totp, None) => Ok(false),
        (MfaMethod::Recovery, _) => {
            let (codes, hash) = (&mut user.mfa.recovery_codes, secrets::hash(&secrets::typed(code)));
            let before = codes.len();
            codes.retain(|code| *code != hash);
            Ok(codes.len() < before)
        }
    }
}

/// The step of 30 seconds that the code belongs to: this one, the one before or the one after.
fn step_of(tx: &Tx, user: UserId, secret: &Sealed, code: &str) -> Result<Option<u64>, Error> {
    let secret = seal::open(tx, PURPOSE, user.as_bytes(), secret.clone())?;
    let totp = totp_rs::Builder::new().with_secret(secret).build().map_err(Error::internal)?;
    // Apps show a code as two groups.
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(totp.check(&code, tx.now().unix().unsigned_abs()))
}
