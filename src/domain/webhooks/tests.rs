//! What becomes of deliveries in the long run. The clock is the test's, and so are the receivers.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::clock::{Clock, ManualClock, Time};
use crate::config::Config;
use crate::domain::audit::AuditFilter;
use crate::domain::auth::LogIn;
use crate::domain::op::Principal;
use crate::domain::setup::{self, NewAppliance};
use crate::ids::Ids;
use crate::model::audit::AuditEntry;
use crate::model::webhook::DeliveryState;
use crate::store::Store;

const START: Time = Time::from_unix(1_800_000_000);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const EMAIL: &str = "admin@acme.example";
const PASSWORD: &str = "correct horse battery";

struct Appliance {
    services: Services,
    clock: Arc<ManualClock>,
    op: Op,
    organization: OrganizationId,
    hook: WebhookId,
    folder: TempDir,
}

impl Appliance {
    /// With one webhook that is told of everything.
    async fn set_up() -> Self {
        let (folder, clock) = (TempDir::new().unwrap(), Arc::new(ManualClock::at(START)));
        let ids = Arc::new(Ids::new(clock.clone() as Arc<dyn Clock>));
        let config = Config::default();
        let store = Store::open(&folder.path().join("zero.redb"), &config.store, ids.clone(), START).unwrap();
        let (organization, name, email, password) = ("Acme".into(), "Ann".into(), EMAIL.into(), PASSWORD.into());
        setup::initialise(&store, NewAppliance { organization, name, email, password }, START).await.unwrap();
        let no_certificates = Box::new(|_: &str, _, _, _| Err(Error::internal("no certificates here")));
        let services = Services::new(store, config, ids.clone(), clock.clone(), no_certificates);
        let anonymous = Op {
            principal: Principal::Anonymous,
            request_id: ids.next(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            entrance: 0,
            now: START,
            idempotency: None,
        };
        let LogIn::SignedIn(signed_in) = services.log_in(&anonymous, EMAIL, PASSWORD, None).await.unwrap() else {
            panic!("no second factor was set up")
        };
        let op = Op { principal: services.identify(&signed_in.token, START).unwrap(), ..anonymous };
        let organization = op.organization_id().unwrap();
        let new = NewWebhook { url: "https://192.0.2.7/".into(), events: vec!["*".into()], secret: None };
        let hook = services.create_webhook(&op, new).await.unwrap().shown.webhook.id;
        Self { services, clock, op, organization, hook, folder }
    }

    fn op(&self) -> Op {
        Op { now: self.clock.now(), ..self.op.clone() }
    }

    async fn test(&self) -> DeliveryId {
        self.services.test_webhook(&self.op(), self.hook).await.unwrap().id
    }

    /// What is due now, as the sender sees it.
    fn lane(&self) -> Option<Lane> {
        self.services.lane(self.organization, self.hook, &HashSet::new(), 0).unwrap()
    }

    /// The receiver gives this answer to everything that is due. Tells how much that was.
    async fn answer(&self, answer: Result<u16, &str>) -> usize {
        let mut count = 0;
        while let Some(Lane { ready, .. }) = self.lane().filter(|lane| !lane.ready.is_empty()) {
            count += ready.len();
            let tried = ready.into_iter().map(|outgoing| Tried {
                delivery: outgoing.delivery,
                at: self.clock.now(),
                duration: Duration::from_millis(12),
                answer: answer.map(|status| Answered { status, body: b"noted".to_vec() }).map_err(Into::into),
            });
            self.services.record_attempts(self.organization, self.hook, tried.collect()).await.unwrap();
        }
        count
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        outbox::get(&self.services.store.snapshot().unwrap(), self.organization, self.hook, id).unwrap()
    }

    fn shown(&self) -> ShownWebhook {
        self.services.webhook(&self.op, self.hook).unwrap()
    }

    async fn log(&self, action: &str) -> Vec<AuditEntry> {
        let filter = AuditFilter { action: Some(action.into()), ..AuditFilter::default() };
        self.services.audit_log(&self.op(), filter, 0, 100).await.unwrap().1
    }
}

#[tokio::test]
async fn a_delivery_is_tried_ever_less_often_for_a_day_and_then_given_up() {
    let appliance = Appliance::set_up().await;
    let id = appliance.test().await;
    let mut waits: Vec<Duration> = Vec::new();
    while appliance.delivery(id).unwrap().state == DeliveryState::Pending {
        assert_eq!(appliance.answer(Err("cannot connect")).await, 1);
        let Some(next) = appliance.delivery(id).unwrap().next_attempt_at else { break };
        let wait = next.since(appliance.clock.now());
        assert_eq!(appliance.lane().unwrap().next, Some(next), "it is not due before");
        appliance.clock.advance(wait);
        waits.push(wait);
    }
    for (at, wait) in waits.iter().enumerate() {
        let full = Duration::from_secs(1 << (at + 1).min(12)).min(HOUR);
        assert!(*wait >= full / 2 && *wait <= full, "wait {at} is {wait:?}");
    }
    let total: Duration = waits.iter().sum();
    assert!(total > 22 * HOUR && total <= DAY, "{total:?}");
    let ended = appliance.delivery(id).unwrap();
    assert_eq!((ended.state, ended.attempts.len()), (DeliveryState::Failed, 5));
    assert_eq!(ended.attempts[4].error.as_deref(), Some("cannot connect"));
    assert!(appliance.lane().unwrap().next.is_none());
    // Given up, it can still be sent again, and has a day once more.
    appliance.services.redeliver(&appliance.op(), appliance.hook, id).await.unwrap();
    assert_eq!(appliance.answer(Ok(500)).await, 1);
    assert_eq!(appliance.delivery(id).unwrap().state, DeliveryState::Pending);
}

#[tokio::test]
async fn a_receiver_that_only_fails_for_five_days_is_disabled_and_the_log_says_so() {
    let appliance = Appliance::set_up().await;
    appliance.test().await;
    appliance.answer(Ok(503)).await;
    appliance.clock.advance(5 * DAY - HOUR);
    appliance.test().await;
    appliance.answer(Ok(503)).await;
    assert!(appliance.shown().webhook.enabled, "it may still come back");
    appliance.clock.advance(2 * HOUR);
    let last = appliance.test().await;
    appliance.answer(Ok(503)).await;
    let ShownWebhook { webhook, .. } = appliance.shown();
    assert_eq!((webhook.enabled, webhook.disabled_reason.as_deref()), (false, Some("every attempt of 5 days failed")));
    assert!(appliance.lane().is_none());
    assert_eq!(appliance.log("webhook.disable").await.len(), 1);

    let enable = WebhookChange { enabled: Some(true), ..WebhookChange::default() };
    appliance.services.change_webhook(&appliance.op(), appliance.hook, enable, None).await.unwrap();
    appliance.clock.advance(HOUR);
    assert_eq!(appliance.shown().state.failing_since, None, "it starts anew");
    appliance.answer(Ok(200)).await;
    assert_eq!(appliance.delivery(last).unwrap().state, DeliveryState::Delivered, "what waited was kept");
}

#[tokio::test]
async fn one_success_is_enough_to_count_as_alive() {
    let appliance = Appliance::set_up().await;
    for _ in 0..7 {
        appliance.test().await;
        appliance.answer(Ok(500)).await;
        appliance.clock.advance(DAY);
        appliance.test().await;
        appliance.answer(Ok(200)).await;
    }
    assert!(appliance.shown().webhook.enabled);
}

#[tokio::test]
async fn a_full_queue_refuses_the_newest_and_says_so_once() {
    let appliance = Appliance::set_up().await;
    let (organization, hook) = (appliance.organization, appliance.hook);
    let fill = |count: u64| {
        appliance.services.store.write(appliance.op().stamp(), move |tx| {
            for _ in 0..count {
                outbox::add_test(tx, organization, hook)?;
            }
            Ok(Audited::without_entry((), Unaudited::Unchanged))
        })
    };
    fill(outbox::MOST_PENDING - 1).await.unwrap();
    let publish = |name: &'static str| {
        appliance.services.store.write(appliance.op().stamp(), move |tx| {
            let id: crate::ids::UserId = tx.new_id();
            Ok(Audited::new((), AuditEvent::new("user.create").on("user", id, name)))
        })
    };
    publish("has a place").await.unwrap();
    for _ in 0..3 {
        publish("has none").await.unwrap();
    }
    let state = appliance.shown().state;
    // The third is the alert about the first.
    assert_eq!((state.pending, state.dropped), (outbox::MOST_PENDING, 4));
    assert_eq!(appliance.log("webhook.overflow").await.len(), 1);
    assert!(appliance.services.test_webhook(&appliance.op(), hook).await.is_err());
}

