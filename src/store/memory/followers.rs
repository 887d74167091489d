//! Whoever follows an organization's audit log.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::ids::OrganizationId;

/// The newest entry's number, for each organization that has ever been followed.
#[derive(Default)]
pub(super) struct Followers {
    each: Mutex<HashMap<OrganizationId, watch::Sender<u64>>>,
    /// For whoever follows all of them.
    all: watch::Sender<()>,
}

impl Followers {
    pub fn add(&self, organization: OrganizationId) -> watch::Receiver<u64> {
        self.lock().entry(organization).or_default().subscribe()
    }

    pub fn of_all(&self) -> watch::Receiver<()> {
        self.all.subscribe()
    }

    pub fn tell(&self, organization: OrganizationId, seq: u64) {
        if let Some(followed) = self.lock().get(&organization) {
            followed.send_replace(seq);
        }
        self.all.send_replace(());
    }

    pub fn forget(&self, organization: OrganizationId) {
        self.lock().remove(&organization);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrganizationId, watch::Sender<u64>>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
