//! What has been asked and answered, and how long that took, in the text format of Prometheus.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::respond::Reply;
use super::route::Route;
use crate::domain::status::Status;
use crate::model::histogram::{Histogram, Reading};

/// In microseconds.
const LATENCY: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000, 60_000_000];
/// The statuses that the appliance answers with; any other is counted as 0.
const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 302, 304, 400, 401, 403, 404, 405, 409, 412, 413, 415, 421, 429, 500, 503, 0];
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters, one set a route and one for what finds no route. Nothing is allocated or locked to count a request.
pub struct Requests {
    by_route: Vec<Counted>,
    refused_by_rate: AtomicU64,
}

struct Counted {
    method: String,
    route: &'static str,
    statuses: [AtomicU64; STATUSES.len()],
    latency: Histogram<{ LATENCY.len() }>,
}

impl Counted {
    fn new(method: String, route: &'static str) -> Self {
        let statuses = [const { AtomicU64::new(0) }; STATUSES.len()];
        Self { method, route, statuses, latency: Histogram::new(&LATENCY) }
    }
}

impl Requests {
    pub fn new(routes: &[Route]) -> Self {
        let mut by_route: Vec<_> =
            routes.iter().map(|route| Counted::new(route.method.to_string(), route.path)).collect();
        by_route.push(Counted::new("other".into(), "none"));
        Self { by_route, refused_by_rate: AtomicU64::new(0) }
    }

