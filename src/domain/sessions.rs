//! A user's own sessions.

use super::Services;
use super::op::Op;
use crate::error::Error;
use crate::ids::SessionId;
use crate::model::session::Session;
use crate::store::audit::AuditEvent;
use crate::store::sessions;
use crate::store::write::Audited;

impl Services {
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
