//! A log that somebody has laid hands on, with the file open and all the time in the world.

use std::sync::Arc;
use std::time::Duration;

use super::chain::Broken;
use super::verify::{Verdict, Verification};
use super::*;
use crate::clock::ManualClock;
use crate::ids::{Ids, UserId};
use crate::model::audit::{ActorType, Checkpoint, ERASED};
use crate::model::hex::Hex;
use crate::model::samples::{NOW, new_organization, new_user};
use crate::store::engine::faults::Disk;
use crate::store::engine::{Engine, Options};
use crate::store::persons::{self, Opener};
use crate::store::tables::{AUDIT_ANCHORS, AUDIT_CHECKPOINTS, PERSONS};
use crate::store::write::{Audited, Stamp, Unaudited};
use crate::store::{Store, organizations, users};

fn open(disk: &Disk) -> Store {
    let options = Options { cache_bytes: 1 << 20, verify_up_to_bytes: u64::MAX };
    let engine = Engine::open_on(disk.clone(), options).unwrap();
    Store::start(engine, Arc::new(Ids::new(Arc::new(ManualClock::at(NOW)))), NOW, Box::new(|| false)).unwrap()
}

struct Log {
    store: Store,
    organization: OrganizationId,
    user: UserId,
}

impl Log {
    /// Ten entries, the first by the system.
    async fn start() -> Self {
        let store = open(&Disk::holding(Vec::new()));
        let made = store.write(Stamp::system(NOW), |tx| {
            let id = tx.new_id();
            organizations::put(tx, new_organization(id))?;
            let user = new_user(id, tx.new_id(), "ann@acme.example");
            users::put(tx, user.clone())?;
            let event = AuditEvent::new("user.create").of(id).on("user", user.id, "Ann Canary");
            Ok(Audited::new((id, user.id), event.detail("email", "ann@acme.example").detail("role", "admin")))
        });
        let (organization, user) = made.await.unwrap();
        let log = Self { store, organization, user };
        for number in 2..=10 {
            log.add(NOW.plus(Duration::from_secs(number * 60))).await;
        }
        log
    }

    /// An entry by Ann about a device.
    async fn add(&self, now: Time) {
        let actor = Actor { kind: ActorType::User, id: Some(self.user.to_string()), name: Some("Ann Canary".into()) };
        let stamp = Stamp { actor, organization_id: Some(self.organization), ..Stamp::system(now) };
        let change = |_: &mut Tx| {
            let event = AuditEvent::new("device.update").on("device", 7, "laptop").detail("ratio", 0.1 + 0.2);
            Ok(Audited::new((), event))
        };
        self.store.write(stamp, change).await.unwrap();
    }

    /// Changes the tables without a word in the log.
    async fn tamper(&self, change: impl Fn(&mut Tx, OrganizationId) -> Result<(), Error> + Send + 'static) {
        let organization = self.organization;
        let change = move |tx: &mut Tx| {
            change(tx, organization)?;
            Ok(Audited::without_entry((), Unaudited::Housekeeping))
        };
        self.store.write(Stamp::system(NOW), change).await.unwrap();
    }

    /// In steps of three entries, as a long log is verified in steps of more.
    fn verify(&self) -> Verdict {
        let snapshot = self.store.snapshot().unwrap();
        let mut verification = Verification::begin(&snapshot, self.organization).unwrap();
        loop {
            if let Some(verdict) = verification.step(&self.store.snapshot().unwrap(), 3).unwrap() {
                return verdict;
            }
        }
    }

    fn entry(&self, seq: u64) -> AuditEntry {
        AUDIT.get(&self.store.snapshot().unwrap(), &(self.organization, seq)).unwrap().unwrap()
    }

    fn opened(&self, seq: u64) -> AuditEntry {
        let mut entry = self.entry(seq);
        Opener::new(&self.store.snapshot().unwrap()).open(&mut entry).unwrap();
        entry
    }

    async fn checkpoint(&self) -> Checkpoint {
        let organization = self.organization;
        let make = move |tx: &mut Tx| {
            Ok(Audited::without_entry(checkpoints::make(tx, organization)?, Unaudited::Housekeeping))
        };
        self.store.write(Stamp::system(NOW), make).await.unwrap()
    }

    fn assert_broken(&self, seq: u64, reason: &str) {
        let verdict = self.verify();
        let Broken { seq: found, reason: why } = verdict.first_broken.expect("it is found");
        assert!(found == seq && why.contains(reason), "{found}: {why}");
        assert!(verdict.entries < 10 || seq >= 10);
    }
}

/// Gives every entry from `first` on the hash that its content asks for, as who owns the machine can.
fn recompute(tx: &mut Tx, organization: OrganizationId, first: u64) -> Result<(), Error> {
    let mut link = chain::Link::default();
    let end = head(tx, organization)?;
    for seq in 1..=end.seq {
        let mut entry = tx.get(AUDIT, &(organization, seq))?.expect("no gaps");
        let hash = chain::hash(&link.hash, &(&entry).into())?;
        entry.hash = chain::hex(&hash);
        if seq >= first {
            tx.put(AUDIT, &(organization, seq), &entry)?;
        }
        link = chain::Link { seq, hash };
    }
    tx.put(AUDIT_HEADS, &organization, &Head { hash: link.hash, ..end })
}

