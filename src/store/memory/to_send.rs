//! The webhooks that have something to send, for whoever sends it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::ids::{OrganizationId, WebhookId};

/// At most one entry for each webhook.
#[derive(Default)]
pub struct ToSend {
    webhooks: Mutex<HashSet<(OrganizationId, WebhookId)>>,
    news: Notify,
}

impl ToSend {
    pub(super) fn add(&self, organization: OrganizationId, webhook: WebhookId) {
        self.webhooks.lock().unwrap_or_else(PoisonError::into_inner).insert((organization, webhook));
        self.news.notify_one();
    }

    /// Those added since the last call; waits until there is one. For one caller at a time.
    pub async fn take(&self) -> HashSet<(OrganizationId, WebhookId)> {
        loop {
            let taken = std::mem::take(&mut *self.webhooks.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.news.notified().await;
        }
    }
}
