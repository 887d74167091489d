//! Whether the time can be believed: a clock that has just jumped is about to be corrected, or was wrong until now.
//! What cannot be undone waits for it to go on steadily.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Services;
use crate::clock::{Clock, Time};

/// Corrections up to this are those of a clock that works.
const SMALL: Duration = Duration::from_secs(60);
/// From here on much would lapse at once that may not have.
const LARGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long what cannot be undone waits after a large jump.
const WAIT: Duration = Duration::from_secs(60 * 60);

#[derive(Default)]
pub(super) struct Timekeeper(Mutex<State>);

#[derive(Default)]
struct State {
    seen: Option<(Time, Duration)>,
    /// Uptime at the last jump, and at the last large one.
    jumped: Duration,
    jumped_far: Option<Duration>,
}

impl Timekeeper {
    /// How long the time has gone on without a jump, and without a large one; `None` where there was none.
    fn steady(&self, clock: &dyn Clock) -> (Duration, Option<Duration>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, up) = (clock.now(), clock.uptime());
        if let Some((then, up_then)) = state.seen {
            let expected = then.plus(up.saturating_sub(up_then));
            let off = now.since(expected).max(expected.since(now));
            if off > SMALL {
                tracing::warn!(%expected, %now, "the clock has jumped");
                state.jumped = up;
            }
            if off > LARGE {
                state.jumped_far = Some(up);
            }
        }
        state.seen = Some((now, up));
        (up.saturating_sub(state.jumped), state.jumped_far.map(|far| up.saturating_sub(far)))
    }
}

impl Services {
    /// How long the clock has gone on as steadily as the machine, since the start at most.
    pub(in crate::domain) fn steady_for(&self) -> Duration {
        self.timekeeper.steady(&*self.clock).0
    }

    /// Whether the clock has gone on for long enough that what has lapsed by it may be removed for good.
    pub(in crate::domain) fn may_remove_lapsed(&self) -> bool {
        self.timekeeper.steady(&*self.clock).1.is_none_or(|steady| steady >= WAIT)
    }
}
