use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::DevicesView;
use crate::domain::events::{Happened, News};
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::LastEventId;
use crate::http::route::{Access, RateClass, Route};
use crate::http::sse::{self, Events};
use crate::http::stream::Stream;
use crate::model::audit::{Actor, ActorType, AuditResult, Resource};

pub fn routes() -> Vec<Route> {
    vec![Route::get("/events", Access::needs_or_own(DevicesView), RateClass::Standard, follow)]
}

/// How long a client that was cut off is asked to wait, in milliseconds.
const RETRY: u32 = 3_000;

/// The data of one event, which is also that event's `id` and `event`.
///
/// The first event of a stream is `ready`: what happens after its `id` follows. It is `reset` instead where the stream
/// cannot go on after `Last-Event-ID`, and may come later too: whatever is shown has to be read anew.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum LiveEvent {
    Happened(LiveEntry),
    Reset {
        id: u64,
        /// Why the stream does not go on where the client was.
        reason: &'static str,
    },
    Ready {
        id: u64,
    },
}

/// An entry of the audit log, as far as a client needs it to know what to read anew.
#[derive(Serialize, JsonSchema)]
struct LiveEntry {
    /// The entry's `seq`.
    id: u64,
    /// As in the audit log.
    action: String,
    /// As webhooks call it, where they know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<ResourceView>,
    /// Only for holders of `users.view` or `audit.view`.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<ActorView>,
    timestamp: Time,
    result: AuditResult,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveResource")]
struct ResourceView {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    name: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveActor")]
struct ActorView {
    #[serde(rename = "type")]
    kind: ActorType,
    id: Option<String>,
    name: Option<String>,
}

impl From<Happened> for LiveEntry {
    fn from(Happened { entry, event, shows_actor }: Happened) -> Self {
        let Actor { kind, id, name } = entry.actor;
        Self {
            id: entry.seq,
            action: entry.action,
            event: event.map(|event| event.as_str()),
            resource: entry.resource.map(|Resource { kind, id, name }| ResourceView { kind, id, name }),
            actor: shows_actor.then_some(ActorView { kind, id, name }),
            timestamp: entry.timestamp,
            result: entry.result,
        }
    }
}

async fn follow(services: &Services, op: Op, LastEventId(last): LastEventId) -> Result<Events<LiveEvent>, Error> {
    let following = services.follow(&op, last.as_deref())?;
    let pieces = stream::try_unfold(following, |mut following| async {
        let news = following.next().await?;
        news.map(|news| Ok((written(news)?, following))).transpose()
    });
    Ok(Events::new(Stream::new(pieces)))
}

fn written(news: News) -> Result<Bytes, Error> {
    let mut text = Vec::new();
    match news {
        News::Ready { at } => {
            sse::write_retry(RETRY, &mut text);
            sse::write(at, "ready", &LiveEvent::Ready { id: at }, &mut text)?;
        }
        News::Reset { at, reason } => {
            sse::write_retry(RETRY, &mut text);
            sse::write(at, "reset", &LiveEvent::Reset { id: at, reason }, &mut text)?;
        }
        News::Happened(all) => {
            for entry in all.into_iter().map(LiveEntry::from) {
                let name = entry.event.unwrap_or(&entry.action).to_owned();
                sse::write(entry.id, &name, &LiveEvent::Happened(entry), &mut text)?;
            }
        }
        News::Quiet => text.extend_from_slice(sse::COMMENT),
    }
    Ok(text.into())
}
