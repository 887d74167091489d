//! What leaves the outbox, and what becomes of it. The network is not here: it is given what to send, and tells how it
//! went.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use ring::hmac;

use crate::clock::Time;
use crate::domain::Services;
use crate::error::Error;
use crate::ids::{DeliveryId, OrganizationId, WebhookId, fill_random};
use crate::model::audit::Actor;
use crate::model::webhook::{Attempt, DeliveryState, Webhook};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Stamp, Tx, Unaudited};
use crate::store::{outbox, webhooks};

/// How long a delivery is tried.
const RETRIED: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an endpoint may do nothing but fail.
const TOLERATED: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// The longest wait between two attempts.
const LONGEST_WAIT: u64 = 60 * 60;
/// Attempts that are remembered of a delivery.
const REMEMBERED: usize = 5;
/// Bytes of an answer that are remembered.
const ANSWER: usize = 1024;
/// How long a delivery is kept once it has ended.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The answer of a receiver that wants no more.
const GONE: u16 = 410;
/// Requests to one webhook at a time. One that has not delivered lately gets one at a time.
const AT_ONCE: usize = 4;
/// Attempts at deliveries to one webhook that are under way or whose end is not written yet.
const UNWRITTEN: usize = 64;
/// Deliveries forgotten in one transaction.
const STEP: usize = 500;

/// A POST request that is ready to go.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub delivery: DeliveryId,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// What a receiver has answered.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    /// The beginning of the answer.
    pub body: Vec<u8>,
}

/// One attempt at a delivery.
#[derive(Clone, Debug)]
pub struct Tried {
    pub delivery: DeliveryId,
    pub at: Time,
    pub duration: Duration,
    /// The answer, or why there is none.
    pub answer: Result<Answered, String>,
}

impl Tried {
    pub fn is_delivered(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| complaint(answer.status).is_none())
    }
}

pub type Posting = Pin<Box<dyn Future<Output = Result<Answered, String>> + Send>>;
/// Sends a request within 10 seconds, and tells what was answered.
pub type Post = dyn Fn(Outgoing) -> Posting + Send + Sync;

/// What one webhook has to send.
#[derive(Debug)]
pub struct Lane {
    pub ready: Vec<Outgoing>,
    /// When there is more, beside those; `None` when nothing else waits.
    pub next: Option<Time>,
    /// Its last attempt has succeeded.
    pub is_proven: bool,
}

impl Services {
    /// The webhooks that have something to send since the last call; waits until there is one.
    pub async fn to_send(&self) -> HashSet<(OrganizationId, WebhookId)> {
        self.store.memory().to_send().take().await
    }

    /// The next requests of the webhook beside those `taken`, of which so many are `under_way` and the end of the others
    /// is not written yet; `None` when it is gone or disabled.
    pub fn lane(
        &self,
        organization: OrganizationId,
        id: WebhookId,
        taken: &HashSet<DeliveryId>,
        under_way: usize,
    ) -> Result<Option<Lane>, Error> {
        let snapshot = self.store.snapshot()?;
        let Some(webhook) = webhooks::get(&snapshot, organization, id)?.filter(|webhook| webhook.enabled) else {
            return Ok(None);
        };
        let state = webhooks::state(&snapshot, organization, id)?;
        let is_proven = state.failing_since.is_none() && state.last_delivered_at.is_some();
        let limit = match is_proven {
            true => AT_ONCE.saturating_sub(under_way).min(UNWRITTEN.saturating_sub(taken.len())),
            false => 1_usize.saturating_sub(taken.len()),
        };
        let due = outbox::due(&snapshot, organization, id, self.now(), taken, limit)?;
        let signer = Signer::of(&snapshot, &webhook, self.now())?;
        let requests = due.ready.into_iter().map(|delivery| {
            let mut headers = vec![
                ("x-zero-event", delivery.event.as_str().to_owned()),
                ("x-zero-delivery", delivery.id.to_string()),
                ("x-zero-timestamp", delivery.created_at.to_string()),
            ];
            headers.extend(signer.sign(delivery.body.as_bytes()));
            Outgoing { delivery: delivery.id, url: webhook.url.clone(), headers, body: delivery.body }
        });
        Ok(Some(Lane { ready: requests.collect(), next: due.next, is_proven }))
    }

    /// Writes down how attempts went, and what follows from it.
    pub async fn record_attempts(
        &self,
        organization: OrganizationId,
        id: WebhookId,
        tried: Vec<Tried>,
    ) -> Result<(), Error> {
        let write = self.store.write(Stamp::system(self.now()), move |tx| {
            let Some(webhook) = webhooks::get(tx, organization, id)? else {
                return Ok(Audited::without_entry((), Unaudited::Unchanged));
            };
            let mut gone = false;
            for tried in &tried {
                record(tx, &webhook, tried)?;
                gone |= matches!(&tried.answer, Ok(answer) if answer.status == GONE);
            }
            let state = webhooks::state(tx, organization, id)?;
            let fails_for = state.failing_since.map(|since| tx.now().since(since)).unwrap_or_default();
            let reason = match () {
                () if gone => "the receiver answered 410 Gone",
                () if fails_for >= TOLERATED => "every attempt of 5 days failed",
                () => return Ok(Audited::without_entry((), Unaudited::Delivery)),
            };
            disable(tx, webhook, reason)
        });
        write.await
    }

