//! The store as a whole: what was acknowledged is there, what was refused is not, and memory agrees with the tables.

mod model;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::audit::AuditEvent;
use super::engine::faults::Disk;
use super::engine::{Engine, Options, Read};
use super::idempotency::Idempotency;
use super::tables::{META, SESSIONS_OF_USER};
use super::write::{Audited, Stamp};
use super::{Store, audit, devices, memory, organizations, sessions};
use crate::clock::{ManualClock, Time};
use crate::error::Error;
use crate::ids::{DeviceId, Ids, OrganizationId};
use crate::model::device::Device;
use crate::model::samples::{NOW, new_device, new_organization, new_session, new_user};

fn open(disk: &Disk) -> Store {
    let options = Options { cache_bytes: 1 << 20, verify_up_to_bytes: u64::MAX };
    let engine = Engine::open_on(disk.clone(), options).expect("the disk holds a good file, or none");
    let ids = Arc::new(Ids::new(Arc::new(ManualClock::at(NOW))));
    Store::start(engine, ids, NOW, Box::new(|| false)).expect("the store starts")
}

fn stamp(organization: OrganizationId) -> Stamp {
    Stamp { organization_id: Some(organization), ..Stamp::system(NOW) }
}

async fn organization(store: &Store) -> OrganizationId {
    let made = store.write(Stamp::system(NOW), |tx| {
        let id = tx.new_id();
        organizations::put(tx, new_organization(id))?;
        Ok(Audited::new(id, AuditEvent::new("system.setup").of(id)))
    });
    made.await.unwrap()
}

/// Sets `key` to `value`, or with `refuse` fails after having written.
async fn set(store: &Store, by: Stamp, key: String, value: u64, refuse: bool) -> Result<u64, Error> {
    let change = move |tx: &mut super::write::Tx| {
        tx.put(META, &key, &value)?;
        if refuse {
            return Err(Error::Conflict("refused after writing".into()));
        }
        Ok(Audited::new(value, AuditEvent::new("test.set")))
    };
    store.write(by, change).await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Many writers at once, some of whom are refused after they have written, on a disk that is reopened in between.
    #[test]
    fn batches_hold_what_was_acknowledged_and_nothing_that_was_refused(
        rounds in prop::collection::vec(prop::collection::vec((0..20_u64, any::<u32>(), prop::bool::weighted(0.2)), 1..40), 1..4)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disk = Disk::holding(Vec::new());
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        let mut acknowledged = 1;
        let mut store = open(&disk);
        let owner = runtime.block_on(organization(&store));
        for round in rounds {
            runtime.block_on(async {
                // Sent together, so that they share commits; the writer takes them in order.
                let writes = round.iter().map(|(key, value, refuse)| {
                    set(&store, stamp(owner), format!("key-{key}"), u64::from(*value), *refuse)
                });
                let results = futures_util::future::join_all(writes).await;
                for ((key, value, refuse), result) in round.iter().zip(results) {
                    assert_eq!(result.is_err(), *refuse);
                    if !refuse {
                        model.insert(*key, u64::from(*value));
                        acknowledged += 1;
                    }
                }
            });
            store.close();
            store = open(&disk);
            let snapshot = store.snapshot().unwrap();
            for key in 0..20 {
                let stored = META.get(&snapshot, &format!("key-{key}")).unwrap();
                prop_assert_eq!(stored, model.get(&key).copied());
            }
            // One entry for each change, none for what was refused.
            prop_assert_eq!(audit::head(&snapshot, owner).unwrap().seq, acknowledged);
            prop_assert!(memory::read(&store.memory().fleet(owner)).is_empty());
        }
    }
}

