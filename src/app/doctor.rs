//! `zero doctor`: looks at everything that goes wrong over years, and says what to do about it. Changes nothing.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::control::Client;
use super::folder::{DATA_FILE, RESTORING, lock_to_read};
use crate::clock::{LEAP, Time, is_kept};
use crate::config::{Config, Egress, Host, StoreConfig, TlsMode};
use crate::domain::audit::offline::{self, Kept};
use crate::domain::backups;
use crate::domain::diagnosis::{Finding, Severity};
use crate::domain::status::{Disk, Status};
use crate::net::tls::acme::CERTIFICATE as ACME_CERTIFICATE;
use crate::net::tls::{OnDisk, certificate_on_disk};
use crate::store::backup::{self, TLS_FOLDER};
use crate::store::{self, clock_floor};

const DAY: u64 = 24 * 60 * 60;
const MIB: u64 = 1 << 20;
/// 2026-01-01: a clock before it was never set.
const EARLIEST: Time = Time::from_unix(1_767_225_600);
/// How often each cell of a cheap card can be written, and how much more the card writes than it is told: both are what
/// is known of cheap ones, so that the figure rather errs on the dark side.
const REWRITES: u64 = 500;
const AMPLIFICATION: u64 = 4;
/// Years below which a card is said to wear out.
const YEARS: u64 = 5;

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, severity: Severity, message: impl Into<String>, remedy: &str) {
        let remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
        self.0.push(Finding { check, severity, message: message.into(), remedy });
    }

    fn fine(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Severity::Ok, message, "");
    }
}

/// Looks at the appliance with these settings, running or not.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    let data_dir = &config.server.data_dir;
    findings.fine("config", "the settings hold no mistake");
    if !data_dir.join(DATA_FILE).exists() {
        findings.add(
            "data",
            Severity::Error,
            format!("there is no appliance in {}", data_dir.display()),
            "Give its directory with --data-dir, or start one there with zero serve.",
        );
        return findings.0;
    }
    if data_dir.join(RESTORING).exists() {
        findings.add(
            "data",
            Severity::Error,
            "a restore was cut short, and what lies there is not whole",
            "Run zero restore with the same file again.",
        );
    }
    let now = machine_time();
    folder(&mut findings, data_dir);
    disk(&mut findings, &Disk::of(data_dir, config.store.min_free));
    let status = match lock_to_read(data_dir) {
        Ok(Some(_reading)) => {
            findings.add("server", Severity::Info, "no server runs on the directory", "Start it with zero serve.");
            stopped(&mut findings, config, now);
            None
        }
        Ok(None) => running(&mut findings, data_dir),
        Err(error) => {
            findings.add("server", Severity::Error, error.to_string(), "Check who owns the directory.");
            None
        }
    };
    certificate(&mut findings, config, now);
    match &status {
        Some(status) => on_it(&mut findings, config, status, now),
        None => port(&mut findings, config.server.listen),
    }
    egress(&mut findings, config, status.as_ref());
    findings.0
}

/// Looks at the running appliance from within.
pub fn attend(config: &Config, status: &Status) -> Vec<Finding> {
    let mut findings = Findings::default();
    let now = machine_time();
    folder(&mut findings, &config.server.data_dir);
    disk(&mut findings, &status.disk);
    alive(&mut findings, status);
    certificate(&mut findings, config, now);
    on_it(&mut findings, config, status, now);
    egress(&mut findings, config, Some(status));
    findings.0
}

/// What only a running appliance knows.
fn on_it(findings: &mut Findings, config: &Config, status: &Status, now: Time) {
    if let Some(problem) = status.certificate.as_ref().and_then(|certificate| certificate.problem.as_ref()) {
        let remedy = "The certificate before it serves on, or one of the appliance's own authority; see [tls].";
        findings.add("certificate", Severity::Warning, problem.clone(), remedy);
    }
    clock(findings, config, now, status.time);
    last_backup(findings, config, status.backup.last_proven_at, now);
    flash(findings, status);
}

