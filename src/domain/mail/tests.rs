use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::Config;
use crate::domain::authz::Permissions;
use crate::domain::op::{Op, Principal, UserPrincipal};
use crate::domain::setup::{self, NewAppliance};
use crate::ids::Ids;
use crate::store::{Store, audit};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A mail server that answers as it is told to.
#[derive(Default)]
struct Server {
    answer: Mutex<Option<Unsent>>,
    tried: Mutex<Vec<Letter>>,
}

struct Setting {
    services: Services,
    clock: Arc<ManualClock>,
    server: Arc<Server>,
    op: Op,
    _folder: tempfile::TempDir,
}

/// An appliance whose only user has asked for a link.
async fn with_a_waiting_mail(answer: Unsent) -> Setting {
    let folder = tempfile::TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(Time::from_unix(1_800_000_000)));
    let (config, ids) = (Config::default(), Arc::new(Ids::new(clock.clone())));
    let store = Store::open(&folder.path().join("zero.redb"), &config.store, ids.clone(), clock.now()).unwrap();
    let no_certificates = Box::new(|_: &str, _, _, _| Err(Error::internal("none here")));
    let server = Arc::new(Server { answer: Mutex::new(Some(answer)), tried: Mutex::default() });
    let there = server.clone();
    let send: Box<SendLetter> = Box::new(move |letter| {
        there.tried.lock().unwrap().push(letter);
        let answer = there.answer.lock().unwrap().clone();
        Box::pin(async move { answer.map_or(Ok(()), Err) })
    });
    let services = Services::new(store, config, ids.clone(), clock.clone(), no_certificates).mailing(send);
    let (organization, name) = ("Acme".into(), "Root".into());
    let (email, password) = ("root@acme.example".into(), "correct horse battery".into());
    let new = NewAppliance { organization, name, email, password };
    let root = setup::initialise(&services.store, new, clock.now()).await.unwrap().user;
    let principal = Principal::User(UserPrincipal {
        id: root.id,
        organization_id: root.organization_id,
        name: "Root".into(),
        session_id: ids.next(),
        must_enroll_mfa: false,
        permissions: Permissions::ALL,
    });
    let peer = Ipv4Addr::LOCALHOST.into();
    let op = Op { principal, request_id: ids.next(), peer, entrance: 0, now: clock.now(), idempotency: None };
    assert!(services.reset_password(&op, root.id).await.unwrap().mailed);
    Setting { services, clock, server, op, _folder: folder }
}

impl Setting {
    async fn step(&self, after: Duration) {
        self.clock.advance(after);
        self.services.deliver_mail().await.unwrap();
    }

    fn tried(&self) -> usize {
        self.server.tried.lock().unwrap().len()
    }

    fn waiting(&self) -> usize {
        outgoing_mail::waiting(&self.services.store.snapshot().unwrap(), 10, |_| true).unwrap().len()
    }

    /// Results of the log's entries on mail, newest first.
    fn concluded(&self) -> Vec<String> {
        let (snapshot, organization) = (self.services.store.snapshot().unwrap(), self.op.organization_id().unwrap());
        let last = audit::head(&snapshot, organization).unwrap().seq;
        let mut found = Vec::new();
        let note = |entry: crate::model::audit::AuditEntry| {
            if entry.action == "system.mail.send" {
                found.push(format!("{:?}", entry.result));
            }
            std::ops::ControlFlow::Continue(())
        };
        audit::newest_first(&snapshot, organization, 1, last, note).unwrap();
        found
    }
}

#[tokio::test]
async fn a_mail_is_tried_again_less_and_less_often_and_is_the_same_mail() {
    for answer in [Unsent::Deferred("busy".into()), Unsent::Unreachable("down".into())] {
        let it = with_a_waiting_mail(answer).await;
        it.step(Duration::ZERO).await;
        it.step(Duration::ZERO).await;
        assert_eq!(it.tried(), 1, "it waits before it tries again");
        for _ in 0..3600 {
            it.step(Duration::from_secs(1)).await;
        }
        assert!((8..30).contains(&it.tried()), "{} times in an hour", it.tried());
        *it.server.answer.lock().unwrap() = None;
        it.step(HOUR).await;
        let tried = it.server.tried.lock().unwrap().clone();
        assert!(tried.iter().all(|letter| *letter == tried[0]));
        assert_eq!((it.waiting(), it.concluded()), (0, vec!["Success".to_owned()]));
        it.step(HOUR).await;
        assert_eq!(it.tried(), tried.len(), "what was sent is not sent again");
    }
}

