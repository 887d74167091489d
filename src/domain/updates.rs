//! Updates of the appliance itself: who may ask for one, where it has come to, and what the audit log says of it.
//! [`crate::app`] makes them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::Services;
use super::authz::Permission;
use super::op::{Op, without_idempotency};
use crate::error::Error;
use crate::model::update::{UpdateOutcome, UpdateResult, UpdateStep};
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Stamp};

/// A bundle, at most, in bytes.
pub const LARGEST: u64 = 256 << 20;

/// A request for an update, on its way to the task that makes them.
pub struct Asked {
    pub stamp: Stamp,
    /// The bundle as it came. Whoever makes the update removes it.
    pub bundle: PathBuf,
    /// Answered once the bundle is found good, or refused.
    pub answer: oneshot::Sender<Result<UnderWay, Error>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    pub id: String,
    pub to: String,
    pub step: UpdateStep,
}

/// Which version serves, and what is known of updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub version: String,
    /// Whether there is a key that updates can be checked with.
    pub has_key: bool,
    pub under_way: Option<UnderWay>,
    pub last: Option<UpdateOutcome>,
}

pub struct Updates {
    asked: mpsc::Sender<Asked>,
    waiting: Mutex<mpsc::Receiver<Asked>>,
    progress: watch::Sender<Progress>,
    switch: watch::Sender<bool>,
}

impl Updates {
    pub fn new(version: String, has_key: bool, last: Option<UpdateOutcome>) -> Self {
        // One at a time: whoever asks while one is under way is told so.
        let (asked, waiting) = mpsc::channel(1);
        let progress = watch::Sender::new(Progress { version, has_key, under_way: None, last });
        Self { asked, waiting: Mutex::new(waiting), progress, switch: watch::Sender::new(false) }
    }

    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The next request for an update.
    pub async fn asked(&self) -> Option<Asked> {
        self.waiting.lock().await.recv().await
    }

    pub fn set_under_way(&self, under_way: UnderWay) {
        self.progress.send_modify(|progress| progress.under_way = Some(under_way));
    }

    pub fn set_ended(&self, outcome: UpdateOutcome) {
        self.progress.send_modify(|progress| {
            progress.under_way = None;
            progress.last = Some(outcome);
        });
    }

    /// Everything is ready for the new version to take over.
    pub fn switch(&self) {
        self.switch.send_replace(true);
    }

    /// Waits until the new version is to take over.
    pub async fn switching(&self) {
        // The sender is `self`'s own.
        let mut switch = self.switch.subscribe();
        let _ = switch.wait_for(|switch| *switch).await;
    }
}

impl Services {
    /// Has the bundle checked, and the update begun when it is good.
    ///
    /// # Errors
    /// What is wrong with the bundle; that an update is under way already.
    pub async fn request_update(&self, op: &Op, bundle: PathBuf) -> Result<UnderWay, Error> {
        op.require(Permission::SystemAdmin)?;
        self.ask_for_update(without_idempotency(op.stamp()), bundle).await
    }

    /// The same for whoever is at the machine.
    pub async fn ask_for_update(&self, stamp: Stamp, bundle: PathBuf) -> Result<UnderWay, Error> {
        let (answer, answered) = oneshot::channel();
        let busy = || Error::Conflict("an update is under way already: GET /api/v1/system/update shows it".into());
        if !self.is_set_up() {
            return Err(Error::Conflict("the appliance is not set up: start the newer version on it instead".into()));
        }
        if self.updates.progress.borrow().under_way.is_some() {
            return Err(busy());
        }
        self.updates.asked.try_send(Asked { stamp, bundle, answer }).map_err(|_| busy())?;
        let stopped = |_| Error::Unavailable {
            message: "the appliance stops: nothing was updated".into(),
            retry_after: std::time::Duration::from_secs(30),
        };
        answered.await.map_err(stopped)?
    }

    pub fn update_progress(&self, op: &Op) -> Result<Progress, Error> {
        op.require(Permission::SystemAdmin)?;
        Ok(self.updates.progress())
    }

    pub async fn note_update_refused(&self, stamp: Stamp, reason: String) -> Result<(), Error> {
        let event = move || AuditEvent::failed("system.update.refused").detail("reason", reason.clone());
        self.store.write(stamp, move |_| Ok(Audited::new((), event()))).await
    }

    pub async fn note_update_started(&self, stamp: Stamp, to: String) -> Result<(), Error> {
        let from = self.updates.progress().version;
        let event =
            move || AuditEvent::new("system.update.started").detail("from", from.clone()).detail("version", to.clone());
        self.store.write(stamp, move |_| Ok(Audited::new((), event()))).await
    }

    /// Says in the audit log how an update has ended.
    pub async fn note_update_ended(&self, outcome: UpdateOutcome) -> Result<(), Error> {
        let event = move || {
            let UpdateOutcome { from, to, result, reason, .. } = outcome.clone();
            let event = match result {
                UpdateResult::Updated => AuditEvent::new("system.update.finished"),
                UpdateResult::Undone => AuditEvent::failed("system.update.undone"),
            };
            let event = event.detail("from", from).detail("version", to);
            match reason {
                Some(reason) => event.detail("reason", reason),
                None => event,
            }
        };
        self.store.write(Stamp::system(self.now()), move |_| Ok(Audited::new((), event()))).await
    }
}
