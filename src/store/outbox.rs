//! The outbox: what webhooks are told is written in the transaction that it tells of, and leaves only once it has been
//! received, so that no event is lost to a crash, a full queue says so, and a receiver may be away for a while.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::audit::{self, AuditEvent};
use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{DELIVERIES, DUE_DELIVERIES, ENDED_DELIVERIES, KeyRange};
use super::write::Tx;
use super::{users, webhooks};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{DeliveryId, OrganizationId, UserId, WebhookId};
use crate::model::audit::Actor;
use crate::model::webhook::{Delivery, DeliveryState, EventName};

mod events;

pub use events::named;

/// Deliveries that one webhook may have waiting. The newest event finds no place then: those before it lead up to it.
pub const MOST_PENDING: u64 = 10_000;
/// Deliveries of one webhook that are kept once they have ended.
pub const MOST_ENDED: u64 = 1_000;

/// Tells the organization's webhooks of what the audit log is told, where it is an event of theirs; of a person whose
/// data is not to be processed, nothing.
pub(super) fn publish(
    tx: &mut Tx,
    organization: OrganizationId,
    entry: &AuditEvent,
    person: Option<UserId>,
) -> Result<(), Error> {
    let Some(event) = events::named(entry.action, &entry.details, entry.result) else { return Ok(()) };
    let subscribers = tx.subscribers(organization, event);
    if subscribers.is_empty() {
        return Ok(());
    }
    if is_restricted(tx, organization, person)? {
        return Ok(());
    }
    let body = events::body(event, tx.now(), events::data(tx, organization, event, entry)?)?;
    for id in subscribers {
        // One that was deleted a moment ago has no rows, and gets none.
        if let Some(webhook) = webhooks::get(tx, organization, id)?.filter(|webhook| webhook.enabled)
            && add(tx, organization, id, event, body.clone(), person)?.is_none()
        {
            note_overflow(tx, organization, id, &webhook.url)?;
        }
    }
    Ok(())
}

fn is_restricted(from: &impl Read, organization: OrganizationId, person: Option<UserId>) -> Result<bool, Error> {
    let Some(person) = person else { return Ok(false) };
    Ok(users::get(from, organization, person)?.is_some_and(|user| user.privacy.is_restricted()))
}

/// Puts a `webhook.test` for this webhook alone into the outbox.
pub fn add_test(tx: &mut Tx, organization: OrganizationId, id: WebhookId) -> Result<Delivery, Error> {
    let data = events::of_webhook(id);
    let body = events::body(EventName::WebhookTest, tx.now(), data)?;
    add(tx, organization, id, EventName::WebhookTest, body, None)?.ok_or_else(is_full)
}

fn is_full() -> Error {
    Error::Conflict(format!("{MOST_PENDING} deliveries wait for this webhook already"))
}

/// `None` when the queue is full.
fn add(
    tx: &mut Tx,
    organization: OrganizationId,
    webhook: WebhookId,
    event: EventName,
    body: String,
    person: Option<UserId>,
) -> Result<Option<Delivery>, Error> {
    let mut state = webhooks::state(tx, organization, webhook)?;
    if state.pending >= MOST_PENDING || tx.require_space().is_err() {
        return Ok(None);
    }
    let now = tx.now();
    let delivery = Delivery {
        id: tx.new_id(),
        event,
        body,
        person,
        created_at: now,
        state: DeliveryState::Pending,
        queued_at: now,
        next_attempt_at: Some(now),
        finished_at: None,
        tries: 0,
        attempts: Vec::new(),
    };
    state.pending += 1;
    webhooks::put_state(tx, organization, webhook, &state)?;
    put_pending(tx, organization, webhook, &delivery, now)?;
    tx.effect(Effect::ToSend(organization, webhook));
    Ok(Some(delivery))
}

/// Counts an event that was not queued. The log is told of the first, until the queue is down to half.
fn note_overflow(tx: &mut Tx, organization: OrganizationId, id: WebhookId, url: &str) -> Result<(), Error> {
    let mut state = webhooks::state(tx, organization, id)?;
    state.dropped += 1;
    let is_first = !std::mem::replace(&mut state.is_overflowing, true);
    webhooks::put_state(tx, organization, id, &state)?;
    if is_first {
        let event = AuditEvent::failed("webhook.overflow").of(organization).by(Actor::system());
        audit::append(tx, event.on("webhook", id, url).detail("pending", MOST_PENDING))?;
    }
    Ok(())
}

