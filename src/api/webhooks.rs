use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::{WebhooksEdit, WebhooksView};
use crate::domain::op::Op;
use crate::domain::webhooks::{self, NewWebhook, ShownWebhook, WebhookChange};
use crate::error::Error;
use crate::http::extract::{self, IfMatch, OptionalJson, Path, Query};
use crate::http::respond::{Created, Json, NoContent, Page, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{DeliveryId, OrganizationId, WebhookId};
use crate::model::webhook::{Attempt, Delivery, DeliveryState, EventName, Webhook, WebhookState};

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    let (view, edit) = (Access::needs(WebhooksView), Access::needs(WebhooksEdit));
    vec![
        Route::get("/webhooks", view, Standard, list),
        Route::post("/webhooks", edit, Standard, create),
        Route::get("/webhooks/{id}", view, Standard, get),
        Route::put("/webhooks/{id}", edit, Standard, change),
        Route::delete("/webhooks/{id}", edit, Standard, delete),
        Route::post("/webhooks/{id}/test", edit, Standard, test),
        Route::post("/webhooks/{id}/rotate-secret", edit, Standard, rotate_secret),
        Route::get("/webhooks/{id}/deliveries", view, Standard, deliveries),
        Route::post("/webhooks/{id}/deliveries/{did}/redeliver", edit, Standard, redeliver),
    ]
}

