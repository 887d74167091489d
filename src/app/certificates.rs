//! Keeps the server's certificates: where they come from, when they are looked at, and what is wrong with them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{StartError, failed};
use crate::clock::{Clock, Time};
use crate::config::{AcmeChallenge, Config, Host, TlsMode};
use crate::domain::system::{CertificateFacts, ServerCertificate, Trust};
use crate::net::outbound::{Client, Egress, Purpose};
use crate::net::tls::Clients;
use crate::net::tls::acme::{Acme, Challenge};
use crate::net::tls::device_ca::DeviceCa;
use crate::net::tls::local_ca::LocalCa;
use crate::net::tls::named::Facts;
use crate::net::tls::names::Names;
use crate::net::tls::own_files::OwnFiles;

/// How often certificates are looked at: whether they are due, whether files or the machine's addresses have changed.
const LOOK: Duration = Duration::from_secs(60);
/// A certificate that nobody has renewed by then will not be renewed by itself.
const WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Certificates {
    pub ca: Arc<LocalCa>,
    mode: TlsMode,
    source: Source,
    clock: Arc<dyn Clock>,
    look: Notify,
    /// Why there is no (newer) certificate.
    problem: Mutex<Option<String>>,
}

enum Source {
    Local,
    Files(OwnFiles),
    Acme(Acme),
}

impl Certificates {
    /// `devices`: who issues the certificates of devices. `kept`: the names that are kept with the data.
    pub fn open(
        config: &Config,
        directory: &Path,
        devices: &DeviceCa,
        kept: impl Fn() -> Vec<String> + Send + Sync + 'static,
        egress: Arc<Egress>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let now = clock.now();
        let names: Vec<String> = config.server.names.iter().map(name).collect();
        let authority = devices.authority().certificate_der().to_vec().into();
        let clients = config.tls.device_certificates.then(|| Clients { authority, clock: clock.clone() });
        let others = move || kept().iter().filter_map(|host| Host::parse(host)).map(|host| name(&host)).collect();
        let ca = Arc::new(LocalCa::open(directory, &names, others, clients.as_ref(), now).map_err(failed)?);
        let mut wanted = Names::default();
        names.iter().try_for_each(|name| wanted.add(name)).map_err(failed)?;
        let tls = &config.tls;
        let source = match (tls.mode, &tls.cert_file, &tls.key_file) {
            (TlsMode::Acme, ..) => {
                let challenge = match tls.acme_challenge {
                    AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn,
                    AcmeChallenge::Http01 => Challenge::Http(tls.acme_http_listen),
                };
                let client = Client::new(egress, Purpose::Acme, Box::new(|_, _| Ok(())), tls.acme_ca_file.as_deref());
                let client = client.map_err(|error| failed(format_args!("tls.acme_ca_file: {error}")))?;
                let server = tls.acme_directory.clone();
                let acme = Acme::open(directory, server, wanted, challenge, client, ca.tls(), now);
                Source::Acme(acme.map_err(failed)?)
            }
            (TlsMode::Files, Some(certificate), Some(key)) => Source::Files(OwnFiles::new(certificate, key, wanted)),
            _ => Source::Local,
        };
        let certificates = Self { ca, mode: tls.mode, source, clock, look: Notify::new(), problem: Mutex::default() };
        // Before the first client comes.
        if let Source::Files(files) = &certificates.source {
            certificates.look_at(files, now);
        }
        Ok(certificates)
    }

    /// Looks at everything now, and tries again what has failed.
    pub fn look_now(&self) {
        if let Source::Acme(acme) = &self.source {
            acme.forget_failures();
        }
        self.look.notify_one();
    }

    /// Keeps certificates good, for as long as it is polled.
    pub async fn keep(self: Arc<Self>) {
        let mut warned: Option<Time> = None;
        loop {
            let now = self.clock.now();
            match self.ca.renew(now) {
                Ok(true) => tracing::info!("the server certificate was made anew"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "the server certificate could not be renewed: the old one serves on");
                }
            }
            let mut wait = LOOK;
            match &self.source {
                Source::Local => {}
                Source::Files(files) => self.look_at(files, now),
                Source::Acme(acme) => {
                    if acme.due(self.ca.tls()).is_none_or(|due| due <= now) {
                        let outcome = acme.obtain(self.ca.tls(), now).await;
                        self.note(outcome.map(|()| true).map_err(|error| format!("ACME: {error}")));
                    }
                    let due = acme.due(self.ca.tls()).unwrap_or(now);
                    wait = wait.min(due.since(self.clock.now()).max(Duration::from_secs(1)));
                }
            }
            if warned.is_none_or(|last| now.since(last) >= DAY) && self.warn_of_end(now) {
                warned = Some(now);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.look.notified() => {}
            }
        }
    }

    fn look_at(&self, files: &OwnFiles, now: Time) {
        self.note(files.look(self.ca.tls(), now).map_err(|error| error.to_string()));
    }

    /// Logs what has changed: a certificate that is shown now, or a problem that is new.
    fn note(&self, outcome: Result<bool, String>) {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(is_new) => {
                *problem = None;
                if let Some(named) = self.ca.tls().named().filter(|_| is_new) {
                    let Facts { names, issuer, not_after, .. } = named.facts();
                    tracing::info!(names = names.join(","), issuer, until = %not_after, "shows a new certificate");
                }
            }
            Err(error) => {
                if problem.as_ref() != Some(&error) {
                    let serves = match self.ca.tls().named() {
                        Some(_) => "the certificate before it serves on",
                        None => "a certificate of the appliance's own authority serves instead",
                    };
                    tracing::error!(error, "there is no new certificate: {serves}");
                }
                *problem = Some(error);
            }
        }
    }

    /// Whether there was something to warn of.
    fn warn_of_end(&self, now: Time) -> bool {
        let Some(named) = self.ca.tls().named() else { return false };
        let until = named.facts().not_after;
        let life = until.since(named.facts().not_before);
        let is_near = until.since(now) < WARNING.min(life / 6);
        if is_near {
            tracing::warn!(%until, "the certificate is about to end, and nothing has renewed it yet");
        }
        is_near
    }

    /// What is shown to whoever asks for the appliance's names.
    pub fn state(&self) -> ServerCertificate {
        let shown = match self.ca.tls().named() {
            Some(named) => Some(named.facts().clone()),
            None => self.ca.facts(),
        };
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ServerCertificate { mode: self.mode.as_str(), shown: shown.map(facts), problem }
    }

    /// The local authority, for those who want to trust it.
    pub fn trust(&self) -> Trust {
        let authority = self.ca.authority();
        Trust {
            pem: authority.certificate_pem().into(),
            der: authority.certificate_der().into(),
            fingerprint: authority.fingerprint(),
            not_after: authority.not_after(),
        }
    }
}

/// As certificates write it: no brackets around an address.
fn name(host: &Host) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
    }
}

fn facts(from: Facts) -> CertificateFacts {
    let Facts { names, issuer, fingerprint, not_before, not_after, is_publicly_trusted } = from;
    CertificateFacts { names, issuer, fingerprint, not_before, not_after, is_publicly_trusted }
}