    /// Counts an answer; `route` is its place among the routes, `None` where none was found.
    pub fn count(&self, route: Option<usize>, status: StatusCode, took: Duration, over_limit: bool) {
        let place = route.unwrap_or(self.by_route.len() - 1);
        let Some(counted) = self.by_route.get(place) else { return };
        let code = status.as_u16();
        let status = STATUSES.iter().position(|known| *known == code).unwrap_or(STATUSES.len() - 1);
        counted.statuses[status].fetch_add(1, Ordering::Relaxed);
        counted.latency.observe(took.as_micros() as u64);
        if over_limit {
            self.refused_by_rate.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Everything as one page.
    pub fn page(&self, status: &Status) -> Reply {
        Reply::content(StatusCode::OK, MEDIA_TYPE, Bytes::from(self.text(status)))
    }

    /// The same as text.
    pub fn text(&self, status: &Status) -> String {
        let mut page = Page::default();
        self.requests(&mut page);
        system(&mut page, status);
        page.0
    }

    fn requests(&self, page: &mut Page) {
        page.family("zero_http_requests_total", "counter", "Requests answered, by route and status.");
        for counted in &self.by_route {
            for (status, count) in STATUSES.iter().zip(&counted.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels =
                        format!("method=\"{}\",route=\"{}\",status=\"{status}\"", counted.method, counted.route);
                    page.sample("zero_http_requests_total", &labels, count);
                }
            }
        }
        let name = "zero_http_request_duration_seconds";
        page.family(name, "histogram", "Time from the end of a request's headers to its answer.");
        for counted in &self.by_route {
            let reading = counted.latency.read();
            if reading.count > 0 {
                let labels = format!("method=\"{}\",route=\"{}\"", counted.method, counted.route);
                page.histogram(name, &labels, &reading, 1e6);
            }
        }
        page.one(
            "zero_http_rate_limited_total",
            "counter",
            "Requests refused because of a rate limit.",
            self.refused_by_rate.load(Ordering::Relaxed),
        );
    }
}

fn system(page: &mut Page, status: &Status) {
    let Status { database, disk, backup, certificate, webhooks, .. } = status;
    page.family("zero_build_info", "gauge", "The version that runs; always 1.");
    page.sample("zero_build_info", &format!("version=\"{}\",schema=\"{}\"", status.version, database.schema), 1);
    page.one("zero_uptime_seconds", "gauge", "Time since the start.", status.uptime_seconds);
    page.one("zero_up", "gauge", "1 while writes can be committed.", u64::from(database.ailment.is_none()));
    page.family("zero_devices", "gauge", "Devices by status.");
    for (name, count) in &status.devices {
        page.sample("zero_devices", &format!("status=\"{name}\""), *count);
    }
    let commits = &database.commits;
    page.family("zero_commit_batch_size", "histogram", "Changes in one commit.");
    page.histogram("zero_commit_batch_size", "", &commits.batches, 1.0);
    page.family("zero_commit_duration_seconds", "histogram", "Time a commit takes, its changes included.");
    page.histogram("zero_commit_duration_seconds", "", &commits.micros, 1e6);
    page.one("zero_write_queue_length", "gauge", "Changes that wait for the writer.", database.writes_waiting);
    page.one("zero_store_written_bytes_total", "counter", "Bytes written to the data file.", database.written_bytes);
    page.one("zero_store_syncs_total", "counter", "Times the data file was synced.", database.syncs);
    page.one("zero_store_file_bytes", "gauge", "Length of the data file.", database.file_bytes);
    page.one("zero_disk_free_bytes", "gauge", "Space left for data.", disk.free_bytes);
    page.one("zero_disk_size_bytes", "gauge", "Size of the file system that the data is on.", disk.total_bytes);
    page.one("zero_disk_min_free_bytes", "gauge", "With less than this, growth is refused.", disk.min_free_bytes);
    page.one("zero_mail_queue_length", "gauge", "Messages that wait to be mailed.", status.mail_waiting);
    if let Some(syslog) = &status.syslog {
        page.one("zero_syslog_connected", "gauge", "Whether the collector is connected.", u8::from(syslog.connected));
        page.one("zero_syslog_queue_length", "gauge", "Audit entries that wait to be copied.", syslog.waiting);
    }
    page.one("zero_webhook_queue_length", "gauge", "Deliveries that have not ended.", webhooks.pending);
    page.one("zero_webhook_dropped_total", "counter", "Events that found a webhook's queue full.", webhooks.dropped);
    page.family("zero_webhooks", "gauge", "Webhooks by state.");
    for (state, count) in
        [("enabled", webhooks.enabled), ("failing", webhooks.failing), ("disabled", webhooks.disabled)]
    {
        page.sample("zero_webhooks", &format!("state=\"{state}\""), count);
    }
    page.family("zero_egress_denied_total", "counter", "Connections that network.egress denied, by purpose.");
    for (purpose, times) in &status.egress_denied {
        page.sample("zero_egress_denied_total", &format!("purpose=\"{purpose}\""), times);
    }
    if let Some(certificate) = certificate {
        let until = certificate.not_after.unix();
        page.one("zero_certificate_not_after_seconds", "gauge", "End of the server certificate, Unix time.", until);
        let until = certificate.ca_not_after.unix();
        page.one("zero_ca_not_after_seconds", "gauge", "End of the local authority, Unix time.", until);
    }
    if let Some(last) = backup.last_proven_at {
        page.one("zero_backup_last_proven_seconds", "gauge", "When the newest proven backup was made.", last.unix());
        let age = backup.age_seconds.unwrap_or(0);
        page.one("zero_backup_age_seconds", "gauge", "Age of the newest proven backup.", age);
    }
    page.one("zero_backup_interval_seconds", "gauge", "Time between scheduled backups.", backup.every_hours * 3600);
    if let Some(bytes) = status.memory_bytes {
        page.one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", bytes);
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    // Writing to a string does not fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// `per` of the histogram's unit are one of the metric's.
    fn histogram(&mut self, name: &str, labels: &str, reading: &Reading, per: f64) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in &reading.buckets {
            let bound = *bound as f64 / per;
            self.sample(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"{bound}\""), count);
        }
        self.sample(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"+Inf\""), reading.count);
        self.sample(&format!("{name}_sum"), labels, reading.sum as f64 / per);
        self.sample(&format!("{name}_count"), labels, reading.count);
    }
}