#[derive(Serialize, JsonSchema)]
struct WebhookView {
    id: WebhookId,
    organization_id: OrganizationId,
    url: String,
    events: Vec<String>,
    enabled: bool,
    /// Why the appliance has disabled it; null when it has not.
    disabled_reason: Option<String>,
    /// Until when the secret before signs as well; null when it does not.
    previous_secret_until: Option<Time>,
    /// Deliveries that wait.
    pending: u64,
    /// Events that were not sent because 10,000 deliveries waited already.
    dropped: u64,
    /// Since when every attempt has failed.
    failing_since: Option<Time>,
    last_delivered_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

impl From<ShownWebhook> for WebhookView {
    fn from(ShownWebhook { webhook, state }: ShownWebhook) -> Self {
        let Webhook { id, organization_id, url, events, enabled, disabled_reason, previous_secret, .. } = webhook;
        let WebhookState { pending, dropped, failing_since, last_delivered_at, .. } = state;
        Self {
            id,
            organization_id,
            url,
            events,
            enabled,
            disabled_reason,
            previous_secret_until: previous_secret.map(|(_, until)| until),
            pending,
            dropped,
            failing_since,
            last_delivered_at,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

fn tagged(shown: ShownWebhook) -> Tagged<Json<WebhookView>> {
    let state = &shown.state;
    let beside = (state.pending, state.dropped, state.failing_since, state.last_delivered_at);
    Tagged { tag: Tag::of(shown.webhook.revision, &beside), answer: Json(shown.into()) }
}

async fn list(
    services: &Services,
    op: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<WebhookView>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.webhooks(&op, offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}

async fn get(services: &Services, op: Op, Path(id): Path<WebhookId>) -> Result<Tagged<Json<WebhookView>>, Error> {
    services.webhook(&op, id).map(tagged)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebhookBody {
    /// https, or http to a private address.
    #[schemars(length(min = 1, max = 2048))]
    url: String,
    /// Names of events, `*` for all, `device.*` for those of devices.
    #[schemars(length(min = 1, max = 32))]
    events: Vec<String>,
    /// What deliveries are signed with; made up when left out.
    #[schemars(length(min = 16, max = 256))]
    secret: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct IssuedWebhook {
    #[serde(flatten)]
    webhook: WebhookView,
    /// Shown only here.
    secret: String,
}

impl From<webhooks::IssuedWebhook> for IssuedWebhook {
    fn from(issued: webhooks::IssuedWebhook) -> Self {
        Self { webhook: issued.shown.into(), secret: issued.secret }
    }
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(WebhookBody { url, events, secret }): extract::Json<WebhookBody>,
) -> Result<Created<IssuedWebhook>, Error> {
    let issued = services.create_webhook(&op, NewWebhook { url, events, secret }).await?;
    let location = format!("/api/v1/webhooks/{}", issued.shown.webhook.id);
    Ok(Created { location, resource: issued.into() })
}

/// What is left out stays as it is. The secret is changed by rotating it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    #[schemars(length(min = 1, max = 2048))]
    url: Option<String>,
    #[schemars(length(min = 1, max = 32))]
    events: Option<Vec<String>>,
    /// A disabled webhook is told of nothing new; what waits for it is sent once it is enabled again.
    enabled: Option<bool>,
}

async fn change(
    services: &Services,
    op: Op,
    Path(id): Path<WebhookId>,
    IfMatch(revision): IfMatch,
    extract::Json(ChangeBody { url, events, enabled }): extract::Json<ChangeBody>,
) -> Result<Tagged<Json<WebhookView>>, Error> {
    services.change_webhook(&op, id, WebhookChange { url, events, enabled }, revision).await.map(tagged)
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<WebhookId>,
    IfMatch(revision): IfMatch,
) -> Result<NoContent, Error> {
    services.delete_webhook(&op, id, revision).await.map(|()| NoContent)
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// Made up when left out.
    #[schemars(length(min = 16, max = 256))]
    secret: Option<String>,
}

async fn rotate_secret(
    services: &Services,
    op: Op,
    Path(id): Path<WebhookId>,
    IfMatch(revision): IfMatch,
    OptionalJson(Rotation { secret }): OptionalJson<Rotation>,
) -> Result<Json<IssuedWebhook>, Error> {
    services.rotate_webhook_secret(&op, id, secret, revision).await.map(|issued| Json(issued.into()))
}

#[derive(Serialize, JsonSchema)]
struct DeliveryView {
    /// The `X-Zero-Delivery` of every attempt.
    id: DeliveryId,
    webhook_id: WebhookId,
    event: EventName,
    state: DeliveryState,
    /// What is sent.
    body: Value,
    created_at: Time,
    /// Null once it has ended.
    next_attempt_at: Option<Time>,
    finished_at: Option<Time>,
    /// The last five, oldest first.
    attempts: Vec<AttemptView>,
}

#[derive(Serialize, JsonSchema)]
struct AttemptView {
    at: Time,
    duration_ms: u64,
    /// Null when no answer came.
    status: Option<u16>,
    /// Null when it succeeded.
    error: Option<String>,
    /// The first 1,024 bytes of what was answered.
    answer: String,
}

impl DeliveryView {
    fn new(webhook_id: WebhookId, delivery: Delivery) -> Self {
        let Delivery { id, event, body, created_at, state, next_attempt_at, finished_at, attempts, .. } = delivery;
        let attempts = attempts.into_iter().map(|attempt| {
            let Attempt { at, duration_ms, status, error, answer } = attempt;
            AttemptView { at, duration_ms, status, error, answer }
        });
        Self {
            id,
            webhook_id,
            event,
            state,
            body: serde_json::from_str(&body).unwrap_or_default(),
            created_at,
            next_attempt_at,
            finished_at,
            attempts: attempts.collect(),
        }
    }
}

async fn test(services: &Services, op: Op, Path(id): Path<WebhookId>) -> Result<Json<DeliveryView>, Error> {
    services.test_webhook(&op, id).await.map(|delivery| Json(DeliveryView::new(id, delivery)))
}

async fn deliveries(
    services: &Services,
    op: Op,
    Path(id): Path<WebhookId>,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<DeliveryView>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.deliveries(&op, id, offset, limit)?;
    let found = found.into_iter().map(|delivery| DeliveryView::new(id, delivery));
    Ok(Json(page_of(page, page_size, total, found.collect())))
}

async fn redeliver(
    services: &Services,
    op: Op,
    Path((id, delivery)): Path<(WebhookId, DeliveryId)>,
) -> Result<Json<DeliveryView>, Error> {
    services.redeliver(&op, id, delivery).await.map(|again| Json(DeliveryView::new(id, again)))
}
