//! Checkpoints of the log, by the hour and when somebody asks for one.

use crate::domain::Services;
use crate::domain::op::Op;
use crate::error::Error;
use crate::model::audit::Checkpoint;
use crate::store::audit::{self, AuditEvent, checkpoints, retention};
use crate::store::write::{Audited, Stamp, Unaudited};

/// Entries let go in one transaction.
const STEP: u64 = 1_000;
/// How much longer than asked for a log may be, as a part of that.
const PART: u64 = 20;
/// How much longer than asked for entries may stay, so that they are let go once a day and not one by one.
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

impl Services {
    pub async fn make_checkpoint(&self, op: &Op) -> Result<Checkpoint, Error> {
        let organization = op.organization_id()?;
        self.store
            .write(op.stamp(), move |tx| {
                let made = checkpoints::make(tx, organization)?;
                let event = AuditEvent::new("audit.checkpoint").detail("seq", made.seq);
                Ok(Audited::new(made.clone(), event.detail("checkpoint_hash", made.hash.to_string())))
            })
            .await
    }

    /// Newest first: how many there are, and those from `offset` on.
    pub fn checkpoints(&self, op: &Op, offset: u64, limit: usize) -> Result<(u64, Vec<Checkpoint>), Error> {
        checkpoints::page(&self.store.snapshot()?, op.organization_id()?, offset, limit)
    }

    /// The Ed25519 key that checkpoints are verified with.
    pub fn checkpoint_key(&self) -> Result<[u8; 32], Error> {
        checkpoints::public_key(&self.store.snapshot()?)
    }

    /// Makes the checkpoints that are due: of each log that has grown since its last one.
    pub async fn checkpoint_logs(&self) -> Result<(), Error> {
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        for organization in organizations {
            if checkpoints::is_current(&self.store.snapshot()?, organization)? {
                continue;
            }
            let make = move |tx: &mut crate::store::write::Tx| {
                if crate::store::organizations::get(tx, organization)?.is_some() {
                    checkpoints::make(tx, organization)?;
                }
                Ok(Audited::without_entry((), Unaudited::Housekeeping))
            };
            self.store.write(Stamp::system(self.now()), make).await?;
        }
        Ok(())
    }

    /// Lets go of what is past its time in the audit logs, in steps.
    pub async fn expire_audit_logs(&self) -> Result<(), Error> {
        if !self.may_remove_lapsed() {
            return Ok(());
        }
        self.shorten_audit_logs().await?;
        if self.config.audit.retention.is_zero() {
            return Ok(());
        }
        let end = self.now().minus(self.config.audit.retention);
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        for organization in organizations {
            let oldest = retention::oldest(&self.store.snapshot()?, organization)?;
            if oldest.is_none_or(|oldest| oldest >= end.minus(DAY)) {
                continue;
            }
            let step = move |tx: &mut crate::store::write::Tx| {
                let event = retention::step(tx, organization, end, STEP)?;
                Ok(match event {
                    Some(event) => Audited::new(true, event),
                    None => Audited::without_entry(false, Unaudited::Unchanged),
                })
            };
            while self.store.write(Stamp::system(self.now()), step).await? {}
        }
        Ok(())
    }

    /// Lets go of the oldest entries of logs that have become too long.
    async fn shorten_audit_logs(&self) -> Result<(), Error> {
        let most = u64::from(self.config.audit.most_entries);
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        for organization in organizations.into_iter().filter(|_| most > 0) {
            let snapshot = self.store.snapshot()?;
            let (last, before) =
                (audit::head(&snapshot, organization)?.seq, retention::anchor(&snapshot, organization)?.seq);
            drop(snapshot);
            // A part at a time, and not one for each that comes.
            if last - before <= most + most / PART {
                continue;
            }
            let step = move |tx: &mut crate::store::write::Tx| {
                Ok(match retention::let_go(tx, organization, last - most, STEP)? {
                    Some(event) => Audited::new(true, event.detail("kept", most)),
                    None => Audited::without_entry(false, Unaudited::Unchanged),
                })
            };
            while self.store.write(Stamp::system(self.now()), step).await? {}
        }
        Ok(())
    }
}
