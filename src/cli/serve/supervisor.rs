//! What the service manager is told (sd_notify(3)), and the regular look at the process's own health.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::logging::Guard;

/// How often lost log lines are reported, and health is looked at where no watchdog asks for it.
const LOOK: Duration = Duration::from_secs(10);

/// Shortest time between two signs of life: bounds what a wrong `WATCHDOG_USEC` costs.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) struct Supervisor<H> {
    healthy: H,
    watchdog: Option<Duration>,
}

impl<H: Fn() -> bool> Supervisor<H> {
    pub fn new(healthy: H) -> Self {
        Self { healthy, watchdog: sd_notify::watchdog_enabled() }
    }

    pub fn ready(&self) {
        notify(NotifyState::Ready);
    }

    pub fn stopping(&self) {
        notify(NotifyState::Stopping);
    }

    /// Gives the watchdog a sign of life twice in its time, for as long as the appliance is healthy: an appliance that
    /// runs but cannot store anything is one to restart.
    pub async fn watch(&self, log: &Guard) -> Infallible {
        let mut ticks = interval(self.watchdog.map_or(LOOK, |time| (time / 2).clamp(SHORTEST, LOOK)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_healthy = true;
        loop {
            ticks.tick().await;
            log.report_lost();
            let healthy = (self.healthy)();
            if healthy && self.watchdog.is_some() {
                notify(NotifyState::Watchdog);
            }
            if was_healthy && !healthy {
                tracing::error!("the appliance is not healthy: it gives the watchdog no more signs of life");
            }
            was_healthy = healthy;
        }
    }
}

/// Does nothing where no service manager listens.
fn notify(state: NotifyState<'_>) {
    let said = state.to_string();
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, said, "the service manager cannot be told");
    }
}
