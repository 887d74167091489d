mod checkpoints;
mod export;
mod formats;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::paging::{first, page_of, size, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::audit::AuditFilter;
use crate::domain::authz::Permission::{AuditExport, AuditView};
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::Query;
use crate::http::respond::{Json, Page};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{AuditId, OrganizationId, RequestId, UserId};
use crate::model::audit::{Actor, ActorType, AuditEntry, AuditResult, SealedNames};
use crate::model::hex::Hex;

pub fn routes() -> Vec<Route> {
    let view = Access::needs(AuditView);
    vec![
        Route::get("/audit-logs", view, RateClass::Standard, list),
        Route::get("/audit-logs/verify", view, RateClass::Standard, checkpoints::verify),
        Route::get("/audit-logs/export", Access::needs(AuditExport), RateClass::Standard, export::export),
        Route::get("/audit-logs/checkpoints", view, RateClass::Standard, checkpoints::list),
        Route::post("/audit-logs/checkpoints", Access::needs(AuditExport), RateClass::Standard, checkpoints::make),
        Route::get("/audit-logs/checkpoints/key", view, RateClass::Standard, checkpoints::key),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    page: u64,
    #[serde(default = "size")]
    #[schemars(range(min = 1, max = 100))]
    page_size: u64,
    from: Option<Time>,
    /// Exclusive.
    to: Option<Time>,
    /// An action, or with a dot at its end all that start with it: `auth.`.
    #[schemars(length(max = 100))]
    action: Option<String>,
    #[schemars(length(max = 100))]
    actor_id: Option<String>,
    #[schemars(length(max = 100))]
    resource_type: Option<String>,
    #[schemars(length(max = 100))]
    resource_id: Option<String>,
    result: Option<AuditResult>,
    source_ip: Option<IpAddr>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct EntryView {
    id: AuditId,
    /// Counts from 1 within the organization, without gaps.
    seq: u64,
    timestamp: Time,
    organization_id: OrganizationId,
    actor: ActorView,
    action: String,
    resource: Option<ResourceView>,
    details: Map<String, Value>,
    source_ip: Option<IpAddr>,
    request_id: Option<RequestId>,
    result: AuditResult,
    /// SHA-256 over the hash before it and this entry.
    hash: String,
    /// What of it names people, and what shows that these names are those in the chain.
    sealed: Vec<SealedView>,
}

#[derive(Serialize, JsonSchema)]
struct SealedView {
    person: UserId,
    /// Where in the entry the names stand; `[erased]` once the person's key is destroyed.
    fields: Vec<String>,
    /// SHA-256 over the salt and the JSON array of the fields' values: this is what the entry's hash has of them.
    digest: Hex,
    /// There while the names are.
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<Hex>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ActorView {
    #[serde(rename = "type")]
    kind: ActorType,
    id: Option<String>,
    name: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ResourceView {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    name: Option<String>,
}

impl From<Actor> for ActorView {
    fn from(Actor { kind, id, name }: Actor) -> Self {
        Self { kind, id, name }
    }
}

impl From<SealedNames> for SealedView {
    fn from(SealedNames { person, fields, digest, salt, .. }: SealedNames) -> Self {
        Self { person, fields, digest, salt }
    }
}

impl From<AuditEntry> for EntryView {
    fn from(entry: AuditEntry) -> Self {
        let resource = entry.resource.map(|r| ResourceView { kind: r.kind, id: r.id, name: r.name });
        Self {
            id: entry.id,
            seq: entry.seq,
            timestamp: entry.timestamp,
            organization_id: entry.organization_id,
            actor: entry.actor.into(),
            action: entry.action,
            resource,
            details: entry.details,
            source_ip: entry.source_ip,
            request_id: entry.request_id,
            result: entry.result,
            hash: entry.hash,
            sealed: entry.sealed.into_iter().map(Into::into).collect(),
        }
    }
}

async fn list(services: &Services, op: Op, Query(query): Query<LogQuery>) -> Result<Json<Page<EntryView>>, Error> {
    let LogQuery { page, page_size, from, to, action, actor_id, resource_type, resource_id, result, source_ip } = query;
    let filter = AuditFilter { from, to, action, actor_id, resource_type, resource_id, result, source_ip };
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.audit_log(&op, filter, offset, limit).await?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}