/// What the machine itself says: the appliance's own clock never shows a time before its floor.
fn machine_time() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn folder(findings: &mut Findings, data_dir: &Path) {
    let mut open = Vec::new();
    let look = |path: &Path, open: &mut Vec<String>| match path.metadata() {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => open.push(path.display().to_string()),
        _ => {}
    };
    look(data_dir, &mut open);
    look(&data_dir.join(DATA_FILE), &mut open);
    let keys = fs::read_dir(data_dir.join(TLS_FOLDER)).into_iter().flatten().flatten().map(|entry| entry.path());
    keys.filter(|path| path.extension().is_some_and(|extension| extension == "key"))
        .for_each(|path| look(&path, &mut open));
    if !open.is_empty() {
        let remedy = format!("chmod go= {}", open.join(" "));
        findings.add("permissions", Severity::Error, format!("others may read {}", open.join(", ")), &remedy);
        return;
    }
    let own = rustix::process::geteuid().as_raw();
    match data_dir.metadata() {
        Ok(metadata) if metadata.uid() != own && own != 0 => findings.add(
            "permissions",
            Severity::Warning,
            format!("{} belongs to user {}, and this is user {own}", data_dir.display(), metadata.uid()),
            "Run zero as the user that the directory belongs to.",
        ),
        Ok(_) => findings.fine("permissions", "only their owner may read the data and the keys"),
        Err(error) => findings.add(
            "permissions",
            Severity::Error,
            format!("{}: {error}", data_dir.display()),
            "Run it as the user that the appliance runs as, or as root.",
        ),
    }
}

fn disk(findings: &mut Findings, disk: &Disk) {
    let Disk { total_bytes, free_bytes, min_free_bytes } = *disk;
    let message = format!("{} of {} MiB are free", free_bytes / MIB, total_bytes / MIB);
    let remedy = "Free space: old backups, replaced-* folders, other programs' files. Or move to a larger disk.";
    if free_bytes < min_free_bytes {
        let message = format!("{message}: nothing new is stored below {} MiB", min_free_bytes / MIB);
        findings.add("disk", Severity::Error, message, remedy);
    } else if free_bytes < (min_free_bytes.saturating_mul(4)).max(total_bytes / 20) {
        findings.add("disk", Severity::Warning, message, remedy);
    } else {
        findings.fine("disk", message);
    }
}

fn running(findings: &mut Findings, data_dir: &Path) -> Option<Status> {
    let status = match Client::connect(data_dir).and_then(|mut server| server.status()) {
        Ok(status) => status,
        Err(error) => {
            findings.add(
                "server",
                Severity::Error,
                format!("a server works on the directory, but does not answer: {error}"),
                "Look at its log; restart it when it hangs.",
            );
            return None;
        }
    };
    alive(findings, &status);
    Some(status)
}

fn alive(findings: &mut Findings, status: &Status) {
    let up = status.uptime_seconds;
    findings.fine("server", format!("zero {} has been running for {} hours", status.version, up / 3600));
    match &status.database.ailment {
        Some(ailment) => {
            findings.add("database", Severity::Error, ailment.clone(), "Check the disk, then restart the server.");
        }
        None => findings.fine("database", "writes are committed; stop the server and ask again to verify every page"),
    }
    let queues = [("mail", status.mail_waiting), ("webhook deliveries", status.webhooks.pending)];
    for (what, waiting) in queues.into_iter().filter(|(_, waiting)| *waiting > 1_000) {
        let message = format!("{waiting} {what} wait");
        findings.add("queues", Severity::Warning, message, "Look at the log: the other side may be unreachable.");
    }
    for finding in &status.findings {
        findings.add("proxy", Severity::Warning, finding.message.clone(), &finding.remedy);
    }
    if status.webhooks.failing > 0 {
        let message = format!("every attempt fails for {} webhooks", status.webhooks.failing);
        findings.add("queues", Severity::Warning, message, "Look at their deliveries in the dashboard.");
    }
    if let Some(syslog) = &status.syslog {
        let message = format!("{} entries of the audit log wait for {}", syslog.waiting, syslog.server);
        match &syslog.problem {
            Some(problem) => {
                let remedy = "Check the collector and [syslog] in the settings; what waits is sent when it is back.";
                findings.add("syslog", Severity::Warning, format!("{message}: {problem}"), remedy);
            }
            None => findings.fine("syslog", message),
        }
    }
}

/// A stopped appliance can be read to its last page.
fn stopped(findings: &mut Findings, config: &Config, now: Time) {
    let whole = StoreConfig { verify_at_start: u64::MAX, ..config.store.clone() };
    let looked = store::look(&config.server.data_dir.join(DATA_FILE), &whole, |snapshot| {
        let proofs = offline::verify_data(snapshot, &Kept::default())?;
        Ok((proofs, backup::last(snapshot)?, clock_floor(snapshot)?))
    });
    let remedy =
        "Restore a backup into another directory (zero restore), or read what can be read (zero export --salvage).";
    let (proofs, last, floor) = match looked {
        Ok(looked) => looked,
        Err(error) => return findings.add("database", Severity::Error, error.to_string(), remedy),
    };
    findings.fine("database", "every page has the content it was written with");
    let entries: u64 = proofs.iter().map(|proof| proof.verdict.entries).sum();
    match proofs.iter().find_map(|proof| proof.verdict.first_broken.as_ref().map(|broken| (proof, broken))) {
        Some((proof, broken)) => {
            let of = proof.organization;
            let message = format!("the log of {of} is broken at entry {}: {}", broken.seq, broken.reason);
            findings.add("audit", Severity::Error, message, "zero audit verify tells more; hold it against a backup.");
        }
        None => {
            findings.fine("audit", format!("{} logs with {entries} entries are as they were written", proofs.len()))
        }
    }
    clock(findings, config, now, floor);
    last_backup(findings, config, last, now);
}