#[tokio::test]
async fn an_outcome_is_remembered_with_its_change_and_a_crash_keeps_both() {
    let disk = Disk::holding(Vec::new());
    let store = open(&disk);
    let owner = organization(&store).await;
    let once = Idempotency { id: [1; 32], fingerprint: [2; 32], secret: [3; 32] };
    let by = Stamp { idempotency: Some(once.clone()), ..stamp(owner) };
    assert_eq!(set(&store, by.clone(), "a".into(), 1, false).await, Ok(1));
    // The process is gone without closing anything.
    let crashed = Disk::holding(disk.bytes());
    let store = open(&crashed);
    assert_eq!(set(&store, by.clone(), "a".into(), 2, false).await, Ok(1));
    assert_eq!(META.get(&store.snapshot().unwrap(), &"a".into()), Ok(Some(1)));
    let other = Idempotency { fingerprint: [9; 32], ..once };
    let other = Stamp { idempotency: Some(other), ..by };
    assert!(matches!(set(&store, other, "a".into(), 3, false).await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn a_disk_that_fills_up_acknowledges_nothing_more_and_loses_nothing() {
    let disk = Disk::holding(Vec::new());
    let store = open(&disk);
    let owner = organization(&store).await;
    assert_eq!(set(&store, stamp(owner), "before".into(), 1, false).await, Ok(1));
    disk.fill_up_after(0);
    let refused = set(&store, stamp(owner), "after".into(), 2, false).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    let mut failed = store.failed();
    failed.wait_for(|failed| *failed).await.unwrap();
    let store = open(&Disk::holding(disk.bytes()));
    assert_eq!(META.get(&store.snapshot().unwrap(), &"before".into()), Ok(Some(1)));
}

/// An address that was just freed may still be in other devices' tables and caches.
#[tokio::test]
async fn addresses_go_round_and_each_is_given_once() {
    let disk = Disk::holding(Vec::new());
    let store = open(&disk);
    let owner = organization(&store).await;
    let ids = Ids::new(Arc::new(ManualClock::at(NOW)));
    let enroll = async |store: &Store, refuse: bool| {
        let (id, pool): (DeviceId, _) = (ids.next(), (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 4)));
        let change = move |tx: &mut super::write::Tx| {
            let free = devices::free_address(tx, owner, pool.0, pool.1)?;
            let vpn_ip = free.ok_or_else(|| Error::Conflict("used up".into()))?;
            let token = [vpn_ip.octets()[3]; 32];
            let device = Device { vpn_ip, ..new_device(owner, id, None, token) };
            devices::insert(tx, device.clone())?;
            if refuse {
                return Err(Error::Conflict("refused after writing".into()));
            }
            Ok(Audited::new(device, AuditEvent::new("test.enroll")))
        };
        store.write(stamp(owner), change).await
    };
    let last_byte = |device: &Device| device.vpn_ip.octets()[3];
    let unenroll = async |store: &Store, device: Device| {
        let change = move |tx: &mut super::write::Tx| {
            devices::delete(tx, device.clone())?;
            Ok(Audited::new((), AuditEvent::new("test.unenroll")))
        };
        store.write(stamp(owner), change).await.unwrap();
    };
    // The very first finds the pool unread, and is taken back with what was read for it.
    assert!(enroll(&store, true).await.is_err());
    let one = enroll(&store, false).await.unwrap();
    let two = enroll(&store, false).await.unwrap();
    assert_eq!((last_byte(&one), last_byte(&two)), (1, 2));
    unenroll(&store, one).await;
    assert!(enroll(&store, true).await.is_err());
    let three = enroll(&store, false).await.unwrap();
    assert_eq!(last_byte(&three), 3, "what was refused has used nothing, and 1 rests");
    // A restart goes on after the highest.
    store.close();
    let store = open(&disk);
    for expected in [4, 1] {
        assert_eq!(last_byte(&enroll(&store, false).await.unwrap()), expected);
    }
    assert_eq!(enroll(&store, false).await, Err(Error::Conflict("used up".into())));
    unenroll(&store, two).await;
    assert_eq!(last_byte(&enroll(&store, false).await.unwrap()), 2);
    assert!(enroll(&store, false).await.is_err());
}

#[tokio::test]
async fn a_file_of_the_first_schema_knows_whose_sessions_there_are() {
    let disk = Disk::holding(Vec::new());
    let store = open(&disk);
    let owner = organization(&store).await;
    let change = move |tx: &mut super::write::Tx| {
        let user = new_user(owner, tx.new_id(), "a@acme.example");
        let session = new_session(&user, tx.new_id(), [1; 32]);
        let ids = (session.user_id, session.id);
        sessions::put(tx, session)?;
        tx.delete(SESSIONS_OF_USER, &(owner, ids.0, ids.1))?;
        tx.put(META, &"schema_version".into(), &1)?;
        Ok(Audited::new(ids, AuditEvent::new("test.set")))
    };
    let (user, session) = store.write(stamp(owner), change).await.unwrap();
    store.close();
    let store = open(&disk);
    assert_eq!(sessions::of_user(&store.snapshot().unwrap(), owner, user), Ok(vec![session]));
}

/// Years of deletions must not leave a card full of nothing.
#[test]
fn a_file_that_is_mostly_unused_is_made_shorter_at_a_start_now_and_then() {
    let disk = Disk::default();
    let options = Options { cache_bytes: 1 << 20, verify_up_to_bytes: u64::MAX };
    let opened = || Engine::open_on(disk.clone(), options).unwrap();
    let mut engine = opened();
    let start = |engine: &mut Engine, days: u64| {
        super::give_back(engine, NOW.plus(Duration::from_secs(days * 86_400)), 1 << 20).unwrap();
        engine.traffic().file_bytes
    };
    start(&mut engine, 0);
    let fill = |engine: &Engine, from: u32| {
        let mut transaction = engine.begin().unwrap();
        for key in from..from + 500 {
            transaction.put("devices", &key.to_be_bytes(), &[7; 8192]).unwrap();
        }
        transaction.commit().unwrap();
    };
    fill(&engine, 0);
    let full = start(&mut engine, 31);
    assert!(full > 4 << 20, "{full}: nothing was deleted yet");
    let mut transaction = engine.begin().unwrap();
    for key in 0..490_u32 {
        transaction.delete("devices", &key.to_be_bytes()).unwrap();
    }
    transaction.commit().unwrap();
    assert!(start(&mut engine, 60) >= full, "it looked less than 30 days ago");
    let short = start(&mut engine, 61);
    assert!(short < full / 2, "{short} of {full} bytes");
    drop(engine);
    let mut engine = opened();
    fill(&engine, 1000);
    assert_eq!(engine.snapshot().unwrap().get("devices", &495_u32.to_be_bytes(), <[u8]>::len).unwrap(), Some(8192));
    start(&mut engine, 0);
}
