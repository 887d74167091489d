//! What the appliance does by itself, one step at a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::devices::{save, status_event};
use super::{Services, tokens};
use crate::error::Error;
use crate::model::command::CommandStatus;
use crate::model::device::Status;
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Stamp, Unaudited};
use crate::store::{commands, devices, idempotency, memory, sessions};

/// Things changed in one transaction.
const STEP: usize = 500;
/// Commands that have ended and are kept of one device.
const MOST_COMMANDS: u64 = 1_000;
/// A write that takes longer than this means that the disk hangs.
const WRITE_TIME: Duration = Duration::from_secs(30);

impl Services {
    /// Declares silent devices offline.
    ///
    /// What was seen shortly before a power cut may not have been written, so nobody is silent before the appliance
    /// itself has listened for as long as a device may be. Nor is anybody after the clock has jumped.
    pub async fn mark_offline(&self) -> Result<(), Error> {
        let patience = self.config.devices.offline_after;
        if self.steady_for() < patience {
            return Ok(());
        }
        let now = self.now();
        let cutoff = now.minus(patience);
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        for organization in organizations {
            let fleet = self.store.memory().fleet(organization);
            loop {
                let silent = memory::read(&fleet).silent_since(cutoff, STEP);
                let Some(count) = std::num::NonZeroUsize::new(silent.len()) else { break };
                self.store
                    .write(Stamp::system(now), move |tx| {
                        let mut all = Audited::without_entry((), Unaudited::Unchanged);
                        for id in &silent {
                            let device = devices::get(tx, organization, *id)?;
                            if let Some(mut device) = device.filter(|device| device.status == Status::Online) {
                                all = all.and(status_event(&device, Status::Offline));
                                device.status = Status::Offline;
                                save(tx, &mut device)?;
                            }
                        }
                        Ok(all)
                    })
                    .await?;
                if count.get() < STEP {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends what has lapsed: commands, sessions, remembered outcomes; and replaces the signing key when it is due.
    pub async fn tidy(&self) -> Result<(), Error> {
        if !self.may_remove_lapsed() {
            return Ok(());
        }
        self.expire_commands().await?;
        self.unenroll_overdue().await?;
        let now = self.now();
        let lapsed = self.store.memory().directory().lapsed_sessions(now, STEP);
        if !lapsed.is_empty() {
            self.store
                .write(Stamp::system(now), move |tx| {
                    let mut all = Audited::without_entry((), Unaudited::Unchanged);
                    for id in &lapsed {
                        if let Some(session) = sessions::get(tx, *id)?.filter(|session| session.expires_at <= tx.now())
                        {
                            let event = AuditEvent::new("auth.session.expired").of(session.organization_id);
                            all = all.and(event.on("session", id, &session.user_id.to_string()));
                            sessions::delete(tx, *id)?;
                        }
                    }
                    Ok(all)
                })
                .await?;
        }
        let sweep = |tx: &mut crate::store::write::Tx| {
            idempotency::sweep(tx).map(|more| Audited::without_entry(more, Unaudited::Housekeeping))
        };
        while self.store.write(Stamp::system(now), sweep).await? {}
        self.rotate_signing_key().await
    }

    async fn expire_commands(&self) -> Result<(), Error> {
        let now = self.now();
        let mut after = None;
        loop {
            let keys = commands::open_after(&self.store.snapshot()?, after, STEP)?;
            let Some(last) = keys.last().copied() else { return Ok(()) };
            after = Some(last);
            let snapshot = self.store.snapshot()?;
            let mut due = Vec::new();
            for (organization, device, id) in keys {
                let command = commands::get(&snapshot, organization, device, id)?;
                if command.is_some_and(|command| command.expires_at.is_some_and(|end| end <= now)) {
                    due.push((organization, device, id));
                }
            }
            drop(snapshot);
            if due.is_empty() {
                continue;
            }
            self.store
                .write(Stamp::system(now), move |tx| {
                    let mut all = Audited::without_entry((), Unaudited::Unchanged);
                    for (organization, device, id) in &due {
                        let command = commands::get(tx, *organization, *device, *id)?;
                        let Some(mut command) = command.filter(|command| command.status.is_open()) else { continue };
                        command.status = CommandStatus::Expired;
                        command.completed_at = Some(tx.now());
                        commands::put(tx, &command)?;
                        let event = AuditEvent::failed("device.command.expire").of(*organization);
                        all = all.and(event.on("device", device, "").detail("command_id", id.to_string()));
                    }
                    Ok(all)
                })
                .await?;
        }
    }

    /// Forgets commands that ended long ago, and of a device with very many the oldest.
    pub async fn forget_commands(&self) -> Result<(), Error> {
        if !self.may_remove_lapsed() {
            return Ok(());
        }
        let cutoff = self.now().minus(self.config.devices.command_history);
        let mut place = Some(commands::Place::default());
        while let Some(from) = place {
            let found;
            (found, place) = commands::superseded(&self.store.snapshot()?, from, cutoff, MOST_COMMANDS)?;
            for step in found.chunks(STEP).map(<[_]>::to_vec) {
                let forget = move |tx: &mut crate::store::write::Tx| {
                    commands::forget(tx, &step)?;
                    Ok(Audited::without_entry((), Unaudited::Housekeeping))
                };
                self.store.write(Stamp::system(self.now()), forget).await?;
            }
        }
        Ok(())
    }

    async fn rotate_signing_key(&self) -> Result<(), Error> {
        let now = self.now();
        let old = self.store.memory().directory().signing_keys().to_vec();
        let (life, overlap) = (self.config.auth.signing_key_life, self.config.auth.access_token_life);
        let is_due = old.first().is_some_and(|key| now.since(key.created_at) >= life);
        if !is_due {
            return Ok(());
        }
        let mut keys = vec![tokens::new_signing_key(now)];
        keys.extend(tokens::still_needed(&old, now, overlap));
        self.store
            .write(Stamp::system(now), move |tx| {
                sessions::set_signing_keys(tx, &old, keys.clone())?;
                Ok(Audited::new((), AuditEvent::new("system.signing_key.rotate")))
            })
            .await
    }

    pub async fn write_heartbeats(&self) -> Result<(), Error> {
        self.store.flush_heartbeats(Stamp::system(self.now())).await
    }

    /// Finds out whether a write could be committed, by passing one through the writer.
    pub async fn probe(&self) {
        let probe =
            self.store.write(Stamp::system(self.now()), |_| Ok(Audited::without_entry((), Unaudited::Unchanged)));
        let is_stuck = tokio::time::timeout(WRITE_TIME, probe).await.is_err();
        self.stuck.store(is_stuck, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
