//! What goes on without a request. Each task is a loop around one step of `domain::maintenance`.

mod backups;
mod syslog;
mod webhooks;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::domain::Services;
use crate::domain::audit::forward::Connect;
use crate::domain::webhooks::Post;
use crate::error::Error;

/// How often silent devices are looked for.
const OFFLINE: Duration = Duration::from_secs(2);
/// How often changed verdicts are looked for.
const COMPLIANCE: Duration = Duration::from_secs(1);
/// How often lapsed things are looked for.
const TIDY: Duration = Duration::from_secs(60);
/// How often requirements are looked for that nobody has confirmed.
const CONFIRM: Duration = Duration::from_secs(1);
/// How often waiting mail is looked for.
const MAIL: Duration = Duration::from_secs(1);
/// How often old deliveries are looked for.
const FORGET: Duration = Duration::from_secs(60 * 60);
/// How often old commands are looked for, among all there are.
const HISTORY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often logs that have grown get a signed checkpoint, and let go of what is past its time.
const AUDIT: Duration = Duration::from_secs(60 * 60);
/// How often a write is tried, for `/health` and the watchdog.
const PROBE: Duration = Duration::from_secs(5);

/// Starts all tasks, but for two on the threads of `background`; dropping the set ends them.
pub fn start(
    background: &Handle,
    services: &Arc<Services>,
    heartbeat_flush: Duration,
    post: Arc<Post>,
    collector: Option<Arc<Connect>>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    // The probe is to see when the disk keeps everything in the background waiting, and people wait for settings.
    tasks.spawn(settings(services.clone()));
    tasks.spawn(every(PROBE, services.clone(), |services| async move {
        services.probe().await;
        Ok(())
    }));
    let _spawned_there = background.enter();
    if let Some(connect) = collector {
        tasks.spawn(syslog::run(services.clone(), connect));
    }
    tasks.spawn(webhooks::run(services.clone(), post));
    tasks.spawn(backups::run(services.clone()));
    tasks.spawn(every(FORGET, services.clone(), |services| async move { services.forget_deliveries().await }));
    tasks.spawn(every(HISTORY, services.clone(), |services| async move { services.forget_commands().await }));
    tasks.spawn(every(CONFIRM, services.clone(), |services| async move { services.take_back_unconfirmed_mfa().await }));
    tasks.spawn(every(OFFLINE, services.clone(), |services| async move { services.mark_offline().await }));
    tasks.spawn(every(COMPLIANCE, services.clone(), |services| async move { services.record_compliance().await }));
    tasks.spawn(every(TIDY, services.clone(), |services| async move {
        services.judge_by_time().await?;
        services.tidy().await
    }));
    tasks.spawn(every(heartbeat_flush, services.clone(), |services| async move { services.write_heartbeats().await }));
    tasks.spawn(every(MAIL, services.clone(), |services| async move { services.deliver_mail().await }));
    tasks.spawn(every(AUDIT, services.clone(), |services| async move {
        services.checkpoint_logs().await?;
        services.expire_audit_logs().await
    }));
    tasks
}

async fn settings(services: Arc<Services>) {
    loop {
        if let Err(error) = services.take_back_unconfirmed().await {
            tracing::error!(%error, "the audit log could not be told of settings that went back");
        }
    }
}

async fn every<F>(period: Duration, services: Arc<Services>, step: impl Fn(Arc<Services>) -> F)
where
    F: Future<Output = Result<(), Error>>,
{
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if !services.is_set_up() {
            continue;
        }
        if let Err(error) = step(services.clone()).await {
            tracing::error!(%error, "a background task failed");
        }
    }
}