/// `lived` is the latest time that the appliance knows to have passed.
fn clock(findings: &mut Findings, config: &Config, now: Time, lived: Time) {
    let remedy = "Set the clock, or let NTP do it (timedatectl set-ntp true).";
    if now < EARLIEST {
        findings.add("clock", Severity::Error, format!("the clock says {now}: it was never set"), remedy);
    } else if lived.since(now) > Duration::from_secs(5 * 60) {
        let message = format!("the clock says {now}, but the appliance has lived through {lived}");
        findings.add("clock", Severity::Error, message, remedy);
    } else if now.since(lived) > LEAP && !is_kept() && !config.server.trust_clock {
        let message =
            format!("the clock says {now}, and the appliance knows of no time after {lived}: nothing keeps it");
        let remedy = "Let NTP set it (timedatectl set-ntp true); if it is right, set server.trust_clock and restart.";
        findings.add("clock", Severity::Error, message, remedy);
    } else {
        findings.fine("clock", format!("the clock says {now}"));
    }
}

fn certificate(findings: &mut Findings, config: &Config, now: Time) {
    let folder = config.server.data_dir.join(TLS_FOLDER);
    let (file, by_itself) = match (config.tls.mode, &config.tls.cert_file) {
        (TlsMode::Files, Some(file)) => (file.clone(), "Put the next one into tls.cert_file and tls.key_file."),
        (TlsMode::Acme, _) => {
            (folder.join(ACME_CERTIFICATE), "The server renews it by itself: start it, look at its log.")
        }
        _ => (folder.join("server.pem"), "The server renews it by itself: start it, and look at its log."),
    };
    let authority = "Plan the change of the authority: everybody has to trust the new one.";
    validity(findings, &folder.join("ca.pem"), "certificate authority", 180, authority, now);
    let Some(found) = validity(findings, &file, "server certificate", 14, by_itself, now) else { return };
    // Addresses are always vouched for by the appliance's own authority.
    let is_its_own = config.tls.mode == TlsMode::Local;
    let wanted = config.server.names.iter().filter(|host| is_its_own || matches!(host, Host::Name(_)));
    let missing: Vec<_> = wanted.map(ToString::to_string).filter(|name| !found.is_for(name)).collect();
    if !missing.is_empty() {
        let message = format!("the server certificate is not for {}", missing.join(", "));
        let remedy = match config.tls.mode {
            TlsMode::Files => "Have one made for all of server.names, and put it into tls.cert_file.",
            _ => "Restart the server: it gets one with all names.",
        };
        findings.add("names", Severity::Warning, message, remedy);
    }
}

/// The certificate of a file, when there is one.
fn validity(findings: &mut Findings, file: &Path, what: &str, soon: u64, remedy: &str, now: Time) -> Option<OnDisk> {
    let found = match certificate_on_disk(file) {
        Ok(found) => found,
        Err(error) => {
            let remedy = "zero serve makes it, or says what is missing.";
            findings.add("certificate", Severity::Warning, format!("the {what}: {error}"), remedy);
            return None;
        }
    };
    let days = found.not_after.since(now).as_secs() / DAY;
    let message = format!("the {what} is good until {}", found.not_after);
    if now >= found.not_after {
        findings.add("certificate", Severity::Error, format!("the {what} expired {}", found.not_after), remedy);
    } else if now < found.not_before {
        let message = format!("the {what} is not good before {}", found.not_before);
        findings.add("certificate", Severity::Error, message, "Set the clock.");
    } else if days < soon {
        findings.add("certificate", Severity::Warning, message, remedy);
    } else {
        findings.fine("certificate", message);
    }
    Some(found)
}