fn put_pending(
    tx: &mut Tx,
    organization: OrganizationId,
    webhook: WebhookId,
    delivery: &Delivery,
    due: Time,
) -> Result<(), Error> {
    tx.put(DELIVERIES, &(organization, webhook, delivery.id), delivery)?;
    tx.put(DUE_DELIVERIES, &(organization, webhook, (due.unix().unsigned_abs(), delivery.id)), &())
}

pub fn get(
    from: &impl Read,
    organization: OrganizationId,
    webhook: WebhookId,
    id: DeliveryId,
) -> Result<Option<Delivery>, Error> {
    DELIVERIES.get(from, &(organization, webhook, id))
}

/// Newest first: the number of deliveries, and the part from `offset` on.
pub fn page(
    from: &impl Read,
    organization: OrganizationId,
    webhook: WebhookId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<Delivery>), Error> {
    DELIVERIES.page(from, KeyRange::prefix(&(organization, webhook)), Direction::Descending, offset, limit)
}

/// What of a webhook's queue can be sent.
#[derive(Debug, Default)]
pub struct Due {
    /// Oldest first.
    pub ready: Vec<Delivery>,
    /// When the next one is, beside those.
    pub next: Option<Time>,
}

/// At most `limit` deliveries that are due, without those `taken`.
pub fn due(
    from: &impl Read,
    organization: OrganizationId,
    webhook: WebhookId,
    now: Time,
    taken: &HashSet<DeliveryId>,
    limit: usize,
) -> Result<Due, Error> {
    let mut due = Due::default();
    let mut ids = Vec::new();
    let range = KeyRange::prefix(&(organization, webhook));
    DUE_DELIVERIES.scan(from, range, Direction::Ascending, |(_, _, (at, id)), ()| {
        if taken.contains(&id) {
            return ControlFlow::Continue(());
        }
        let at = Time::from_unix(at.cast_signed());
        if at > now || ids.len() == limit {
            due.next = Some(at);
            return ControlFlow::Break(());
        }
        ids.push(id);
        ControlFlow::Continue(())
    })?;
    for id in ids {
        due.ready.extend(get(from, organization, webhook, id)?);
    }
    Ok(due)
}

/// Stores a pending delivery that is tried again at `at`.
pub fn postpone(
    tx: &mut Tx,
    organization: OrganizationId,
    webhook: WebhookId,
    mut delivery: Delivery,
    at: Time,
) -> Result<(), Error> {
    take_from_queue(tx, organization, webhook, &delivery)?;
    delivery.next_attempt_at = Some(at);
    put_pending(tx, organization, webhook, &delivery, at)
}

/// Ends a pending delivery. Past the most that are kept, the oldest that has ended is forgotten.
pub fn end(
    tx: &mut Tx,
    organization: OrganizationId,
    webhook: WebhookId,
    mut delivery: Delivery,
    state: DeliveryState,
) -> Result<(), Error> {
    take_from_queue(tx, organization, webhook, &delivery)?;
    delivery.state = state;
    delivery.next_attempt_at = None;
    delivery.finished_at = Some(tx.now());
    let key = (organization, webhook, delivery.id);
    tx.put(DELIVERIES, &key, &delivery)?;
    tx.put(ENDED_DELIVERIES, &key, &tx.now().unix())?;
    let mut state = webhooks::state(tx, organization, webhook)?;
    state.pending = state.pending.saturating_sub(1);
    state.is_overflowing &= state.pending > MOST_PENDING / 2;
    state.finished += 1;
    webhooks::put_state(tx, organization, webhook, &state)?;
    if state.finished > MOST_ENDED {
        let mut oldest = None;
        let range = KeyRange::prefix(&(organization, webhook));
        ENDED_DELIVERIES.scan(tx, range, Direction::Ascending, |(.., id), _| {
            oldest = Some(id);
            ControlFlow::Break(())
        })?;
        if let Some(id) = oldest {
            forget(tx, organization, webhook, id)?;
        }
    }
    Ok(())
}

