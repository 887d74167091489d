use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::updates::OutcomeView;
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::domain::status::{Certificate, Finding, Status, Syslog};
use crate::error::Error;
use crate::http::respond::Json;

/// How the appliance is.
#[derive(Serialize, JsonSchema)]
pub(super) struct SystemView {
    version: String,
    time: Time,
    uptime_seconds: u64,
    database: DatabaseView,
    disk: DiskView,
    backup: BackupView,
    /// How the last update ended; null when there was none.
    updated: Option<OutcomeView>,
    certificate: Option<ShownCertificateView>,
    queues: Queues,
    /// Null where the audit log is copied nowhere.
    syslog: Option<SyslogView>,
    /// Connections that `network.egress` has denied since the start, by what they were for.
    egress_denied: BTreeMap<String, u64>,
    /// Of all organizations, by status.
    devices: BTreeMap<String, u64>,
    memory_bytes: Option<u64>,
    /// What somebody should look at, beside what the figures say.
    findings: Vec<FindingView>,
}

#[derive(Serialize, JsonSchema)]
struct FindingView {
    /// What was looked at, such as `trusted_proxies`.
    check: String,
    message: String,
    /// What to do.
    remedy: String,
}

impl From<Finding> for FindingView {
    fn from(Finding { check, message, remedy }: Finding) -> Self {
        Self { check, message, remedy }
    }
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
struct SyslogView {
    server: String,
    connected: bool,
    /// Why there is no connection.
    problem: Option<String>,
    /// Audit entries that the collector is not known to have.
    waiting: u64,
}

impl From<Syslog> for SyslogView {
    fn from(Syslog { server, connected, problem, waiting }: Syslog) -> Self {
        Self { server, connected, problem, waiting }
    }
}

#[derive(Serialize, JsonSchema)]
struct ShownCertificateView {
    not_after: Time,
    /// DNS names and addresses that it is good for.
    names: Vec<String>,
    /// Of the appliance's own authority.
    ca_not_after: Time,
    ca_sha256: String,
}

impl From<Certificate> for ShownCertificateView {
    fn from(Certificate { not_after, names, ca_not_after, ca_sha256, .. }: Certificate) -> Self {
        Self { not_after, names, ca_not_after, ca_sha256 }
    }
}

pub(super) async fn system(services: &Services, op: Op) -> Result<Json<SystemView>, Error> {
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
        syslog,
        egress_denied,
        devices,
        memory_bytes,
        findings,
    } = services.system(&op)?;
    let updated = services.updates.progress().last.map(OutcomeView::from);
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
        updated,
        certificate: certificate.map(ShownCertificateView::from),
        syslog: syslog.map(SyslogView::from),
        egress_denied: egress_denied.into_iter().collect(),
        devices: devices.into_iter().collect(),
        memory_bytes,
        findings: findings.into_iter().map(FindingView::from).collect(),
    }))
}