#[tokio::test]
async fn a_mail_that_cannot_be_delivered_is_given_up_after_a_day_or_at_once_when_refused() {
    let it = with_a_waiting_mail(Unsent::Unreachable("down".into())).await;
    for _ in 0..23 {
        it.step(HOUR).await;
    }
    assert_eq!((it.tried(), it.waiting()), (23, 1));
    it.step(HOUR).await;
    assert_eq!((it.tried(), it.waiting(), it.concluded()), (23, 0, vec!["Failure".to_owned()]));

    let it = with_a_waiting_mail(Unsent::Refused("no such mailbox".into())).await;
    it.step(Duration::ZERO).await;
    it.step(HOUR).await;
    assert_eq!((it.tried(), it.waiting(), it.concluded()), (1, 0, vec!["Failure".to_owned()]));
}

#[tokio::test]
async fn a_link_that_is_replaced_takes_its_mail_with_it() {
    let it = with_a_waiting_mail(Unsent::Unreachable("down".into())).await;
    let user = it.op.user().unwrap().id;
    let newest = it.services.reset_password(&it.op, user).await.unwrap();
    *it.server.answer.lock().unwrap() = None;
    it.step(Duration::ZERO).await;
    let text = it.server.tried.lock().unwrap()[0].text.clone();
    assert!(text.contains(&newest.token));
    assert_eq!((it.tried(), it.waiting()), (1, 0));
}

/// Else anybody who knows an e-mail could make the invitations and resets of others worthless.
#[tokio::test]
async fn whoever_requests_a_link_takes_none_away_that_was_given() {
    let it = with_a_waiting_mail(Unsent::Unreachable("down".into())).await;
    let user = it.op.user().unwrap().id;
    let anonymous = Op { principal: Principal::Anonymous, ..it.op.clone() };
    let accept = async |token: &str| it.services.accept_link(&anonymous, token, "another password").await;
    *it.server.answer.lock().unwrap() = None;
    let requested = async || {
        it.services.request_reset(&anonymous, "root@acme.example").await.unwrap();
        it.step(HOUR).await;
        let text = it.server.tried.lock().unwrap().last().unwrap().text.clone();
        let (_, after) = text.split_once('#').unwrap();
        after.split_whitespace().next().unwrap().to_owned()
    };
    let given = it.services.reset_password(&it.op, user).await.unwrap();
    requested().await;
    accept(&given.token).await.unwrap();
    // Either link ends both; a given one ends what was requested before, by whoever reads the mail.
    let stale = requested().await;
    let given = it.services.reset_password(&it.op, user).await.unwrap();
    assert!(matches!(accept(&stale).await, Err(Error::Unauthenticated(_))));
    let requested = requested().await;
    accept(&requested).await.unwrap();
    assert!(matches!(accept(&given.token).await, Err(Error::Unauthenticated(_))));
}

#[test]
fn waits_grow_to_their_bound_and_differ() {
    let (mut wait, now) = (Wait::default(), Time::from_unix(0));
    for failures in 1..100 {
        wait.longer(now);
        let span = 2_u64.saturating_pow(failures).min(LONGEST_WAIT);
        let waited = wait.until.since(now).as_secs();
        assert!((span / 2..=span).contains(&waited), "{waited} s after {failures} failures");
    }
}

#[test]
fn a_name_is_one_line() {
    assert_eq!(one_line(" Eve\r\nBcc: all@acme.example\u{2028}\u{0}x\u{1b}[2J "), "Eve Bcc: all@acme.example x[2J");
    assert_eq!(clock_time(Time::from_unix(1_800_000_000)), "2027-01-15 08:00 UTC");
}
