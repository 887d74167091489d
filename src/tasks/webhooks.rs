//! Sends what is in the outbox. Each webhook has a lane of its own, so that no receiver waits for another one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep_until;

use crate::domain::Services;
use crate::domain::webhooks::{Outgoing, Post, Tried};
use crate::error::Error;
use crate::ids::{DeliveryId, OrganizationId, WebhookId};

/// Requests under way to receivers that have answered well of late.
const TO_PROVEN: usize = 128;
/// Requests under way to all others: however many of them hang, they take no place from those.
const TO_OTHERS: usize = 256;
/// How often it is written down what has ended: by all lanes at the same moments, so that one commit takes it all. What is
/// not written when the process ends is sent once more, under the same id.
const BEAT: Duration = Duration::from_millis(50);
/// How long a lane rests when the store does not answer.
const REST: Duration = Duration::from_secs(1);

type Key = (OrganizationId, WebhookId);

struct Slots {
    proven: Semaphore,
    others: Semaphore,
    /// When the beats began.
    began: Instant,
}

impl Slots {
    fn next_beat(&self) -> Instant {
        let beats = self.began.elapsed().as_millis() / BEAT.as_millis();
        self.began + BEAT * u32::try_from(beats + 1).unwrap_or(u32::MAX)
    }
}

struct Running {
    news: Arc<Notify>,
    task: AbortHandle,
}

/// Starts a lane for each webhook that has something to send; dropping it ends them all.
pub async fn run(services: Arc<Services>, post: Arc<Post>) {
    let (proven, others) = (Semaphore::new(TO_PROVEN), Semaphore::new(TO_OTHERS));
    let slots = Arc::new(Slots { proven, others, began: Instant::now() });
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
    match services.lane(organization, webhook, &HashSet::new(), 0) {
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
        let mut taken: HashSet<DeliveryId> = HashSet::new();
        let mut attempts: JoinSet<Tried> = JoinSet::new();
        let mut ended: Vec<Tried> = Vec::new();
        let mut beat = self.slots.next_beat();
        loop {
            let lane = match self.services.lane(organization, webhook, &taken, attempts.len()) {
                Ok(Some(lane)) => lane,
                Ok(None) => return self.write((organization, webhook), &mut taken, &mut ended).await,
                Err(error) => {
                    rest(&error).await;
                    continue;
                }
            };
            if lane.ready.is_empty() && lane.next.is_none() && taken.is_empty() {
                return;
            }
            for outgoing in lane.ready {
                taken.insert(outgoing.delivery);
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
                    if ended.is_empty() {
                        beat = self.slots.next_beat();
                    }
                    let has_failed = tried.as_ref().is_ok_and(|tried| !tried.is_delivered());
                    ended.extend(tried);
                    if attempts.is_empty() {
                        // An attempt that panicked has told nobody.
                        taken = ended.iter().map(|tried| tried.delivery).collect();
                    }
                    if has_failed {
                        // Whether the receiver gets any more, depends on it.
                        self.write((organization, webhook), &mut taken, &mut ended).await;
                    }
                }
                () = sleep_until(beat.into()), if !ended.is_empty() => {
                    self.write((organization, webhook), &mut taken, &mut ended).await;
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = self.news.notified() => {}
            }
        }
    }

    async fn write(&self, (organization, webhook): Key, taken: &mut HashSet<DeliveryId>, ended: &mut Vec<Tried>) {
        for tried in &*ended {
            taken.remove(&tried.delivery);
        }
        if !ended.is_empty()
            && let Err(error) = self.services.record_attempts(organization, webhook, std::mem::take(ended)).await
        {
            // They are sent once more: better than not at all.
            rest(&error).await;
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
