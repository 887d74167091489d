//! Makes backups: when one is due, and when one is asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::domain::Services;

/// How often is looked whether one is due.
const LOOK: Duration = Duration::from_secs(60);

pub async fn run(services: Arc<Services>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            asked = services.backup_asked() => {
                let Some(asked) = asked else { return };
                // Whoever asked may have gone; the backup is made all the same.
                let _ = asked.answer.send(services.back_up(asked.stamp).await);
            }
            _ = ticks.tick() => {
                if services.is_set_up() && let Err(error) = services.scheduled_backup().await {
                    tracing::error!(%error, "the scheduled backup was not made");
                }
            }
        }
    }
}
