//! Webhooks: other systems are told of an organization's events.

mod sending;
pub mod target;

use serde::{Deserialize, Serialize};

use super::op::Op;
use super::{Services, secrets};
use crate::error::{Error, FieldError};
use crate::ids::{DeliveryId, OrganizationId, WebhookId};
use crate::model::webhook::{Delivery, EventName, Webhook, WebhookState};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{outbox, webhooks};

pub use sending::{Answered, Lane, Outgoing, Post, Posting, Tried};

/// Webhooks that an organization may have.
const MOST: u64 = 100;
/// How long a replaced secret goes on to sign beside the new one.
const OVERLAP: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A webhook as it shall be.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    pub url: String,
    pub events: Vec<String>,
    /// Made up when `None`.
    pub secret: Option<String>,
}

/// What to change of a webhook; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    pub url: Option<String>,
    pub events: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// A webhook with what its deliveries have made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShownWebhook {
    pub webhook: Webhook,
    pub state: WebhookState,
}

/// A webhook with its secret, which is shown only now.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedWebhook {
    pub shown: ShownWebhook,
    pub secret: String,
}

impl Services {
    pub async fn create_webhook(&self, op: &Op, new: NewWebhook) -> Result<IssuedWebhook, Error> {
        let organization_id = op.organization_id()?;
        let events = check_events(new.events)?;
        let url = self.targets.check(&new.url).await?;
        let secret = new.secret.unwrap_or_else(make_secret);
        let write = self.store.write(op.stamp(), move |tx| {
            if webhooks::page(tx, organization_id, 0, 0)?.0 >= MOST {
                return Err(Error::Conflict(format!("there are {MOST} webhooks already: delete some first")));
            }
            let (id, now) = (tx.new_id(), tx.now());
            let webhook = Webhook {
                id,
                organization_id,
                url: url.clone(),
                events: events.clone(),
                enabled: true,
                disabled_reason: None,
                secret: webhooks::seal_secret(tx, id, &secret)?,
                previous_secret: None,
                created_at: now,
                updated_at: now,
                revision: 1,
            };
            webhooks::put(tx, webhook.clone())?;
            let event = AuditEvent::new("webhook.create").on("webhook", id, &webhook.url);
            let event = event.detail("events", webhook.events.clone());
            let shown = ShownWebhook { webhook, state: WebhookState::default() };
            Ok(Audited::new(IssuedWebhook { shown, secret: secret.clone() }, event))
        });
        write.await
    }

    /// Newest first: how many there are, and those from `offset` on.
    pub fn webhooks(&self, op: &Op, offset: u64, limit: usize) -> Result<(u64, Vec<ShownWebhook>), Error> {
        let snapshot = self.store.snapshot()?;
        let (total, found) = webhooks::page(&snapshot, op.organization_id()?, offset, limit)?;
        let shown = found.into_iter().map(|webhook| show(&snapshot, webhook));
        Ok((total, shown.collect::<Result<_, _>>()?))
    }

    pub fn webhook(&self, op: &Op, id: WebhookId) -> Result<ShownWebhook, Error> {
        let snapshot = self.store.snapshot()?;
        show(&snapshot, find(&snapshot, op.organization_id()?, id)?)
    }

    pub async fn change_webhook(
        &self,
        op: &Op,
        id: WebhookId,
        change: WebhookChange,
        revision: Option<u64>,
    ) -> Result<ShownWebhook, Error> {
        let organization = op.organization_id()?;
        // Another organization's webhook is none, whatever is wrong with the change.
        find(&self.store.snapshot()?, organization, id)?;
        let events = change.events.map(check_events).transpose()?;
        let url = match &change.url {
            Some(url) => Some(self.targets.check(url).await?),
            None => None,
        };
        let write = self.store.write(op.stamp(), move |tx| {
            let before = find_at(tx, organization, id, revision)?;
            let mut webhook = before.clone();
            let mut event = AuditEvent::new("webhook.update");
            if let Some(url) = url.clone().filter(|url| *url != before.url) {
                event = event.detail("url", format!("{} → {url}", before.url));
                webhook.url = url;
            }
            if let Some(events) = events.clone().filter(|events| *events != before.events) {
                event = event.detail("events", events.clone());
                webhook.events = events;
            }
            if let Some(enabled) = change.enabled.filter(|enabled| *enabled != before.enabled) {
                event = event.detail("enabled", enabled);
                webhook.enabled = enabled;
                webhook.disabled_reason = None;
            }
            if webhook == before {
                return Ok(Audited::without_entry(show(tx, webhook)?, Unaudited::Unchanged));
            }
            let is_new_start = webhook.url != before.url || webhook.enabled && !before.enabled;
            let mut state = webhooks::state(tx, organization, id)?;
            if is_new_start && state.failing_since.take().is_some() {
                webhooks::put_state(tx, organization, id, &state)?;
            }
            revise(tx, &mut webhook)?;
            let event = event.on("webhook", id, &webhook.url);
            Ok(Audited::new(ShownWebhook { webhook, state }, event))
        });
        write.await
    }

    pub async fn delete_webhook(&self, op: &Op, id: WebhookId, revision: Option<u64>) -> Result<(), Error> {
        let organization = op.organization_id()?;
        let write = self.store.write(op.stamp(), move |tx| {
            let webhook = find_at(tx, organization, id, revision)?;
            let pending = webhooks::state(tx, organization, id)?.pending;
            webhooks::delete(tx, organization, id)?;
            let event = AuditEvent::new("webhook.delete").on("webhook", id, &webhook.url);
            Ok(Audited::new((), event.detail("pending_deliveries", pending)))
        });
        write.await
    }

