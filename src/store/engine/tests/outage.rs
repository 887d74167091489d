//! Power cuts, full disks and failing ones: what was acknowledged is there afterwards, and nothing by halves.

use super::*;

/// One thing that was done, and what must be there once it has returned.
struct Step {
    moment: usize,
    contents: Contents,
}

/// A life of an appliance: commits that grow the file, deletions, a compaction and a proper end.
fn live(disk: &Disk) -> Vec<Step> {
    let mut engine = Engine::open_on(disk.clone(), OPTIONS).unwrap();
    let mut steps = vec![Step { moment: disk.events(), contents: Contents::new() }];
    let mut noise = Noise(31);
    for commit in 0..8u32 {
        let mut transaction = engine.begin().unwrap();
        for row in 0..10u32 {
            let length = noise.below(3000);
            let table = TABLES[row as usize % 2];
            transaction.put(table, &[commit.to_be_bytes(), row.to_be_bytes()].concat(), &noise.bytes(length)).unwrap();
            if commit > 3 {
                transaction.delete(table, &[(commit - 4).to_be_bytes(), row.to_be_bytes()].concat()).unwrap();
            }
        }
        transaction.commit().unwrap();
        steps.push(Step { moment: disk.events(), contents: contents(&engine.snapshot().unwrap()).unwrap() });
    }
    let last = steps[steps.len() - 1].contents.clone();
    engine.compact().unwrap();
    steps.push(Step { moment: disk.events(), contents: last.clone() });
    engine.close().unwrap();
    steps.push(Step { moment: disk.events(), contents: last });
    steps
}

/// What may be there after a power cut at `moment`: the last step that had returned, or the one under way.
fn possible(steps: &[Step], moment: usize) -> &[Step] {
    let returned = steps.iter().rposition(|step| step.moment <= moment).unwrap();
    &steps[returned..(returned + 2).min(steps.len())]
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged() {
    let disk = Disk::default();
    let steps = live(&disk);
    let mut noise = Noise(37);
    for moment in steps[0].moment..=disk.events() {
        let possible = possible(&steps, moment);
        let found = |disk: &Disk, when: &str| {
            let engine = Engine::open_on(disk.clone(), OPTIONS)
                .unwrap_or_else(|error| panic!("{when} {moment} of {}: {error}", disk.events()));
            let found = contents(&engine.snapshot().unwrap()).unwrap();
            assert!(possible.iter().any(|step| step.contents == found), "{when} {moment}: other contents");
        };
        let mut cut = vec![disk.after_power_cut(moment, || false), disk.after_power_cut(moment, || true)];
        cut.extend((0..2).map(|_| disk.after_power_cut(moment, || noise.coin())));
        for after in &cut {
            found(after, "cut at");
        }
        // `after` was opened above, so that its journal is that of the recovery: cut that, too.
        let recovery = &cut[cut.len() - 1];
        let second = noise.below(recovery.events() + 1);
        found(&recovery.after_power_cut(second, || noise.coin()), "cut again after");
    }
}

#[test]
fn a_full_disk_refuses_the_commit_and_keeps_what_was_there() {
    for space in (0..120_000).step_by(2_500) {
        let disk = Disk::default();
        let engine = Engine::open_on(disk.clone(), OPTIONS).unwrap();
        put(&engine, &[("devices", b"before", b"1")]);
        let before = contents(&engine.snapshot().unwrap()).unwrap();

        disk.fill_up_after(space);
        let mut written = Ok(());
        let mut last = before.clone();
        for commit in 0..10u8 {
            let mut transaction = engine.begin().unwrap();
            let value = vec![commit; 5000];
            written = transaction.put("events", &[commit], &value).and_then(|()| transaction.commit());
            if written.is_err() {
                break;
            }
            last.insert(("events", vec![commit]), value);
        }
        let error = written.expect_err("ten times 5000 bytes do not fit");
        assert!(error.storage_failed, "{error}");
        assert!(engine.begin().is_err(), "after a failed commit nothing more may be written");
        drop(engine);

        let engine = Engine::open_on(Disk::holding(disk.bytes()), OPTIONS).unwrap();
        assert!(contents(&engine.snapshot().unwrap()).unwrap() == last, "space {space}");
    }
}

#[test]
fn a_failing_sync_fails_the_commit_and_everything_after_it() {
    for syncs in 0..2 {
        let disk = Disk::default();
        let engine = Engine::open_on(disk.clone(), OPTIONS).unwrap();
        put(&engine, &[("devices", b"before", b"1")]);
        let before = contents(&engine.snapshot().unwrap()).unwrap();

        disk.fail_syncs_after(syncs);
        let mut transaction = engine.begin().unwrap();
        transaction.put("devices", b"after", b"1").unwrap();
        assert!(transaction.commit().unwrap_err().storage_failed);
        assert!(engine.begin().is_err());
        drop(engine);

        let engine = Engine::open_on(disk.after_power_cut(disk.events(), || false), OPTIONS).unwrap();
        assert!(contents(&engine.snapshot().unwrap()).unwrap() == before);
    }
}
