//! The audit logs to a collector elsewhere: one connection, tried anew with growing pauses.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::domain::Services;
use crate::domain::audit::forward::{Collector, Connect, Places};
use crate::error::Error;
use crate::ids::fill_random;

/// How long places are only in memory: what has gone out since the last writing goes out again after a fault, and a
/// collector that dies gets once more what it may not have read.
const NOTE: Duration = Duration::from_secs(5);
/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Sends for ever.
pub async fn run(services: Arc<Services>, connect: Arc<Connect>) {
    let mut pause = FIRST_PAUSE;
    let mut news = services.all_news();
    while !services.is_set_up() {
        _ = news.changed().await;
    }
    loop {
        let began = Instant::now();
        let ended = match connect().await {
            Ok(collector) => {
                tracing::info!("syslog: connected to the collector");
                services.note_collector(Ok(()));
                forward(&services, collector).await
            }
            Err(why) => why,
        };
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let waiting = services.forwarded().and_then(|places| services.not_forwarded(&places)).unwrap_or_default();
        services.note_collector(Err(ended.clone()));
        let wait = jittered(pause);
        tracing::warn!(why = ended, waiting, again_in_ms = wait.as_millis() as u64, "syslog: no connection");
        sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Half of it to all of it: many appliances must not come back to their collector all at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    fill_random(&mut random);
    pause / 2 + pause / 2 * u32::from(random[0]) / 256
}

/// Sends what has not been received, until the connection ends: why.
async fn forward(services: &Services, mut collector: Box<dyn Collector>) -> String {
    match try_forward(services, &mut *collector).await {
        Ok(why) => why,
        Err(error) => error.to_string(),
    }
}

async fn try_forward(services: &Services, collector: &mut dyn Collector) -> Result<String, Error> {
    let mut news = services.all_news();
    let mut places = services.forwarded()?;
    let mut unnoted = Places::new();
    let mut note_at = Instant::now() + NOTE;
    loop {
        news.mark_unchanged();
        let next = services.next_to_forward(places.clone()).await?;
        for (organization, first, last) in next.lost {
            services.note_not_forwarded(organization, first, last).await?;
        }
        if !next.entries.is_empty()
            && let Err(why) = collector.send(next.entries).await
        {
            return Ok(why);
        }
        let is_idle = next.places.is_empty();
        if unnoted.is_empty() {
            note_at = Instant::now() + NOTE;
        }
        places.extend(next.places.clone());
        unnoted.extend(next.places);
        if is_idle {
            tokio::select! {
                biased;
                why = collector.gone() => return Ok(why),
                () = sleep_until(note_at), if !unnoted.is_empty() => {}
                _ = news.changed() => {}
            }
        }
        if !unnoted.is_empty() && Instant::now() >= note_at {
            services.note_forwarded(std::mem::take(&mut unnoted)).await?;
        }
    }
}
