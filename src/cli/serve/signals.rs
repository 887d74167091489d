//! Being told to stop, or to look again.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::logging::Guard;

/// Exit code of a process that was told twice to stop.
const IMPATIENT: i32 = super::FAILED as i32;

/// What the process has been told.
#[derive(Clone)]
pub(super) struct Stop {
    /// Becomes true once, when it is to stop.
    asked: watch::Receiver<bool>,
    hangup: Arc<Notify>,
}

impl Stop {
    /// Waits until the process is told to stop; at once if it has been.
    pub async fn asked(mut self) {
        // The sender lives as long as the runtime: an error means that everything ends anyway.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }

    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits for the next SIGHUP.
    pub async fn hangup(&self) {
        self.hangup.notified().await;
    }
}

/// Receives SIGTERM, SIGINT and SIGHUP from now on, on a task of its own, so that the second request to stop ends the
/// process even when everything else is stuck. What waits in `log` is written out first.
pub(super) fn listen(log: Arc<Guard>) -> io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (asked, stop) = watch::channel(false);
    let told = Arc::new(Notify::new());
    let stop = Stop { asked: stop, hangup: told.clone() };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: looking at the certificates; settings are read at start only");
                    told.notify_one();
                    continue;
                }
            }
            if asked.send_replace(true) {
                tracing::warn!("told to stop again: ending at once");
                log.flush();
                std::process::exit(IMPATIENT);
            }
            tracing::info!("told to stop: finishing what is under way");
        }
    });
    Ok(stop)
}