    /// Replaces the secret that deliveries are signed with; the one before signs as well for another day.
    pub async fn rotate_webhook_secret(
        &self,
        op: &Op,
        id: WebhookId,
        secret: Option<String>,
        revision: Option<u64>,
    ) -> Result<IssuedWebhook, Error> {
        let organization = op.organization_id()?;
        let secret = secret.unwrap_or_else(make_secret);
        let write = self.store.write(op.stamp(), move |tx| {
            let mut webhook = find_at(tx, organization, id, revision)?;
            let new = webhooks::seal_secret(tx, id, &secret)?;
            let until = tx.now().plus(OVERLAP);
            webhook.previous_secret = Some((std::mem::replace(&mut webhook.secret, new), until));
            revise(tx, &mut webhook)?;
            let event = AuditEvent::new("webhook.rotate").on("webhook", id, &webhook.url);
            let event = event.detail("previous_signs_until", until.to_string());
            let shown = show(tx, webhook)?;
            Ok(Audited::new(IssuedWebhook { shown, secret: secret.clone() }, event))
        });
        write.await
    }

    /// Sends the webhook a `webhook.test`, whatever events it asks for.
    pub async fn test_webhook(&self, op: &Op, id: WebhookId) -> Result<Delivery, Error> {
        let organization = op.organization_id()?;
        let write = self.store.write(op.stamp(), move |tx| {
            let webhook = find_enabled(tx, organization, id)?;
            let delivery = outbox::add_test(tx, organization, id)?;
            let event = AuditEvent::new("webhook.test").on("webhook", id, &webhook.url);
            let event = event.detail("delivery_id", delivery.id.to_string());
            Ok(Audited::new(delivery, event))
        });
        write.await
    }

    /// Newest first: how many there are, and those from `offset` on.
    pub fn deliveries(&self, op: &Op, id: WebhookId, offset: u64, limit: usize) -> Result<(u64, Vec<Delivery>), Error> {
        let snapshot = self.store.snapshot()?;
        let webhook = find(&snapshot, op.organization_id()?, id)?;
        outbox::page(&snapshot, webhook.organization_id, id, offset, limit)
    }

    /// Sends a delivery again under its id; one that waits is tried at once.
    pub async fn redeliver(&self, op: &Op, id: WebhookId, delivery: DeliveryId) -> Result<Delivery, Error> {
        let organization = op.organization_id()?;
        let write = self.store.write(op.stamp(), move |tx| {
            let found = find(tx, organization, id).and_then(|_| outbox::get(tx, organization, id, delivery))?;
            let again = found.ok_or(Error::NotFound("delivery"))?;
            let webhook = find_enabled(tx, organization, id)?;
            let again = outbox::send_again(tx, organization, id, again)?;
            let event = AuditEvent::new("webhook.redeliver").on("webhook", id, &webhook.url);
            let event = event.detail("delivery_id", delivery.to_string()).detail("event", again.event.as_str());
            Ok(Audited::new(again, event))
        });
        write.await
    }
}

fn find(from: &impl Read, organization: OrganizationId, id: WebhookId) -> Result<Webhook, Error> {
    webhooks::get(from, organization, id)?.ok_or(Error::NotFound("webhook"))
}

fn find_at(from: &impl Read, organization: OrganizationId, id: WebhookId, at: Option<u64>) -> Result<Webhook, Error> {
    let webhook = find(from, organization, id)?;
    if at.is_some_and(|revision| revision != webhook.revision) { Err(Error::Stale) } else { Ok(webhook) }
}

fn find_enabled(from: &impl Read, organization: OrganizationId, id: WebhookId) -> Result<Webhook, Error> {
    let webhook = find(from, organization, id)?;
    if webhook.enabled { Ok(webhook) } else { Err(Error::Conflict("this webhook is disabled".into())) }
}

fn show(from: &impl Read, webhook: Webhook) -> Result<ShownWebhook, Error> {
    let state = webhooks::state(from, webhook.organization_id, webhook.id)?;
    Ok(ShownWebhook { webhook, state })
}

/// Stores the webhook as its next revision.
fn revise(tx: &mut Tx, webhook: &mut Webhook) -> Result<(), Error> {
    webhook.updated_at = tx.now();
    webhook.revision += 1;
    webhooks::put(tx, webhook.clone())
}

fn make_secret() -> String {
    secrets::make(secrets::WEBHOOK).0
}

/// Each asks for an event that there is, and none twice.
fn check_events(events: Vec<String>) -> Result<Vec<String>, Error> {
    let mut errors = Vec::new();
    for (at, asked) in events.iter().enumerate() {
        if !EventName::ALL.iter().any(|event| event.matches(asked)) {
            let all: Vec<_> = EventName::ALL.iter().map(|event| event.as_str()).collect();
            let what = format!("is no event: there are {}; * is all, device.* those of devices", all.join(", "));
            errors.push(FieldError::new(format!("events[{at}]"), what));
        } else if events[..at].contains(asked) {
            errors.push(FieldError::new(format!("events[{at}]"), "is there already"));
        }
    }
    if errors.is_empty() { Ok(events) } else { Err(Error::Invalid(errors)) }
}

#[cfg(test)]
mod tests;
