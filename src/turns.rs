//! Which thread goes first where there are more than processors: one that somebody waits for, before one that computes.
//!
//! Each function is about the thread that calls it. Where the system does not know how, everything works, and requests
//! wait longer for what computes beside them.

use std::mem::size_of;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a thread that answers goes on at a time: the shortest there is. In exchange it begins as soon as it has
/// something to do, also while another is in the middle of its own turn.
const SHORT: Duration = Duration::from_micros(100);
/// Niceness (setpriority(2)) with which a thread gets about a tenth of the time of one that has none.
const NICENESS: i32 = 10;

/// For a thread that answers (sched_setattr(2); since Linux 6.12).
pub fn short() {
    set(SHORT);
}

/// For a thread that computes; those it starts would otherwise have the turns of whoever starts them.
pub fn long() {
    // The system's own length.
    set(Duration::ZERO);
}

/// For a thread that nobody waits for.
pub fn last() {
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a thread in the background has the priority of all others");
    }
    aside();
}

/// For a thread that makes long system calls, as commits and backups do: the system ends one before it makes room, so one
/// processor is left to the others, where there are several.
pub fn aside() {
    // Once for all, since each such thread has what the one that started it has.
    static OTHERS: OnceLock<Option<CpuSet>> = OnceLock::new();
    if let Some(others) = OTHERS.get_or_init(all_but_one)
        && let Err(error) = sched_setaffinity(None, others)
    {
        tracing::debug!(%error, "a thread with long system calls uses all processors");
    }
}

/// The processors that this thread may use, without the first; `None` when that is the only one.
fn all_but_one() -> Option<CpuSet> {
    let mut processors = sched_getaffinity(None).ok()?;
    let first = (0..CpuSet::MAX_CPU).find(|number| processors.is_set(*number))?;
    processors.unset(first);
    (processors.count() > 0).then_some(processors)
}

fn set(turn: Duration) {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER.unsigned_abs(),
        sched_flags: 0,
        sched_nice: getpriority_process(None).unwrap_or_default(),
        sched_priority: 0,
        sched_runtime: turn.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: it reads `attributes`, which says its own size, and changes this thread (0) alone.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a thread has turns of the usual length");
    }
}
