//! Sends what is in the outbox. Each webhook has a lane of its own, so that no receiver waits for another one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use crate::domain::Services;
use crate::domain::webhooks::{Outgoing, Post, Tried};
use crate::error::Error;
use crate::ids::{DeliveryId, OrganizationId, WebhookId};

/// Requests under way to receivers that have answered well of late.
const TO_PROVEN: usize = 128;
/// Requests under way to all others: however many of them hang, they take no place from those.
const TO_OTHERS: usize = 256;
/// How long a lane rests when the store does not answer.
const REST: Duration = Duration::from_secs(1);

type Key = (OrganizationId, WebhookId);

struct Slots {
    proven: Semaphore,
    others: Semaphore,
}

struct Running {
    news: Arc<Notify>,
    task: AbortHandle,
}

/// Starts a lane for each webhook that has something to send; dropping it ends them all.
pub async fn run(services: Arc<Services>, post: Arc<Post>) {
    let slots = Arc::new(Slots { proven: Semaphore::new(TO_PROVEN), others: Semaphore::new(TO_OTHERS) });
    let mut tasks: JoinSet<Key> = JoinSet::new();
    let mut lanes: HashMap<Key, Running> = HashMap::new();
    loop {
        let news = tokio::select! {
            keys = services.to_send() => keys,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                lanes.retain(|_, lane| !lane.task.is_finished());
                // What came while the lane ended, it may have missed.
                ended.into_iter().filter(|key| has_more(&services, *key)).collect()
            }
        };
        for key in news {
            if let Some(lane) = lanes.get(&key) {
                lane.news.notify_one();
                continue;
            }
            let news = Arc::new(Notify::new());
            let lane =
                Lane { services: services.clone(), post: post.clone(), slots: slots.clone(), news: news.clone() };
            let task = tasks.spawn(async move {
                lane.run(key).await;
                key
            });
            lanes.insert(key, Running { news, task });
        }
    }
}

fn has_more(services: &Services, (organization, webhook): Key) -> bool {
    match services.lane(organization, webhook, &HashSet::new()) {
        Ok(lane) => lane.is_some_and(|lane| !lane.ready.is_empty() || lane.next.is_some()),
        Err(_) => true,
    }
}

struct Lane {
    services: Arc<Services>,
    post: Arc<Post>,
    slots: Arc<Slots>,
    news: Arc<Notify>,
}

impl Lane {
    /// Sends until nothing waits any more.
    async fn run(&self, (organization, webhook): Key) {
        let mut under_way: HashSet<DeliveryId> = HashSet::new();
        let mut attempts: JoinSet<Tried> = JoinSet::new();
        loop {
            let lane = match self.services.lane(organization, webhook, &under_way) {
                Ok(Some(lane)) => lane,
                Ok(None) => return,
                Err(error) => {
                    rest(&error).await;
                    continue;
                }
            };
            if lane.ready.is_empty() && lane.next.is_none() && under_way.is_empty() {
                return;
            }
            for outgoing in lane.ready {
                under_way.insert(outgoing.delivery);
                attempts.spawn(attempt(
                    self.services.clone(),
                    self.post.clone(),
                    self.slots.clone(),
                    outgoing,
                    lane.is_proven,
                ));
            }
            let now = self.services.now();
            // Whatever is due already waits for an attempt to end.
            let wait = lane.next.map(|next| next.since(now)).filter(|wait| !wait.is_zero());
            tokio::select! {
                Some(tried) = attempts.join_next(), if !attempts.is_empty() => {
                    let mut all: Vec<Tried> = tried.into_iter().collect();
                    while let Some(tried) = attempts.try_join_next() {
                        all.extend(tried);
                    }
                    let ended: Vec<DeliveryId> = all.iter().map(|tried| tried.delivery).collect();
                    if let Err(error) = self.services.record_attempts(organization, webhook, all).await {
                        // They are sent once more: better than not at all.
                        rest(&error).await;
                    }
                    under_way.retain(|id| !ended.contains(id));
                    if attempts.is_empty() {
                        // An attempt that panicked has told nobody.
                        under_way.clear();
                    }
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = self.news.notified() => {}
            }
        }
    }
}

async fn attempt(
    services: Arc<Services>,
    post: Arc<Post>,
    slots: Arc<Slots>,
    outgoing: Outgoing,
    is_proven: bool,
) -> Tried {
    let pool = if is_proven { &slots.proven } else { &slots.others };
    // Never closed.
    let _slot = pool.acquire().await;
    let (delivery, at, began) = (outgoing.delivery, services.now(), Instant::now());
    let answer = post(outgoing).await;
    Tried { delivery, at, duration: began.elapsed(), answer }
}

async fn rest(error: &Error) {
    tracing::error!(%error, "a webhook's deliveries have to wait");
    tokio::time::sleep(REST).await;
}
