//! What becomes of an appliance that comes back from a backup, before it serves again.

use std::time::Duration;

use super::gdpr;
use crate::clock::Time;
use crate::error::Error;
use crate::store::audit::AuditEvent;
use crate::store::ledger::Entry;
use crate::store::write::{Audited, Stamp};
use crate::store::{Store, sessions};

/// Sessions ended in one transaction.
const STEP: usize = 500;

pub struct Aftermath {
    /// People who had come back with the backup and were erased again.
    pub erased_again: u64,
    pub sessions_ended: u64,
}

/// Erases again who was erased since the backup, ends the sessions where that is asked for, and says in the audit log
/// what has happened.
///
/// # Errors
/// A conflict for what was never set up: to restore it would be to let anybody set it up.
pub async fn settle(
    store: &Store,
    erased: &[Entry],
    command_life: Duration,
    end_sessions: bool,
    made_at: Time,
    now: Time,
) -> Result<Aftermath, Error> {
    if !store.memory().directory().is_set_up() {
        return Err(Error::Conflict("the backup is of an appliance that was never set up".into()));
    }
    let erased_again = gdpr::replay(store, erased, command_life, now).await?;
    let mut sessions_ended = 0;
    loop {
        let some = if end_sessions { sessions::some(&store.snapshot()?, STEP)? } else { Vec::new() };
        if some.is_empty() {
            break;
        }
        sessions_ended += some.len() as u64;
        store
            .write(Stamp::system(now), move |tx| {
                let mut all = Audited::without_entry((), crate::store::write::Unaudited::Unchanged);
                for session in &some {
                    let event = AuditEvent::new("auth.session.revoked").of(session.organization_id);
                    let event = event.on("session", session.id, &session.user_id.to_string()).about(session.user_id);
                    all = all.and(event.detail("reason", "restored from a backup"));
                    sessions::delete(tx, session.id)?;
                }
                Ok(all)
            })
            .await?;
    }
    let event = move || {
        AuditEvent::new("system.restore")
            .detail("backup_of", made_at.to_string())
            .detail("erased_again", erased_again)
            .detail("sessions_ended", sessions_ended)
    };
    store.write(Stamp::system(now), move |_| Ok(Audited::new((), event()))).await?;
    Ok(Aftermath { erased_again, sessions_ended })
}
