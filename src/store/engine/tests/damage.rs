//! A file that was damaged while nobody had it open: it opens with everything in it, or it is refused and stays as it
//! is.

use super::*;

struct Sample {
    bytes: Vec<u8>,
    contents: Contents,
    /// Before the last commit.
    previous: Contents,
}

/// A file with pages of every kind: closed properly, or left by a process that was killed.
fn sample(closed: bool) -> Sample {
    let disk = Disk::default();
    let engine = Engine::open_on(disk.clone(), OPTIONS).unwrap();
    let mut noise = Noise(11);
    let mut previous = Contents::new();
    for commit in 0..6u32 {
        previous = contents(&engine.snapshot().unwrap()).unwrap();
        let mut transaction = engine.begin().unwrap();
        for row in 0..100u32 {
            let key = [commit.to_be_bytes(), row.to_be_bytes()].concat();
            transaction.put("devices", &key, &noise.bytes(200)).unwrap();
        }
        // Longer than a page, and few enough for branches of one level.
        transaction.put("events", &commit.to_be_bytes(), &noise.bytes(9000)).unwrap();
        transaction.delete("devices", &[0u32.to_be_bytes(), commit.to_be_bytes()].concat()).unwrap();
        transaction.commit().unwrap();
    }
    let contents = contents(&engine.snapshot().unwrap()).unwrap();
    if closed {
        engine.close().unwrap();
        return Sample { bytes: disk.bytes(), contents, previous };
    }
    Sample { bytes: disk.bytes(), contents, previous }
}

/// Opens `bytes`; checks that what opens is `expected`, and that what is refused was not touched.
fn opens_whole_or_is_refused(bytes: Vec<u8>, expected: &Contents, damage: &str) -> Result<(), OpenError> {
    let disk = Disk::holding(bytes);
    match Engine::open_on(disk.clone(), OPTIONS) {
        Ok(engine) => {
            let found = contents(&engine.snapshot().unwrap()).unwrap();
            assert!(&found == expected, "{damage}: opened with other contents");
            put(&engine, &[("devices", b"next", b"1")]);
            engine.close().unwrap_or_else(|error| panic!("{damage}: {error}"));
            let again = Engine::open_on(disk, OPTIONS).unwrap_or_else(|error| panic!("{damage}, reopened: {error}"));
            assert_eq!(contents(&again.snapshot().unwrap()).unwrap().len(), expected.len() + 1, "{damage}");
            Ok(())
        }
        Err(error) => {
            assert_eq!(disk.events(), 0, "{damage}: refused, but written to");
            Err(error)
        }
    }
}

#[test]
fn an_undamaged_file_is_opened() {
    for closed in [true, false] {
        let sample = sample(closed);
        opens_whole_or_is_refused(sample.bytes, &sample.contents, "none").unwrap();
    }
}