#[tokio::test]
async fn an_untouched_log_is_valid_whatever_was_checked_before() {
    let log = Log::start().await;
    log.checkpoint().await;
    let verdict = log.verify();
    assert_eq!((verdict.entries, verdict.first_broken), (10, None));
    assert_eq!(verdict.head.hash, head(&log.store.snapshot().unwrap(), log.organization).unwrap().hash);
}

#[tokio::test]
async fn an_edit_is_found_and_an_edit_with_a_new_hash_at_the_entry_after_it() {
    let log = Log::start().await;
    log.tamper(|tx, of| {
        let mut entry = tx.get(AUDIT, &(of, 5))?.unwrap();
        entry.result = AuditResult::Failure;
        tx.put(AUDIT, &(of, 5), &entry)
    })
    .await;
    log.assert_broken(5, "changed");
    log.tamper(|tx, of| {
        let (before, mut entry) = (tx.get(AUDIT, &(of, 4))?.unwrap(), tx.get(AUDIT, &(of, 5))?.unwrap());
        let before = Hex::parse(&before.hash).unwrap().0.try_into().unwrap();
        entry.hash = chain::hex(&chain::hash(&before, &(&entry).into())?);
        tx.put(AUDIT, &(of, 5), &entry)
    })
    .await;
    log.assert_broken(6, "changed");
}

#[tokio::test]
async fn removal_reordering_and_truncation_are_found() {
    let log = Log::start().await;
    log.tamper(|tx, of| tx.delete(AUDIT, &(of, 6)).map(|_| ())).await;
    log.assert_broken(6, "missing");

    let log = Log::start().await;
    log.tamper(|tx, of| {
        let (four, five) = (tx.get(AUDIT, &(of, 4))?.unwrap(), tx.get(AUDIT, &(of, 5))?.unwrap());
        tx.put(AUDIT, &(of, 4), &five)?;
        tx.put(AUDIT, &(of, 5), &four)
    })
    .await;
    log.assert_broken(4, "entry 5 is in its place");

    let log = Log::start().await;
    log.tamper(|tx, of| tx.delete(AUDIT, &(of, 10)).map(|_| ())).await;
    log.assert_broken(10, "missing");
    // With the head set back as well, a checkpoint still knows.
    let log = Log::start().await;
    log.checkpoint().await;
    let cut = |tx: &mut Tx, of| {
        let ninth = tx.get(AUDIT, &(of, 9))?.unwrap();
        tx.delete(AUDIT, &(of, 10))?;
        let hash = Hex::parse(&ninth.hash).unwrap().0.try_into().unwrap();
        tx.put(AUDIT_HEADS, &of, &Head { seq: 9, hash, timestamp: ninth.timestamp })
    };
    log.tamper(cut).await;
    log.assert_broken(10, "a checkpoint shows that the log went on to entry 10");
    // The oldest entries, by somebody who knows how retention does it.
    let log = Log::start().await;
    log.tamper(|tx, of| {
        let event = retention::step(tx, of, NOW.plus(Duration::from_secs(200)), 100)?;
        assert!(event.is_some(), "which is not put into the log");
        Ok(())
    })
    .await;
    log.assert_broken(4, "not by the retention");
}

#[tokio::test]
async fn a_chain_computed_anew_is_shown_by_the_checkpoints_that_were_signed_before() {
    let log = Log::start().await;
    let kept = log.checkpoint().await;
    log.tamper(|tx, of| {
        let mut entry = tx.get(AUDIT, &(of, 3))?.unwrap();
        entry.action = "device.unlock".into();
        tx.put(AUDIT, &(of, 3), &entry)?;
        recompute(tx, of, 3)
    })
    .await;
    log.assert_broken(10, "another hash");
    // Taken out of the file, it is all that is left to tell. One kept elsewhere tells it.
    log.tamper(|tx, of| tx.delete(AUDIT_CHECKPOINTS, &(of, 10)).map(|_| ())).await;
    assert_eq!(log.verify().first_broken, None);
    let key = checkpoints::public_key(&log.store.snapshot().unwrap()).unwrap();
    assert!(checkpoints::is_signed(&kept, &key));
    assert_ne!(Hex::parse(&log.entry(10).hash), Some(kept.hash.clone()));
    // One that nobody signed helps nobody.
    let forged = Checkpoint { hash: Hex::parse(&log.entry(10).hash).unwrap(), ..kept };
    log.tamper(move |tx, of| tx.put(AUDIT_CHECKPOINTS, &(of, 10), &forged)).await;
    log.assert_broken(10, "signed");
}