    /// Forgets deliveries that ended long ago.
    pub async fn forget_deliveries(&self) -> Result<(), Error> {
        if !self.may_remove_lapsed() {
            return Ok(());
        }
        let cutoff = self.now().minus(KEPT);
        loop {
            let ended = outbox::ended_before(&self.store.snapshot()?, cutoff, STEP)?;
            if ended.is_empty() {
                return Ok(());
            }
            let write = self.store.write(Stamp::system(self.now()), move |tx| {
                outbox::forget_ended(tx, &ended)?;
                Ok(Audited::without_entry((), Unaudited::Housekeeping))
            });
            write.await?;
        }
    }
}

fn record(tx: &mut Tx, webhook: &Webhook, tried: &Tried) -> Result<(), Error> {
    let (organization, id) = (webhook.organization_id, webhook.id);
    let Some(mut delivery) = outbox::get(tx, organization, id, tried.delivery)? else { return Ok(()) };
    // Sent again by a person while it was under way, it may have ended, and waits no more.
    if delivery.state != DeliveryState::Pending {
        return Ok(());
    }
    let (status, error, answer) = match &tried.answer {
        Ok(Answered { status, body }) => (Some(*status), complaint(*status), text(body)),
        Err(why) => (None, Some(why.clone()), String::new()),
    };
    let succeeded = error.is_none();
    let duration_ms = u64::try_from(tried.duration.as_millis()).unwrap_or(u64::MAX);
    if delivery.attempts.len() == REMEMBERED {
        delivery.attempts.remove(0);
    }
    delivery.attempts.push(Attempt { at: tried.at, duration_ms, status, error, answer });
    delivery.tries += 1;

    let now = tx.now();
    let mut state = webhooks::state(tx, organization, id)?;
    if succeeded {
        (state.failing_since, state.last_delivered_at) = (None, Some(now));
    } else {
        state.failing_since.get_or_insert(tried.at);
    }
    webhooks::put_state(tx, organization, id, &state)?;
    if succeeded {
        return outbox::end(tx, organization, id, delivery, DeliveryState::Delivered);
    }
    if status == Some(GONE) {
        return outbox::end(tx, organization, id, delivery, DeliveryState::Failed);
    }
    let next = now.plus(wait(delivery.tries));
    if next.since(delivery.queued_at) >= RETRIED {
        return outbox::end(tx, organization, id, delivery, DeliveryState::Failed);
    }
    outbox::postpone(tx, organization, id, delivery, next)
}

/// Why a status is no success.
fn complaint(status: u16) -> Option<String> {
    match status {
        200..=299 => None,
        300..=399 => Some(format!("answered {status}: redirects are not followed")),
        _ => Some(format!("answered {status}")),
    }
}

/// The beginning of an answer, as text.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(ANSWER)]).into_owned()
}

/// Twice as long after each attempt, up to an hour; of that, at random, half or more, so that what failed together does
/// not come back together.
fn wait(tries: u32) -> Duration {
    let full = 1_u64.checked_shl(tries).map_or(LONGEST_WAIT, |seconds| seconds.min(LONGEST_WAIT));
    let mut random = [0; 4];
    fill_random(&mut random);
    let half = full / 2;
    Duration::from_secs((half + u64::from(u32::from_le_bytes(random)) % (full - half + 1)).max(1))
}

/// No longer tells the receiver of anything. What waits for it stays, for whoever enables it again.
fn disable(tx: &mut Tx, mut webhook: Webhook, reason: &str) -> Result<Audited<()>, Error> {
    if !webhook.enabled {
        return Ok(Audited::without_entry((), Unaudited::Delivery));
    }
    (webhook.enabled, webhook.disabled_reason) = (false, Some(reason.into()));
    let event = AuditEvent::new("webhook.disable").of(webhook.organization_id).by(Actor::system());
    let event = event.on("webhook", webhook.id, &webhook.url).detail("reason", reason);
    super::revise(tx, &mut webhook)?;
    Ok(Audited::new((), event))
}

/// Signs with the webhook's secret, and with the one before while that is good.
struct Signer {
    key: hmac::Key,
    previous: Option<hmac::Key>,
}

impl Signer {
    fn of(from: &impl Read, webhook: &Webhook, now: Time) -> Result<Self, Error> {
        let key = |sealed| {
            let secret = webhooks::open_secret(from, webhook.id, sealed)?;
            Ok::<_, Error>(hmac::Key::new(hmac::HMAC_SHA256, &secret))
        };
        let previous = webhook.previous_secret.clone().filter(|(_, until)| now < *until);
        let previous = previous.map(|(sealed, _)| key(sealed)).transpose()?;
        Ok(Self { key: key(webhook.secret.clone())?, previous })
    }

    fn sign(&self, body: &[u8]) -> impl Iterator<Item = (&'static str, String)> {
        let current = Some(("x-zero-signature", signature(&self.key, body)));
        let previous = self.previous.as_ref().map(|key| ("x-zero-signature-previous", signature(key, body)));
        current.into_iter().chain(previous)
    }
}

/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
pub(super) fn signature(key: &hmac::Key, body: &[u8]) -> String {
    use std::fmt::Write;
    hmac::sign(key, body).as_ref().iter().fold("sha256=".into(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
