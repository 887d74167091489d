//! How the appliance is: for `/metrics`, `GET /system`, `zero doctor` and the support bundle.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Services;
use super::authz::Permission;
use super::op::Op;
use crate::clock::Time;
use crate::error::Error;
use crate::model::device;
use crate::model::histogram::Reading;
use crate::store::index::Filter;
use crate::store::{backup, memory, outgoing_mail, webhooks};

/// Seconds before which what was written so far says nothing of a day.
const ENOUGH: u64 = 600;
const DAY: u64 = 24 * 60 * 60;

/// Of the server, and of the appliance's own authority.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    pub not_after: Time,
    /// DNS names and addresses that it is good for.
    pub names: Vec<String>,
    pub ca_not_after: Time,
    /// SHA-256 of the authority's certificate.
    pub ca_sha256: String,
    /// Why there is no newer one.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub time: Time,
    pub uptime_seconds: u64,
    pub database: Database,
    pub disk: Disk,
    pub backup: Backup,
    pub certificate: Option<Certificate>,
    pub webhooks: Webhooks,
    pub mail_waiting: u64,
    /// `None` where the audit log is copied nowhere.
    pub syslog: Option<Syslog>,
    /// Connections that `network.egress` has denied since the start, by what they were for.
    pub egress_denied: Vec<(String, u64)>,
    /// Of all organizations, by status.
    pub devices: Vec<(String, u64)>,
    /// Of the process; `None` where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// What somebody should look at, beside what the figures say.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn unknown_proxy(address: IpAddr) -> Self {
        Self {
            check: "trusted_proxies".into(),
            message: format!(
                "all requests come from {address} and carry X-Forwarded-For, which is not believed: limits and the audit \
                 log take everybody for {address}"
            ),
            remedy: format!(
                "If {address} is your proxy, set server.trusted_proxies = [\"{address}\"]. If it is not, somebody there \
                 pretends to be one: leave the setting as it is."
            ),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Database {
    pub schema: u64,
    pub file_bytes: u64,
    /// Since the start.
    pub written_bytes: u64,
    /// What that comes to in a day; `None` in the first ten minutes.
    pub written_bytes_per_day: Option<u64>,
    pub syncs: u64,
    pub writes_waiting: u64,
    /// Why nothing can be written.
    pub ailment: Option<String>,
    #[serde(skip)]
    pub commits: Commits,
}

#[derive(Clone, Debug, Default)]
pub struct Commits {
    pub batches: Reading,
    pub micros: Reading,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Disk {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub min_free_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backup {
    pub last_proven_at: Option<Time>,
    pub age_seconds: Option<u64>,
    /// 0 for none by the clock.
    pub every_hours: u64,
    /// The schedule has been missed twice, or there is a schedule and no backup after a day.
    pub overdue: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Webhooks {
    pub enabled: u64,
    pub disabled: u64,
    pub failing: u64,
    pub pending: u64,
    pub dropped: u64,
}

/// The copy of the audit log on its way to a collector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Syslog {
    pub server: String,
    pub connected: bool,
    /// Why there is no connection.
    pub problem: Option<String>,
    /// Entries that the collector is not known to have.
    pub waiting: u64,
}

impl Services {
    pub fn system(&self, op: &Op) -> Result<Status, Error> {
        op.require(Permission::SystemAdmin)?;
        self.status()
    }

    fn shown_certificate(&self) -> Option<Certificate> {
        let edge = self.edge.as_ref()?;
        let super::system::ServerCertificate { shown, problem, .. } = (edge.certificate)();
        let shown = shown?;
        let (ca_not_after, ca_sha256) = (edge.trust.not_after, edge.trust.fingerprint.clone());
        Some(Certificate { not_after: shown.not_after, names: shown.names, ca_not_after, ca_sha256, problem })
    }

    /// How everything is now, whoever asks.
    pub fn status(&self) -> Result<Status, Error> {
        let (now, uptime_seconds) = (self.now(), self.clock.uptime().as_secs());
        let snapshot = self.store.snapshot()?;
        let traffic = self.store.traffic();
        let per_day = |bytes: u64| (u128::from(bytes) * u128::from(DAY) / u128::from(uptime_seconds.max(1))) as u64;
        let (batches, micros) = self.store.commits();
        let database = Database {
            schema: crate::store::SCHEMA_VERSION,
            file_bytes: traffic.file_bytes,
            written_bytes: traffic.written_bytes,
            written_bytes_per_day: (uptime_seconds >= ENOUGH).then(|| per_day(traffic.written_bytes)),
            syncs: traffic.syncs,
            writes_waiting: self.store.waiting_writes(),
            ailment: self.ailment().map(Into::into),
            commits: Commits { batches, micros },
        };
        let every = self.config.backup.every;
        let last = backup::last(&snapshot)?;
        let age = last.map(|last| now.since(last));
        let patience = every.saturating_mul(2);
        let overdue = !every.is_zero() && age.map_or(uptime_seconds >= DAY, |age| age > patience);
        let (enabled, disabled, states) = webhooks::overview(&snapshot)?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            time: now,
            uptime_seconds,
            database,
            disk: Disk::of(&self.config.server.data_dir, self.config.store.min_free),
            backup: Backup {
                last_proven_at: last,
                age_seconds: age.map(|age| age.as_secs()),
                every_hours: every.as_secs() / 3600,
                overdue,
            },
            certificate: self.shown_certificate(),
            webhooks: Webhooks {
                enabled,
                disabled,
                failing: states.iter().filter(|state| state.failing_since.is_some()).count() as u64,
                pending: states.iter().map(|state| state.pending).sum(),
                dropped: states.iter().map(|state| state.dropped).sum(),
            },
            mail_waiting: outgoing_mail::length(&snapshot)?,
            syslog: self.syslog_status()?,
            egress_denied: self.edge.as_ref().map(|edge| (edge.denied)()).unwrap_or_default(),
            devices: self.devices_by_status(),
            memory_bytes: memory_of_process(),
            findings: self.findings(),
        })
    }

    fn findings(&self) -> Vec<Finding> {
        let unknown_proxy = self.edge.as_ref().and_then(|edge| (edge.unknown_proxy)());
        unknown_proxy.into_iter().map(Finding::unknown_proxy).collect()
    }

    fn syslog_status(&self) -> Result<Option<Syslog>, Error> {
        let Some(server) = &self.config.syslog.server else { return Ok(None) };
        let collector = self.collector();
        Ok(Some(Syslog {
            server: server.to_string(),
            connected: collector == Some(Ok(())),
            problem: collector.and_then(Result::err),
            waiting: self.not_forwarded(&self.forwarded()?)?,
        }))
    }

    fn devices_by_status(&self) -> Vec<(String, u64)> {
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        let mut counts: Vec<_> = device::Status::ALL.iter().map(|status| (*status, 0)).collect();
        for organization in organizations {
            let without_users = self.store.memory().directory().uncounted(organization);
            let fleet = self.store.memory().fleet(organization);
            let fleet = memory::read(&fleet);
            for (status, count) in &mut counts {
                let without_users = without_users.clone();
                *count += fleet.count(&Filter { statuses: vec![*status], without_users, ..Filter::default() });
            }
        }
        counts.into_iter().map(|(status, count)| (status.to_string(), count)).collect()
    }
}

impl Disk {
    /// The file system that `folder` is on; zeros where it does not tell.
    pub fn of(folder: &std::path::Path, min_free_bytes: u64) -> Self {
        let stat = rustix::fs::statvfs(folder).ok();
        let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
            stat.as_ref().map_or(0, |stat| blocks(stat).saturating_mul(stat.f_frsize))
        };
        Self { total_bytes: bytes(|stat| stat.f_blocks), free_bytes: bytes(|stat| stat.f_bavail), min_free_bytes }
    }
}

fn memory_of_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