#[tokio::test]
async fn what_has_ended_is_forgotten_after_thirty_days_or_a_thousand_others() {
    let appliance = Appliance::set_up().await;
    let first = appliance.test().await;
    appliance.answer(Ok(200)).await;
    appliance.clock.advance(30 * DAY);
    appliance.services.forget_deliveries().await.unwrap();
    assert!(appliance.delivery(first).is_some());
    appliance.clock.advance(Duration::from_secs(1));
    let second = appliance.test().await;
    appliance.services.forget_deliveries().await.unwrap();
    assert!(appliance.delivery(first).is_none() && appliance.delivery(second).is_some(), "what waits is not old");
    appliance.answer(Ok(200)).await;
    let (organization, hook) = (appliance.organization, appliance.hook);
    let write = appliance.services.store.write(appliance.op().stamp(), move |tx| {
        for _ in 0..outbox::MOST_ENDED {
            let delivery = outbox::add_test(tx, organization, hook)?;
            outbox::end(tx, organization, hook, delivery, DeliveryState::Failed)?;
        }
        Ok(Audited::without_entry((), Unaudited::Unchanged))
    });
    write.await.unwrap();
    assert!(appliance.delivery(second).is_none());
    let total = appliance.services.deliveries(&appliance.op(), hook, 0, 1).unwrap().0;
    assert_eq!((total, appliance.shown().state.finished), (outbox::MOST_ENDED, outbox::MOST_ENDED));
}