#[test]
fn an_empty_file_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zero.redb");
    fs::write(&path, b"").unwrap();
    let error = Engine::open(&path, OPTIONS, |_| Ok(())).err().unwrap();
    assert!(matches!(error, OpenError::Empty { .. }));
    assert!(error.to_string().contains("Put a copy of the file taken earlier in its place"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn a_file_of_something_else_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zero.redb");
    let mut noise = Noise(5);
    let cases = [b"x".to_vec(), vec![0; 1], vec![0; 1 << 20], noise.bytes(100), noise.bytes(1 << 20)];
    for bytes in cases {
        fs::write(&path, &bytes).unwrap();
        let opened = Engine::open(&path, OPTIONS, |_| Ok(()));
        assert!(matches!(opened, Err(OpenError::NotADatabase { .. })));
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused_wherever_it_was_cut() {
    for closed in [true, false] {
        let Sample { bytes, contents, .. } = sample(closed);
        let mut noise = Noise(13);
        let in_pages = (0..bytes.len()).step_by(4096).skip(1);
        let anywhere: Vec<usize> = (0..100).map(|_| 9 + noise.below(bytes.len() - 9)).collect();
        for length in in_pages.chain([9, 10, 63, 64, 319, 320, 4095, bytes.len() - 1]).chain(anywhere) {
            let damage = format!("{length} of {} bytes left, closed: {closed}", bytes.len());
            let result = opens_whole_or_is_refused(bytes[..length].to_vec(), &contents, &damage);
            assert!(matches!(result, Err(OpenError::Damaged { .. })), "{damage}: {result:?}");
        }
    }
}

#[test]
fn no_flipped_bit_of_the_header_loses_anything() {
    for closed in [true, false] {
        let Sample { bytes, contents, previous } = sample(closed);
        for bit in 0..320 * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Which of the two commits counts is one bit that nothing vouches for. In a file that was not closed,
            // both answers are possible after a power cut.
            let expected = if !closed && bit == 9 * 8 { &previous } else { &contents };
            let _ = opens_whole_or_is_refused(damaged, expected, &format!("bit {bit}, closed: {closed}"));
        }
    }
}

#[test]
fn no_flipped_bit_of_a_page_loses_anything() {
    for closed in [true, false] {
        let Sample { bytes, contents, .. } = sample(closed);
        let mut noise = Noise(17);
        let mut refused = 0;
        for _ in 0..400 {
            let (offset, bit) = (320 + noise.below(bytes.len() - 320), noise.below(8));
            let mut damaged = bytes.clone();
            damaged[offset] ^= 1 << bit;
            let damage = format!("bit {bit} of byte {offset}, closed: {closed}");
            refused += usize::from(opens_whole_or_is_refused(damaged, &contents, &damage).is_err());
        }
        assert!(refused > 50, "only {refused} of 400 were noticed: the rest cannot all have been in free space");
    }
}

#[test]
fn pages_that_were_overwritten_lose_nothing() {
    let Sample { bytes, contents, .. } = sample(true);
    let mut noise = Noise(19);
    let mut other = bytes[4096..8192].to_vec();
    for page in 0..bytes.len() / 4096 {
        for content in [vec![0; 4096], vec![0xFF; 4096], noise.bytes(4096), other.clone()] {
            let mut damaged = bytes.clone();
            damaged[page * 4096..][..4096].copy_from_slice(&content);
            let _ = opens_whole_or_is_refused(damaged, &contents, &format!("page {page} overwritten"));
        }
        other = bytes[page * 4096..][..4096].to_vec();
    }
}

#[test]
fn damage_in_a_file_too_long_to_verify_is_an_error_and_no_panic() {
    let options = Options { verify_up_to_bytes: 0, ..OPTIONS };
    let Sample { bytes, .. } = sample(false);
    let mut noise = Noise(23);
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        let page = 4096 * (1 + noise.below(bytes.len() / 4096 - 1));
        for _ in 0..8 {
            damaged[page + noise.below(64)] = noise.next() as u8;
        }
        let Ok(engine) = Engine::open_on(Disk::holding(damaged), options) else { continue };
        read_and_write_what_is_there(engine);
    }
}

#[test]
fn damage_while_the_file_is_open_is_an_error_and_no_panic() {
    let Sample { bytes, .. } = sample(true);
    let mut noise = Noise(29);
    for _ in 0..300 {
        let disk = Disk::holding(bytes.clone());
        let Ok(engine) = Engine::open_on(disk.clone(), Options { cache_bytes: 0, ..OPTIONS }) else { continue };
        let page = 4096 * (1 + noise.below(bytes.len() / 4096 - 1));
        for _ in 0..8 {
            disk.flip(page + noise.below(64), noise.next() as u8);
        }
        read_and_write_what_is_there(engine);
    }
}

/// What comes back may be wrong, since redb does not look at checksums again; it must come back. Committing is left out,
/// and closing, which commits: redb panics there while it unwinds, so that the process aborts with a message.
fn read_and_write_what_is_there(engine: Engine) {
    let _ = engine.snapshot().map(|snapshot| contents(&snapshot).is_ok());
    if let Ok(mut transaction) = engine.begin() {
        for row in 0..20u32 {
            let _ = transaction.put("devices", &[3u32.to_be_bytes(), row.to_be_bytes()].concat(), b"other");
            let _ = transaction.delete("devices", &[2u32.to_be_bytes(), row.to_be_bytes()].concat());
        }
    }
    std::mem::forget(engine);
}
