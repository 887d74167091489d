use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::backups::Kept;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::Query;
use crate::http::respond::{Json, Page};
use crate::ids::OrganizationId;

/// A backup that was restored into a scratch folder, counted against the source and verified there.
#[derive(Serialize, JsonSchema)]
pub(super) struct ProvenView {
    /// Name of its file in the folder of backups.
    name: String,
    created_at: Time,
    bytes: u64,
    encrypted: bool,
    /// Records in it, all of which were counted.
    records: u64,
    /// The same by table.
    tables: BTreeMap<String, u64>,
    /// Where each organization's audit log ended, all of which were verified.
    logs: Vec<LogView>,
    /// Whether the second folder has a copy.
    second_copy: SecondCopy,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct LogView {
    organization_id: OrganizationId,
    seq: u64,
    hash: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SecondCopy {
    status: SecondStatus,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SecondStatus {
    NotConfigured,
    Made,
    Failed,
}

pub(super) async fn back_up(services: &Services, op: Op) -> Result<Json<ProvenView>, Error> {
    let made = services.request_backup(&op).await?;
    let second_copy = match made.second_copy {
        None => SecondCopy { status: SecondStatus::NotConfigured, reason: None },
        Some(Ok(())) => SecondCopy { status: SecondStatus::Made, reason: None },
        Some(Err(reason)) => SecondCopy { status: SecondStatus::Failed, reason: Some(reason) },
    };
    let backup = made.backup;
    let records = backup.contents.records();
    let logs = backup.contents.logs.into_iter();
    Ok(Json(ProvenView {
        name: backup.name,
        created_at: backup.created_at,
        bytes: backup.bytes,
        encrypted: backup.encrypted,
        records,
        tables: backup.contents.tables,
        logs: logs.map(|log| LogView { organization_id: log.organization_id, seq: log.seq, hash: log.hash }).collect(),
        second_copy,
    }))
}

#[derive(Serialize, JsonSchema)]
pub(super) struct KeptView {
    name: String,
    created_at: Time,
    bytes: u64,
    encrypted: bool,
}

impl From<Kept> for KeptView {
    fn from(Kept { name, created_at, bytes, encrypted }: Kept) -> Self {
        Self { name, created_at, bytes, encrypted }
    }
}

/// Proven backups in the configured folder, newest first.
pub(super) async fn backups(
    services: &Services,
    op: Op,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<KeptView>>, Error> {
    let all = services.list_backups(&op).await?;
    let (offset, limit) = window(query.page, query.page_size);
    let total = all.len() as u64;
    let data = all.into_iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(limit).map(KeptView::from);
    Ok(Json(page_of(query.page, query.page_size, total, data.collect())))
}
