//! What the service manager is told (sd_notify(3)), and the regular look at the process's own health.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;

use crate::logging::Guard;

/// How often lost log lines are reported, and health is looked at where no watchdog asks for it.
const LOOK: Duration = Duration::from_secs(10);

/// Shortest time between two signs of life: bounds what a wrong `WATCHDOG_USEC` costs.
const SHORTEST: Duration = Duration::from_millis(100);

/// How long a start may take, as the unit says (`TimeoutStartSec`). After an update that had to be undone the old version
/// has as long: the service manager counts no start then.
pub(super) const START: Duration = Duration::from_secs(600);

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

    /// The end of [`wait_for`].
    pub fn watch_again(&self) {
        if let Some(time) = self.watchdog {
            wait_for(time);
        }
    }

    pub fn stopping(&self) {
        notify(NotifyState::Stopping);
    }

    /// Gives the watchdog a sign of life twice in its time, for as long as the appliance is healthy: an appliance that
    /// runs but cannot store anything is one to restart.
    pub async fn watch(&self, log: &Guard) -> Infallible {
        let pause = self.watchdog.map_or(LOOK, |time| (time / 2).clamp(SHORTEST, LOOK));
        let mut was_healthy = true;
        loop {
            log.report_lost();
            // This future has a thread of its own: only a task that has run shows that the other threads still do.
            let running = tokio::spawn(ready(())).await.is_ok();
            let healthy = running && (self.healthy)();
            if healthy && self.watchdog.is_some() {
                notify(NotifyState::Watchdog);
            }
            if was_healthy && !healthy {
                tracing::error!("the appliance is not healthy: it gives the watchdog no more signs of life");
            }
            was_healthy = healthy;
            // A pause, not a beat: the look itself may take a while, and a beat missed by it would follow at once.
            sleep(pause).await;
        }
    }
}

/// Has the service manager wait this long for the next sign of life, where it waits for one.
pub(super) fn wait_for(time: Duration) {
    if sd_notify::watchdog_enabled().is_some() {
        notify(NotifyState::WatchdogUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)));
    }
}

/// Does nothing where no service manager listens.
fn notify(state: NotifyState<'_>) {
    let said = state.to_string();
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, said, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::config::{Config, Flags};

    const UNIT: &str = include_str!("../../../packaging/systemd/zero.service");

    fn value(key: &str) -> &'static str {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("the unit does not say {key}"))
    }

    #[test]
    fn the_service_manager_waits_for_the_longest_drain_and_does_not_retry_wrong_settings() {
        let longest = [("ZERO_SERVER_DRAIN_SECONDS".into(), "300".into())];
        let longest =
            Config::load(None, longest, Flags::default()).expect("300 s is the longest drain").config.server.drain;
        assert!(value("TimeoutStopSec").parse::<u64>().unwrap() > longest.as_secs());
        assert_eq!(value("RestartPreventExitStatus"), crate::cli::WRONG_USAGE.to_string());
        assert_eq!(value("Type"), "notify");
        assert_eq!(value("TimeoutStartSec"), super::START.as_secs().to_string());
    }

    #[test]
    fn the_service_starts_with_a_command_that_exists() {
        use clap::Parser;
        let command = value("ExecStart").strip_prefix("/usr/bin/").expect("it is installed there");
        assert!(crate::cli::Cli::try_parse_from(command.split(' ')).is_ok(), "{command}");
    }

    /// A word that systemd does not know is ignored at run time, and with it the protection it was meant to give.
    #[test]
    fn systemd_understands_every_line_of_the_unit() {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join("zero.service");
        std::fs::write(&unit, UNIT.replace("/usr/bin/zero", "/bin/true")).unwrap();
        let Ok(checked) = Command::new("systemd-analyze").arg("verify").arg(&unit).output() else {
            return eprintln!("systemd-analyze is not installed: the unit was not checked by it");
        };
        let said = String::from_utf8_lossy(&checked.stderr);
        let about_ours: Vec<_> = said.lines().filter(|line| line.contains("zero.service")).collect();
        assert!(about_ours.is_empty(), "{about_ours:#?}");
    }
}