#[tokio::test]
async fn names_are_sealed_and_gone_with_their_key_while_the_chain_stays_valid() {
    let log = Log::start().await;
    let stored = rmp_serde::to_vec_named(&log.entry(1)).unwrap();
    let has = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(!has("Canary") && !has("ann@acme.example") && has("admin"));
    let opened = log.opened(1);
    assert_eq!(opened.resource.as_ref().unwrap().name.as_deref(), Some("Ann Canary"));
    assert_eq!(opened.details["email"], "ann@acme.example");
    assert_eq!(log.opened(2).actor.name.as_deref(), Some("Ann Canary"));
    // What is shown can be verified by itself, and a changed name shows.
    let mut shown = opened.clone();
    chain::close(&mut shown).unwrap();
    assert_eq!(chain::hex(&chain::hash(&[0; 32], &(&shown).into()).unwrap()), shown.hash);
    let mut changed = opened;
    changed.details.insert("email".into(), "bob@acme.example".into());
    assert!(chain::close(&mut changed).unwrap_err().reason.contains("name"));

    let (organization, user) = (log.organization, log.user);
    let erase = move |tx: &mut Tx| {
        persons::forget(tx, organization, user)?;
        let event = AuditEvent::new("gdpr.delete").of(organization).on("user", user, "Ann Canary");
        Ok(Audited::new((), event))
    };
    log.store.write(Stamp::system(NOW), erase).await.unwrap();
    log.add(NOW).await;
    for seq in [1, 2, 11, 12] {
        let entry = log.opened(seq);
        let json = serde_json::to_string(&entry).unwrap();
        assert!(!json.contains("Canary") && !json.contains("ann@acme") && json.contains(ERASED), "{json}");
        chain::close(&mut entry.clone()).unwrap();
    }
    assert_eq!(log.verify().first_broken, None);
    assert_eq!(log.verify().entries, 12);
}

#[tokio::test]
async fn a_key_made_in_a_change_that_comes_to_nothing_seals_nothing() {
    let log = Log::start().await;
    let (organization, user) = (log.organization, log.user);
    log.tamper(move |tx, of| tx.delete(PERSONS, &(of, user)).map(|_| ())).await;
    // The name of a stranger, in a change that is refused after it was written.
    let stranger: UserId = uuid::Uuid::from_u128(9).into();
    let refused = move |tx: &mut Tx| {
        let mut entry = tx.get(AUDIT, &(organization, 1))?.unwrap();
        entry.resource.as_mut().unwrap().name = Some("Eve".into());
        persons::seal_names(tx, &mut entry, stranger, &["resource.name"])?;
        Err::<Audited<()>, _>(Error::Conflict("refused after writing".into()))
    };
    log.store.write(Stamp::system(NOW), refused).await.unwrap_err();
    let change = move |_: &mut Tx| {
        Ok(Audited::new((), AuditEvent::new("user.update").of(organization).on("user", stranger, "Eve")))
    };
    log.store.write(Stamp::system(NOW), change).await.unwrap();
    assert_eq!(log.opened(11).resource.unwrap().name.as_deref(), Some("Eve"));
}

#[tokio::test]
async fn a_changed_sealed_name_is_found() {
    let log = Log::start().await;
    log.tamper(|tx, of| {
        let mut entry = tx.get(AUDIT, &(of, 8))?.unwrap();
        entry.sealed[0].sealed.as_mut().unwrap().0[20] ^= 1;
        tx.put(AUDIT, &(of, 8), &entry)
    })
    .await;
    log.assert_broken(8, "a sealed name");
}

#[tokio::test]
async fn retention_lets_the_oldest_go_in_steps_and_the_rest_stays_verifiable() {
    let log = Log::start().await;
    let kept = log.checkpoint().await;
    let organization = log.organization;
    let (mut steps, end) = (0, NOW.plus(Duration::from_secs(7 * 60)));
    let step = move |tx: &mut Tx| {
        Ok(match retention::step(tx, organization, end, 2)? {
            Some(event) => Audited::new(true, event),
            None => Audited::without_entry(false, Unaudited::Unchanged),
        })
    };
    while log.store.write(Stamp::system(NOW), step).await.unwrap() {
        steps += 1;
        let verdict = log.verify();
        assert_eq!((verdict.first_broken, verdict.entries), (None, 10 - steps));
    }
    assert_eq!(steps, 3, "of two entries each, with an entry for each step");
    let snapshot = log.store.snapshot().unwrap();
    assert_eq!(retention::anchor(&snapshot, organization).unwrap().seq, 6);
    assert_eq!(first_where(&snapshot, organization, |entry| entry.timestamp >= end).unwrap(), 7);
    assert_eq!(retention::oldest(&snapshot, organization).unwrap(), Some(end));
    assert!(AUDIT_CHECKPOINTS.contains(&snapshot, &(organization, kept.seq)).unwrap());
    drop(snapshot);
    log.tamper(|tx, of| tx.delete(AUDIT_ANCHORS, &of).map(|_| ())).await;
    log.assert_broken(1, "missing");
}
