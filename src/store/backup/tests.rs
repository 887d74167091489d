use std::io::Cursor;

use tempfile::TempDir;

use super::*;
use crate::model::backup::Contents;
use crate::store::engine::faults::Disk;
use crate::store::engine::{Engine, Options};
use crate::store::tables;

const OPTIONS: Options = Options { cache_bytes: 1 << 20, verify_up_to_bytes: 0 };

/// A backup of some rows in some tables, as its bytes.
fn backup() -> (Vec<u8>, Contents) {
    let engine = Engine::open_on(Disk::default(), OPTIONS).unwrap();
    let mut transaction = engine.begin().unwrap();
    for (index, table) in tables::ALL.iter().enumerate().filter(|(_, table)| !table.name.contains("audit")).take(9) {
        for row in 0..40_u32 {
            // Not of much use when it is compressed, as real rows are not.
            let value: Vec<u8> = (0..120_u32).map(|n| (n.wrapping_mul(2_654_435_761 ^ row) >> 13) as u8).collect();
            transaction
                .put(table.name, &[index.to_be_bytes().as_slice(), &row.to_be_bytes()].concat(), &value)
                .unwrap();
        }
    }
    // Not the organizations themselves: theirs would have to be records.
    let (from, to) = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    transaction.delete_range("organizations", from, to).unwrap();
    transaction.delete_range("meta", from, to).unwrap();
    transaction.commit().unwrap();
    let mut bytes = Vec::new();
    let files = [("ca.key".to_owned(), b"a key".to_vec()), ("ca.pem".to_owned(), vec![7; 900])];
    let contents = write(&engine.snapshot().unwrap(), &files, Time::from_unix(1), &mut bytes).unwrap();
    (bytes, contents)
}

fn check(bytes: &[u8]) -> Result<Restored, BackupError> {
    let folder = TempDir::new().unwrap();
    let scratch = folder.path().join("scratch");
    let restored = load(Cursor::new(bytes), &scratch, &Guard::new(0))?;
    prove(&scratch, &restored, None).map(|()| restored)
}

#[test]
fn a_backup_is_restored_as_it_was() {
    let (bytes, contents) = backup();
    let restored = check(&bytes).unwrap();
    assert_eq!(restored.contents, contents);
    assert!(contents.records() > 250, "{}", contents.records());
    assert_eq!(contents.files, 2);
}

#[test]
fn one_flipped_bit_is_found_wherever_it_is() {
    let (bytes, _) = backup();
    for place in 0..200 {
        let mut damaged = bytes.clone();
        let at = place * (bytes.len() - 1) / 199;
        damaged[at] ^= 1 << (place % 8);
        assert!(check(&damaged).is_err(), "a flipped bit in byte {at} of {} was not found", bytes.len());
    }
}

#[test]
fn a_cut_a_longer_and_a_rearranged_backup_are_found() {
    let (bytes, _) = backup();
    for length in (0..bytes.len()).step_by(bytes.len() / 50) {
        assert!(check(&bytes[..length]).is_err(), "cut off at {length} of {}", bytes.len());
    }
    assert!(check(&[&bytes[..], b"x"].concat()).is_err());
    let frames = frames(&bytes);
    assert!(frames.len() > 8);
    for index in 0..frames.len() - 1 {
        let mut swapped = frames.clone();
        swapped.swap(index, index + 1);
        let mut doubled = frames.clone();
        doubled.insert(index, frames[index]);
        let mut missing = frames.clone();
        missing.remove(index);
        for (what, frames) in [("swapped", swapped), ("doubled", doubled), ("missing", missing)] {
            let bytes = [&bytes[..8], &frames.concat()].concat();
            assert!(check(&bytes).is_err(), "part {index} {what} was not found");
        }
    }
}

fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = &bytes[8..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let stored = u32::from_le_bytes(rest[5..9].try_into().unwrap()) as usize;
        let (frame, after) = rest.split_at(9 + stored + 32);
        frames.push(frame);
        rest = after;
    }
    frames
}
