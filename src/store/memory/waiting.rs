//! Check-ins that are held open until there is something new for their device.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::ids::{DeviceId, OrganizationId};

/// At most one entry for each connection that waits.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<DeviceId, Waited>>);

struct Waited {
    organization: OrganizationId,
    /// Of the settings in force when it was last told.
    fingerprint: u128,
    news: watch::Sender<()>,
}

impl Waiting {
    pub fn add(&self, organization: OrganizationId, device: DeviceId, fingerprint: u128) -> Waiter<'_> {
        let mut waiting = self.lock();
        let waited =
            waiting.entry(device).or_insert_with(|| Waited { organization, fingerprint, news: watch::Sender::new(()) });
        Waiter { waiting: self, device, news: Some(waited.news.subscribe()) }
    }

    pub fn wake(&self, device: DeviceId) {
        if let Some(waited) = self.lock().get(&device) {
            waited.news.send_replace(());
        }
    }

    /// Wakes those of the organization whose settings are not what they were.
    pub fn wake_changed(&self, organization: OrganizationId, fingerprint: impl Fn(DeviceId) -> u128) {
        for (device, waited) in self.lock().iter_mut().filter(|(_, waited)| waited.organization == organization) {
            let now = fingerprint(*device);
            if now != waited.fingerprint {
                waited.fingerprint = now;
                waited.news.send_replace(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Waited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One check-in that is held open.
pub struct Waiter<'a> {
    waiting: &'a Waiting,
    device: DeviceId,
    news: Option<watch::Receiver<()>>,
}

impl Waiter<'_> {
    pub async fn woken(&mut self) {
        if let Some(news) = &mut self.news {
            // The sender stays in the map as long as this receiver exists.
            let _ = news.changed().await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        self.news = None;
        if waiting.get(&self.device).is_some_and(|waited| waited.news.receiver_count() == 0) {
            waiting.remove(&self.device);
        }
    }
}
