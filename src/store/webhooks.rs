use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::seal;
use super::tables::{DELIVERIES, DUE_DELIVERIES, ENDED_DELIVERIES, KeyRange, WEBHOOK_STATES, WEBHOOKS};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, WebhookId};
use crate::model::sealed::Sealed;
use crate::model::webhook::{Webhook, WebhookState};

/// What the secrets that sign deliveries are sealed for.
const PURPOSE: &[u8] = b"webhook";

pub fn get(from: &impl Read, organization: OrganizationId, id: WebhookId) -> Result<Option<Webhook>, Error> {
    WEBHOOKS.get(from, &(organization, id))
}

pub fn state(from: &impl Read, organization: OrganizationId, id: WebhookId) -> Result<WebhookState, Error> {
    Ok(WEBHOOK_STATES.get(from, &(organization, id))?.unwrap_or_default())
}

/// Newest first: the number of webhooks, and the part from `offset` on.
pub fn page(
    from: &impl Read,
    organization: OrganizationId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<Webhook>), Error> {
    WEBHOOKS.page(from, KeyRange::prefix(&organization), Direction::Descending, offset, limit)
}

/// Stores a webhook, new or changed. What waits for it is looked at anew.
pub fn put(tx: &mut Tx, webhook: Webhook) -> Result<(), Error> {
    let key = (webhook.organization_id, webhook.id);
    if tx.get(WEBHOOKS, &key)?.is_none() {
        tx.require_space()?;
    }
    tx.put(WEBHOOKS, &key, &webhook)?;
    tx.effect(Effect::ToSend(key.0, key.1));
    tx.effect(Effect::Webhook(webhook));
    Ok(())
}

pub fn put_state(tx: &mut Tx, organization: OrganizationId, id: WebhookId, state: &WebhookState) -> Result<(), Error> {
    tx.put(WEBHOOK_STATES, &(organization, id), state)
}

/// Removes the webhook with its deliveries.
pub fn delete(tx: &mut Tx, organization: OrganizationId, id: WebhookId) -> Result<(), Error> {
    tx.delete(WEBHOOKS, &(organization, id))?;
    tx.delete(WEBHOOK_STATES, &(organization, id))?;
    for table in [DELIVERIES.name, DUE_DELIVERIES.name, ENDED_DELIVERIES.name] {
        tx.delete_range(table, &KeyRange::prefix(&(organization, id)))?;
    }
    tx.effect(Effect::WebhookGone(organization, id));
    Ok(())
}

pub fn seal_secret(from: &impl Read, id: WebhookId, secret: &str) -> Result<Sealed, Error> {
    seal::seal(from, PURPOSE, id.as_bytes(), secret.as_bytes().to_vec())
}

pub fn open_secret(from: &impl Read, id: WebhookId, sealed: Sealed) -> Result<Vec<u8>, Error> {
    seal::open(from, PURPOSE, id.as_bytes(), sealed)
}

/// Webhooks that are enabled and that are not, and the states of all.
pub fn overview(from: &impl Read) -> Result<(u64, u64, Vec<WebhookState>), Error> {
    let (mut enabled, mut disabled, mut states) = (0, 0, Vec::new());
    WEBHOOKS.scan(from, KeyRange::all(), Direction::Ascending, |_, webhook| {
        if webhook.enabled {
            enabled += 1
        } else {
            disabled += 1
        }
        ControlFlow::Continue(())
    })?;
    WEBHOOK_STATES.scan(from, KeyRange::all(), Direction::Ascending, |_, state| {
        states.push(state);
        ControlFlow::Continue(())
    })?;
    Ok((enabled, disabled, states))
}
