mod damage;
mod outage;

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::faults::Disk;
use super::view::View;
use super::*;

const OPTIONS: Options = Options { cache_bytes: 1 << 20, verify_up_to_bytes: u64::MAX };
const TABLES: [&str; 2] = ["devices", "events"];

/// What is in the tables: by table and key.
type Contents = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

fn contents(reader: &impl Read) -> Result<Contents, EngineError> {
    let mut contents = Contents::new();
    for table in TABLES {
        reader.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Ascending, &mut |key, value| {
            contents.insert((table, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    Ok(contents)
}

/// Numbers that look random and are the same in every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

fn put(engine: &Engine, rows: &[(&'static str, &[u8], &[u8])]) {
    let mut transaction = engine.begin().unwrap();
    for (table, key, value) in rows {
        transaction.put(table, key, value).unwrap();
    }
    transaction.commit().unwrap();
}

fn value_of(reader: &impl Read, key: &[u8]) -> Option<Vec<u8>> {
    reader.get("devices", key, <[u8]>::to_vec).unwrap()
}

/// Reads are shared between threads; the transaction lives on the writer's.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Engine>();
    shared::<Snapshot>();
    sent::<Transaction>();
};

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zero.redb");
    let engine = Engine::open(&path, OPTIONS, |_| panic!("a new file has nothing to accept")).unwrap();
    put(&engine, &[("devices", b"k", b"v")]);
    engine.close().unwrap();

    let engine = Engine::open(&path, OPTIONS, |_| Ok(())).unwrap();
    assert_eq!(value_of(&engine.snapshot().unwrap(), b"k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_new_file_is_private_and_leaves_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zero.redb");
    let _engine = Engine::open(&path, OPTIONS, |_| Ok(())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_second_process_is_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zero.redb");
    let _engine = Engine::open(&path, OPTIONS, |_| Ok(())).unwrap();
    let second = Engine::open(&path, OPTIONS, |_| Ok(()));
    assert!(matches!(second, Err(OpenError::AlreadyOpen { .. })));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let path = Path::new("/nowhere/zero.redb");
    let error = Engine::open(path, OPTIONS, |_| Ok(())).err().unwrap();
    assert!(error.to_string().starts_with("cannot create /nowhere/zero.redb"), "{error}");
}

#[test]
fn contents_the_caller_refuses_stay_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zero.redb");
    let engine = Engine::open(&path, OPTIONS, |_| Ok(())).unwrap();
    put(&engine, &[("devices", b"schema", b"9")]);
    drop(engine);
    let before = fs::read(&path).unwrap();

    let refused = Engine::open(&path, OPTIONS, |snapshot| match value_of(snapshot, b"schema") {
        Some(version) if version == b"9" => Err("it was written by a later release".into()),
        _ => Ok(()),
    });
    assert!(matches!(refused, Err(OpenError::Refused { .. })));
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_transaction_reads_its_own_writes_and_dropping_it_takes_them_back() {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    put(&engine, &[("devices", b"kept", b"1"), ("devices", b"gone", b"1")]);

    let mut transaction = engine.begin().unwrap();
    transaction.put("devices", b"new", b"2").unwrap();
    assert!(transaction.delete("devices", b"gone").unwrap());
    assert!(!transaction.delete("devices", b"never").unwrap());
    assert_eq!(value_of(&transaction, b"new").as_deref(), Some(&b"2"[..]));
    assert_eq!(value_of(&transaction, b"gone"), None);
    let before = engine.snapshot().unwrap();
    assert_eq!(value_of(&before, b"new"), None, "others must not see what is not committed");
    drop(transaction);

    let after = engine.snapshot().unwrap();
    assert_eq!(value_of(&after, b"new"), None);
    assert_eq!(value_of(&after, b"gone").as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_snapshot_does_not_move() {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    put(&engine, &[("devices", b"k", b"old")]);
    let snapshot = engine.snapshot().unwrap();
    put(&engine, &[("devices", b"k", b"new")]);
    assert_eq!(value_of(&snapshot, b"k").as_deref(), Some(&b"old"[..]));
}

#[test]
fn a_transaction_that_changed_nothing_costs_no_write() {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    put(&engine, &[("devices", b"k", b"v")]);
    let before = engine.traffic();
    let transaction = engine.begin().unwrap();
    assert_eq!(value_of(&transaction, b"k").as_deref(), Some(&b"v"[..]));
    assert_eq!(value_of(&transaction, b"other"), None);
    transaction.commit().unwrap();
    assert_eq!(engine.traffic(), before);
}

#[test]
fn rows_can_be_looked_up_while_a_transaction_scans() {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    put(&engine, &[("devices", b"a", b"b"), ("devices", b"b", b"c")]);
    let transaction = engine.begin().unwrap();
    let mut targets = Vec::new();
    let visit = &mut |_: &[u8], value: &[u8]| {
        targets.push(value_of(&transaction, value));
        ControlFlow::Continue(())
    };
    transaction.scan("devices", Bound::Unbounded, Bound::Unbounded, Direction::Ascending, visit).unwrap();
    assert_eq!(targets, [Some(b"c".to_vec()), None]);
}

#[test]
fn a_panic_of_the_caller_does_not_pass_for_damage() {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    put(&engine, &[("devices", b"k", b"v")]);
    let snapshot = engine.snapshot().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| snapshot.get("devices", b"k", |_| panic!("a bug of ours"))));
    assert!(panicked.is_err());
}

fn rows_between(
    reader: &impl Read,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    direction: Direction,
    limit: usize,
) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    reader.scan("devices", from, to, direction, visit).unwrap();
    keys
}

#[test]
fn a_scan_neither_skips_nor_repeats_rows_whatever_its_bounds() {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    assert!(
        rows_between(&engine.snapshot().unwrap(), (Bound::Unbounded, Bound::Unbounded), Direction::Ascending, 9)
            .is_empty()
    );
    let mut noise = Noise(7);
    let keys: std::collections::BTreeSet<Vec<u8>> = (0..300)
        .map(|_| {
            let length = noise.below(3);
            noise.bytes(length)
        })
        .collect();
    let mut transaction = engine.begin().unwrap();
    for key in &keys {
        transaction.put("devices", key, b"v").unwrap();
    }
    transaction.commit().unwrap();
    let (snapshot, transaction) = (engine.snapshot().unwrap(), engine.begin().unwrap());
    for _ in 0..500 {
        let (low, high) = (noise.bytes(1), noise.bytes(2));
        let mut bound = |key| match noise.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        };
        let bounds = (bound(&low[..]), bound(&high[..]));
        let limit = 1 + noise.below(200);
        let inside = |key: &&Vec<u8>| std::ops::RangeBounds::<[u8]>::contains(&bounds, &key[..]);
        let ascending: Vec<_> = keys.iter().filter(inside).take(limit).cloned().collect();
        let descending: Vec<_> = keys.iter().rev().filter(inside).take(limit).cloned().collect();
        for (direction, expected) in [(Direction::Ascending, ascending), (Direction::Descending, descending)] {
            assert_eq!(rows_between(&snapshot, bounds, direction, limit), expected, "{bounds:?} {direction:?}");
            assert_eq!(rows_between(&transaction, bounds, direction, limit), expected, "{bounds:?} {direction:?}");
        }
    }
}

#[test]
fn deleted_space_is_given_back() {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    let keys: Vec<[u8; 4]> = (0..2000u32).map(u32::to_be_bytes).collect();
    let mut transaction = engine.begin().unwrap();
    for key in &keys {
        transaction.put("devices", key, &[1; 500]).unwrap();
    }
    transaction.commit().unwrap();
    let mut transaction = engine.begin().unwrap();
    for key in &keys[10..] {
        transaction.delete("devices", key).unwrap();
    }
    transaction.commit().unwrap();

    let mut engine = engine;
    let snapshot = engine.snapshot().unwrap();
    assert!(!engine.compact().unwrap_err().storage_failed, "an open snapshot is no failure of the disk");
    drop(snapshot);
    engine.compact().unwrap();
    assert!(engine.traffic().file_bytes < 200_000, "{:?}", engine.traffic());
    assert!(engine.used_bytes().unwrap() <= engine.traffic().file_bytes);
    assert_eq!(contents(&engine.snapshot().unwrap()).unwrap().len(), 10);
}

#[test]
fn a_view_shows_what_the_file_would_be_and_leaves_it_alone() {
    let mut noise = Noise(3);
    for _ in 0..100 {
        let start = noise.below(30_000);
        let file = Disk::holding(noise.bytes(start));
        let mut model = file.bytes();
        let view = View::new(file.clone(), model.len() as u64);
        for _ in 0..40 {
            let offset = noise.below(model.len() + 1);
            let length = noise.below(10_000);
            match noise.below(4) {
                0 => {
                    let new = noise.below(40_000);
                    view.set_len(new as u64).unwrap();
                    model.resize(new, 0);
                }
                1 => {
                    let data = noise.bytes(length);
                    view.write(offset as u64, &data).unwrap();
                    model.resize(model.len().max(offset + length), 0);
                    model[offset..offset + length].copy_from_slice(&data);
                }
                _ => {
                    let mut out = vec![9; length];
                    let read = view.read(offset as u64, &mut out);
                    match model.get(offset..offset + length) {
                        Some(expected) => assert!(read.is_ok() && out == expected),
                        None => assert!(read.is_err()),
                    }
                }
            }
            assert_eq!(view.len().unwrap(), model.len() as u64);
        }
        assert_eq!(file.events(), 0);
    }
}
