//! How a session starts, and a user's own ones.

use std::net::IpAddr;

use super::auth::{SignedIn, actor};
use super::op::Op;
use super::{Services, secrets, tokens};
use crate::config::AuthConfig;
use crate::error::Error;
use crate::ids::{SessionId, UserId};
use crate::model::session::{Session, SigningKey};
use crate::model::user::User;
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Tx};
use crate::store::{sessions, users};

/// What it takes to start a session in a transaction.
pub(super) struct NewSession {
    key: SigningKey,
    life: AuthConfig,
    /// The oldest sessions of a user who has as many as allowed.
    stale: Vec<SessionId>,
    source_ip: IpAddr,
    user_agent: Option<String>,
}

impl NewSession {
    /// Signs the user in, and stores the user as given.
    pub fn start(&self, tx: &mut Tx, mut user: User) -> Result<(SignedIn, AuditEvent), Error> {
        for session in &self.stale {
            sessions::delete(tx, *session)?;
        }
        let (family, current) = (secrets::random(), secrets::random());
        let now = tx.now();
        let session = Session {
            id: tx.new_id(),
            user_id: user.id,
            organization_id: user.organization_id,
            family_hash: secrets::hash(&family),
            refresh_hash: secrets::hash(&current),
            source_ip: self.source_ip,
            user_agent: self.user_agent.clone(),
            created_at: now,
            last_used_at: now,
            expires_at: now.plus(self.life.refresh_token_life),
        };
        user.last_login = Some(now);
        let token = tokens::sign(&self.key, user.id, session.id, now, now.plus(self.life.access_token_life))?;
        let refresh_token = format!("{}{family}.{current}", secrets::REFRESH);
        let event = AuditEvent::new("auth.login.success").by(actor(&user)).of(user.organization_id);
        let event = event.on("session", session.id, &user.name);
        users::put(tx, user.clone())?;
        sessions::put(tx, session)?;
        let expires_in = self.life.access_token_life.as_secs();
        Ok((SignedIn { token, refresh_token, expires_in, user }, event))
    }
}

impl Services {
    pub(super) fn new_session(&self, op: &Op, user: UserId, user_agent: Option<String>) -> Result<NewSession, Error> {
        let life = self.config.auth.clone();
        let most = life.sessions_per_user as usize;
        let directory = self.store.memory().directory();
        let count = directory.sessions_of(user).count();
        let stale = directory.sessions_of(user).take((count + 1).saturating_sub(most)).collect();
        drop(directory);
        Ok(NewSession { key: self.signing_key()?, life, stale, source_ip: op.peer, user_agent })
    }

    /// Newest first: how many there are, and the part from `offset` on.
    pub fn my_sessions(&self, op: &Op, offset: u64, limit: usize) -> Result<(u64, Vec<Session>), Error> {
        let me = op.user()?;
        let ids: Vec<SessionId> = self.store.memory().directory().sessions_of(me.id).rev().collect();
        let snapshot = self.store.snapshot()?;
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = ids.iter().skip(skip).take(limit).map(|id| sessions::get(&snapshot, *id));
        Ok((ids.len() as u64, found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()))
    }

    pub async fn end_my_session(&self, op: &Op, id: SessionId) -> Result<(), Error> {
        let me = op.user()?.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let session = sessions::get(tx, id)?.filter(|session| session.user_id == me.id);
                let session = session.ok_or(Error::NotFound("session"))?;
                sessions::delete(tx, session.id)?;
                Ok(Audited::new((), AuditEvent::new("auth.session.revoked").on("session", id, &me.name)))
            })
            .await
    }
}