/// What may leave, and what wanted to.
fn egress(findings: &mut Findings, config: &Config, status: Option<&Status>) {
    let rules = &config.network;
    if rules.egress == Egress::Allow {
        return findings.fine("egress", "the appliance may connect to whatever its settings name");
    }
    let permits = |host: &Host| match host {
        Host::Name(name) => rules.permits_name(name),
        Host::Address(address) => rules.permits(*address),
    };
    let acme = (config.tls.mode == TlsMode::Acme)
        .then(|| url::Url::parse(&config.tls.acme_directory).ok()?.host_str().and_then(Host::parse))
        .flatten();
    let hosts = [
        ("smtp.host", config.smtp.host.clone()),
        ("syslog.server", config.syslog.server.as_ref().map(|server| server.host.clone())),
        ("tls.acme_directory", acme),
    ];
    const REMEDY: &str = "Name it in network.egress_exceptions, or take it out of the settings.";
    for (setting, host) in hosts {
        // A name may be one of the hosts file, at an address that is excepted: that shows when it is tried.
        if host.is_some_and(|host| !permits(&host) && host.to_string() != "localhost") {
            let message = format!("network.egress denies what {setting} names");
            findings.add("egress", Severity::Warning, message, REMEDY);
        }
    }
    let denied = status.map(|status| status.egress_denied.as_slice()).unwrap_or_default();
    let denied: Vec<_> = denied.iter().filter(|(_, times)| *times > 0).collect();
    if denied.is_empty() {
        let message = match rules.exceptions.len() {
            0 => "nothing leaves this machine".into(),
            exceptions => format!("nothing leaves this machine but to {exceptions} exceptions"),
        };
        return findings.fine("egress", message);
    }
    let times: Vec<_> = denied.iter().map(|(purpose, times)| format!("{times} for {purpose}")).collect();
    let message = format!("connections that network.egress has denied since the start: {}", times.join(", "));
    let remedy = "The log says where they were to go. Name those in network.egress_exceptions that may be reached, and \
        take the others out of the settings and the webhooks.";
    findings.add("egress", Severity::Warning, message, remedy);
}

fn port(findings: &mut Findings, listen: SocketAddr) {
    match TcpListener::bind(listen) {
        Ok(_) => findings.fine("port", format!("{listen} is free")),
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "A port below 1024 needs a privilege: run it as a service.",
                io::ErrorKind::AddrInUse => "Stop the other program (ss -ltnp shows it), or set server.listen.",
                _ => "Set server.listen to an address of this machine.",
            };
            findings.add("port", Severity::Error, format!("cannot listen on {listen}: {error}"), remedy);
        }
    }
}

fn last_backup(findings: &mut Findings, config: &Config, last: Option<Time>, now: Time) {
    let every = config.backup.every.as_secs();
    let allowed = if every == 0 { 7 * DAY } else { 2 * every };
    let remedy = "Run zero backup, and look in the log why the scheduled ones fail.";
    match last {
        None => findings.add("backup", Severity::Warning, "there has never been a proven backup", "Run zero backup."),
        Some(last) if now.since(last).as_secs() > allowed => {
            let days = now.since(last).as_secs() / DAY;
            let message = format!("the last proven backup is of {last}, {days} days ago");
            findings.add("backup", Severity::Warning, message, remedy);
        }
        Some(last) => findings.fine("backup", format!("the last proven backup is of {last}")),
    }
    if config.tls.mode == TlsMode::Files {
        let message = "tls.cert_file and tls.key_file are not in the backups, and neither are the settings";
        findings.add("backup", Severity::Info, message, "Keep copies of them beside the backups.");
    }
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    let own = device(&config.server.data_dir);
    let elsewhere = [Some(backups::folder(config)), config.backup.second_folder.clone()];
    let second_is_missing = config.backup.second_folder.as_ref().is_some_and(|folder| !folder.is_dir());
    if second_is_missing {
        let remedy = "Mount it, or set backup.second_folder.";
        findings.add("backup", Severity::Warning, "the second folder for backups is not there", remedy);
    }
    if !elsewhere.into_iter().flatten().any(|folder| device(&folder).is_some_and(|device| Some(device) != own)) {
        findings.add(
            "backup",
            Severity::Info,
            "scheduled backups lie on the same disk as the data",
            "Set backup.folder or backup.second_folder to another one.",
        );
    }
}

fn flash(findings: &mut Findings, status: &Status) {
    let Some(daily) = status.database.written_bytes_per_day else {
        return findings.add("flash", Severity::Info, "what is written a day is known ten minutes after the start", "");
    };
    let years = (status.disk.total_bytes / AMPLIFICATION).saturating_mul(REWRITES) / daily.max(1) / 365;
    let shown = if years > 100 { "more than 100".to_owned() } else { years.to_string() };
    let message = format!(
        "{} MiB are written a day: {shown} years on a flash card of this size that takes {REWRITES} rewrites",
        daily / MIB
    );
    match years < YEARS {
        true => findings.add(
            "flash",
            Severity::Warning,
            message,
            "Use a larger or an industrial card or an SSD, or raise store.heartbeat_flush_seconds.",
        ),
        false => findings.fine("flash", message),
    }
}
