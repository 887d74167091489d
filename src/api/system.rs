use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::SystemAdmin;
use crate::domain::backups::Kept;
use crate::domain::op::Op;
use crate::domain::system::{Certificate, Status};
use crate::error::Error;
use crate::http::extract::Query;
use crate::http::respond::{Json, Page};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::OrganizationId;

pub fn routes() -> Vec<Route> {
    let access = Access::needs(SystemAdmin);
    vec![
        Route::get("/system", access, RateClass::Standard, system),
        Route::get("/system/tls", access, RateClass::Standard, tls),
        Route::post("/system/backup", access, RateClass::Standard, back_up),
        Route::get("/system/backups", access, RateClass::Standard, backups),
    ]
}

/// How the appliance is.
#[derive(Serialize, JsonSchema)]
struct SystemView {
    version: String,
    time: Time,
    uptime_seconds: u64,
    database: DatabaseView,
    disk: DiskView,
    backup: BackupView,
    certificate: Option<CertificateView>,
    queues: Queues,
    /// Of all organizations, by status.
    devices: BTreeMap<String, u64>,
    memory_bytes: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct DatabaseView {
    schema: u64,
    file_bytes: u64,
    /// Since the start.
    written_bytes: u64,
    /// What that comes to in a day; null in the first ten minutes.
    written_bytes_per_day: Option<u64>,
    /// Why nothing can be written; null when all is well.
    ailment: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct DiskView {
    total_bytes: u64,
    free_bytes: u64,
    /// With less than this, whatever would grow the data is refused.
    min_free_bytes: u64,
}

#[derive(Serialize, JsonSchema)]
struct BackupView {
    last_proven_at: Option<Time>,
    age_seconds: Option<u64>,
    /// 0 for none by the clock.
    every_hours: u64,
    overdue: bool,
}

#[derive(Serialize, JsonSchema)]
struct Queues {
    writes: u64,
    mail: u64,
    webhook_deliveries: u64,
    /// Webhooks whose every attempt fails.
    webhooks_failing: u64,
}

#[derive(Serialize, JsonSchema)]
struct CertificateView {
    not_after: Time,
    /// DNS names and addresses that it is good for.
    names: Vec<String>,
    /// Of the authority that signed it.
    ca_not_after: Time,
    ca_sha256: String,
}

impl From<Certificate> for CertificateView {
    fn from(Certificate { not_after, names, ca_not_after, ca_sha256 }: Certificate) -> Self {
        Self { not_after, names, ca_not_after, ca_sha256 }
    }
}

async fn system(services: &Services, op: Op) -> Result<Json<SystemView>, Error> {
    let Status {
        version,
        time,
        uptime_seconds,
        database,
        disk,
        backup,
        certificate,
        webhooks,
        mail_waiting,
        devices,
        memory_bytes,
    } = services.system(&op)?;
    Ok(Json(SystemView {
        version,
        time,
        uptime_seconds,
        queues: Queues {
            writes: database.writes_waiting,
            mail: mail_waiting,
            webhook_deliveries: webhooks.pending,
            webhooks_failing: webhooks.failing,
        },
        database: DatabaseView {
            schema: database.schema,
            file_bytes: database.file_bytes,
            written_bytes: database.written_bytes,
            written_bytes_per_day: database.written_bytes_per_day,
            ailment: database.ailment,
        },
        disk: DiskView {
            total_bytes: disk.total_bytes,
            free_bytes: disk.free_bytes,
            min_free_bytes: disk.min_free_bytes,
        },
        backup: BackupView {
            last_proven_at: backup.last_proven_at,
            age_seconds: backup.age_seconds,
            every_hours: backup.every_hours,
            overdue: backup.overdue,
        },
        certificate: certificate.map(CertificateView::from),
        devices: devices.into_iter().collect(),
        memory_bytes,
    }))
}

async fn tls(services: &Services, op: Op) -> Result<Json<CertificateView>, Error> {
    Ok(Json(services.certificate(&op)?.into()))
}

/// A backup that was restored into a scratch folder, counted against the source and verified there.
#[derive(Serialize, JsonSchema)]
struct ProvenView {
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
struct LogView {
    organization_id: OrganizationId,
    seq: u64,
    hash: String,
}

#[derive(Serialize, JsonSchema)]
struct SecondCopy {
    status: SecondStatus,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SecondStatus {
    NotConfigured,
    Made,
    Failed,
}

async fn back_up(services: &Services, op: Op) -> Result<Json<ProvenView>, Error> {
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
struct KeptView {
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
async fn backups(services: &Services, op: Op, Query(query): Query<PageQuery>) -> Result<Json<Page<KeptView>>, Error> {
    let all = services.list_backups(&op).await?;
    let (offset, limit) = window(query.page, query.page_size);
    let total = all.len() as u64;
    let data = all.into_iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(limit).map(KeptView::from);
    Ok(Json(page_of(query.page, query.page_size, total, data.collect())))
}