#[tokio::test]
async fn the_secret_before_signs_for_a_day_and_no_longer() {
    let appliance = Appliance::set_up().await;
    appliance.services.rotate_webhook_secret(&appliance.op(), appliance.hook, None, None).await.unwrap();
    appliance.test().await;
    let signs = || {
        let headers = appliance.lane().unwrap().ready.remove(0).headers;
        headers.iter().filter(|(name, _)| name.starts_with("x-zero-signature")).count()
    };
    appliance.clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(signs(), 2);
    appliance.clock.advance(Duration::from_secs(1));
    assert_eq!(signs(), 1);
}

/// The signature of another implementation.
#[tokio::test]
async fn a_signature_is_what_any_library_makes_of_the_raw_body() {
    let known = sending::signature(
        &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"key"),
        b"The quick brown fox jumps over the lazy dog",
    );
    assert_eq!(known, "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
}

#[tokio::test]
async fn an_erased_person_is_in_no_delivery() {
    let appliance = Appliance::set_up().await;
    let (organization, user) = (appliance.organization, appliance.services.ids.next());
    let tell = |action: &'static str| {
        appliance.services.store.write(appliance.op().stamp(), move |_| {
            Ok(Audited::new((), AuditEvent::new(action).on("user", user, "Canary Bird")))
        })
    };
    tell("user.create").await.unwrap();
    appliance.answer(Ok(200)).await;
    tell("user.update").await.unwrap();
    tell("system.recover_admin").await.unwrap();
    let erase = appliance.services.store.write(appliance.op().stamp(), move |tx| {
        Ok(Audited::without_entry(outbox::erase_user(tx, organization, user)?, Unaudited::Unchanged))
    });
    assert_eq!(erase.await.unwrap(), 3);
    let (total, left) = appliance.services.deliveries(&appliance.op(), appliance.hook, 0, 100).unwrap();
    assert_eq!(total, 2, "what has been sent is removed; what waits is sent without the name");
    assert!(left.iter().all(|delivery| !delivery.body.contains("Canary")));
    assert_eq!(appliance.shown().state.finished, 0);
    drop(appliance.folder);
}