/// Puts a delivery back into the queue as if it were new, under the same id.
///
/// # Errors
/// Conflict when the queue is full.
pub fn send_again(
    tx: &mut Tx,
    organization: OrganizationId,
    webhook: WebhookId,
    mut delivery: Delivery,
) -> Result<Delivery, Error> {
    if is_restricted(tx, organization, delivery.person)? {
        return Err(Error::Conflict("it is about a person whose data is not to be processed: see restricted".into()));
    }
    let now = tx.now();
    if delivery.state == DeliveryState::Pending {
        take_from_queue(tx, organization, webhook, &delivery)?;
    } else {
        let mut state = webhooks::state(tx, organization, webhook)?;
        if state.pending >= MOST_PENDING {
            return Err(is_full());
        }
        state.pending += 1;
        state.finished = state.finished.saturating_sub(1);
        webhooks::put_state(tx, organization, webhook, &state)?;
        tx.delete(ENDED_DELIVERIES, &(organization, webhook, delivery.id))?;
    }
    delivery.state = DeliveryState::Pending;
    (delivery.queued_at, delivery.next_attempt_at) = (now, Some(now));
    (delivery.finished_at, delivery.tries) = (None, 0);
    put_pending(tx, organization, webhook, &delivery, now)?;
    tx.effect(Effect::ToSend(organization, webhook));
    Ok(delivery)
}

fn take_from_queue(
    tx: &mut Tx,
    organization: OrganizationId,
    webhook: WebhookId,
    delivery: &Delivery,
) -> Result<(), Error> {
    if let Some(at) = delivery.next_attempt_at {
        tx.delete(DUE_DELIVERIES, &(organization, webhook, (at.unix().unsigned_abs(), delivery.id)))?;
    }
    Ok(())
}

/// Removes a delivery that has ended.
fn forget(tx: &mut Tx, organization: OrganizationId, webhook: WebhookId, id: DeliveryId) -> Result<(), Error> {
    tx.delete(DELIVERIES, &(organization, webhook, id))?;
    if tx.delete(ENDED_DELIVERIES, &(organization, webhook, id))? {
        let mut state = webhooks::state(tx, organization, webhook)?;
        state.finished = state.finished.saturating_sub(1);
        webhooks::put_state(tx, organization, webhook, &state)?;
    }
    Ok(())
}

/// At most `limit` deliveries that ended before `cutoff`.
pub fn ended_before(
    from: &impl Read,
    cutoff: Time,
    limit: usize,
) -> Result<Vec<(OrganizationId, WebhookId, DeliveryId)>, Error> {
    let mut found = Vec::new();
    ENDED_DELIVERIES.scan(from, KeyRange::all(), Direction::Ascending, |key, at| {
        if at < cutoff.unix() {
            found.push(key);
        }
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// Removes these deliveries, unless they have been sent again meanwhile.
pub fn forget_ended(tx: &mut Tx, ended: &[(OrganizationId, WebhookId, DeliveryId)]) -> Result<(), Error> {
    for key @ (organization, webhook, id) in ended {
        if ENDED_DELIVERIES.contains(tx, key)? {
            forget(tx, *organization, *webhook, *id)?;
        }
    }
    Ok(())
}

/// Ends what waits to be sent about the user, whose data is not to be processed from now on.
pub fn withhold(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<(), Error> {
    let mut found = Vec::new();
    DELIVERIES.scan(tx, KeyRange::prefix(&organization), Direction::Ascending, |(_, webhook, _), delivery| {
        if delivery.person == Some(user) && delivery.state == DeliveryState::Pending {
            found.push((webhook, delivery));
        }
        ControlFlow::Continue(())
    })?;
    for (webhook, delivery) in found {
        end(tx, organization, webhook, delivery, DeliveryState::Failed)?;
    }
    Ok(())
}

/// Leaves nothing of the user in the outbox: what was sent of them is removed, what waits loses their name and those of
/// their devices. Tells how many deliveries that were.
pub fn erase_user(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<u64, Error> {
    let mut found = Vec::new();
    DELIVERIES.scan(tx, KeyRange::prefix(&organization), Direction::Ascending, |(_, webhook, _), delivery| {
        if delivery.person == Some(user) {
            found.push((webhook, delivery));
        }
        ControlFlow::Continue(())
    })?;
    let count = found.len() as u64;
    for (webhook, mut delivery) in found {
        if delivery.state == DeliveryState::Pending {
            delivery.body = events::without_names(&delivery.body)?;
            delivery.attempts.iter_mut().for_each(|attempt| attempt.answer.clear());
            tx.put(DELIVERIES, &(organization, webhook, delivery.id), &delivery)?;
        } else {
            forget(tx, organization, webhook, delivery.id)?;
        }
    }
    Ok(count)
}
