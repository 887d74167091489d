//! Who is told of what.

use std::collections::{BTreeMap, HashMap};

use crate::ids::{OrganizationId, WebhookId};
use crate::model::webhook::{EventName, Webhook};

/// The enabled webhooks of each organization that has any, with the events that they ask for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Webhooks(HashMap<OrganizationId, BTreeMap<WebhookId, Vec<String>>>);

impl Webhooks {
    pub fn subscribers(&self, organization: OrganizationId, event: EventName) -> Vec<WebhookId> {
        let all = self.0.get(&organization).into_iter().flatten();
        all.filter(|(_, asked)| asked.iter().any(|pattern| event.matches(pattern))).map(|(id, _)| *id).collect()
    }

    pub fn put(&mut self, webhook: Webhook) {
        if webhook.enabled {
            self.0.entry(webhook.organization_id).or_default().insert(webhook.id, webhook.events);
        } else {
            self.remove(webhook.organization_id, webhook.id);
        }
    }

    pub fn remove(&mut self, organization: OrganizationId, id: WebhookId) {
        if let Some(webhooks) = self.0.get_mut(&organization) {
            webhooks.remove(&id);
            if webhooks.is_empty() {
                self.0.remove(&organization);
            }
        }
    }

    pub fn forget(&mut self, organization: OrganizationId) {
        self.0.remove(&organization);
    }
}
