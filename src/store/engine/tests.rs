use std::ops::{Bound, ControlFlow};

use super::*;

const OPTIONS: Options = Options { cache_bytes: 4 << 20, verify_up_to_bytes: 256 << 20 };

fn keys(reader: &impl Read, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    reader
        .scan("t", from, to, direction, &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    keys
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zero.redb");
    let engine = Engine::open(&path, OPTIONS, |_| panic!("a new file has nothing to accept")).unwrap();
    let mut transaction = engine.begin().unwrap();
    transaction.put("t", b"k", b"v").unwrap();
    transaction.commit().unwrap();
    engine.close().unwrap();

    let engine = Engine::open(&path, OPTIONS, |_| Ok(())).unwrap();
    assert_eq!(engine.snapshot().unwrap().get("t", b"k", <[u8]>::to_vec).unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "the unfinished file was left behind");
}
