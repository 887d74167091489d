//! Keeps the server's certificates: where they come from, when they are looked at, and what is wrong with them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::{StartError, failed};
use crate::clock::{Clock, Time};
use crate::config::{AcmeChallenge, Config, Host, TlsMode};
use crate::domain::system::{CertificateFacts, ServerCertificate, Trust};
use crate::net::outbound::{Client, Egress, Purpose};
use crate::net::tls::acme::{Acme, Challenge};
use crate::net::tls::device_ca::DeviceCa;
use crate::net::tls::local_ca::LocalCa;
use crate::net::tls::named::Facts;
use crate::net::tls::names::Names;
use crate::net::tls::own_files::OwnFiles;
use crate::net::tls::{Clients, Slot};

/// How often certificates are looked at: whether they are due, whether files or the machine's addresses have changed.
const LOOK: Duration = Duration::from_secs(60);
/// A certificate that nobody has renewed by then will not be renewed by itself.
const WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Certificates {
    pub ca: Arc<LocalCa>,
    directory: PathBuf,
    current: ArcSwap<Current>,
    egress: Arc<Egress>,
    clock: Arc<dyn Clock>,
    look: Notify,
    /// There is another source than before.
    replaced: Notify,
}

/// Where certificates for the appliance's names come from now.
struct Current {
    names: Vec<Host>,
    mode: TlsMode,
    source: Source,
    slot: Arc<Slot>,
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
        let authority = devices.authority().certificate_der().to_vec().into();
        let clients = config.tls.device_certificates.then(|| Clients { authority, clock: clock.clone() });
        let names = names_of(config);
        let others = move || kept().iter().filter_map(|host| Host::parse(host)).map(|host| name(&host)).collect();
        let ca = LocalCa::open(directory, &names, others, clients.as_ref(), now).map_err(failed)?;
        let current = Current::open(config, directory, &egress, now)?;
        // Before the first client comes.
        if let Source::Files(files) = &current.source {
            current.look_at(files, now);
        }
        ca.tls().show_from(current.slot.clone());
        Ok(Self {
            ca: Arc::new(ca),
            directory: directory.into(),
            current: ArcSwap::from_pointee(current),
            egress,
            clock,
            look: Notify::new(),
            replaced: Notify::new(),
        })
    }

    /// Takes certificates from where these settings say, for the names that they have, from the next handshake on. Returns
    /// what leads back, which cannot fail.
    ///
    /// # Errors
    /// What is wrong with the certificate that would be shown; then all is as before.
    pub fn replace(self: &Arc<Self>, config: &Config) -> Result<impl FnOnce() + Send + use<>, String> {
        let (now, before) = (self.clock.now(), self.current.load_full());
        let mut names_before = None;
        if before.names != config.server.names || before.mode != config.tls.mode {
            let next = Current::open(config, &self.directory, &self.egress, now).map_err(|error| error.to_string())?;
            if let Source::Files(files) = &next.source {
                files.look(&next.slot, now).map_err(|error| error.to_string())?;
            }
            let answering = self.ca.answer_to(&names_of(config), now).map_err(|error| error.to_string())?;
            names_before = Some(answering);
            self.put(Arc::new(next));
        }
        let certificates = self.clone();
        Ok(move || {
            if let Some(names) = names_before {
                certificates.ca.answer_as_before(names);
                certificates.put(before);
            }
        })
    }

    fn put(&self, current: Arc<Current>) {
        self.ca.tls().show_from(current.slot.clone());
        self.current.store(current);
        self.replaced.notify_one();
        self.look.notify_one();
    }

    /// Looks at everything now, and tries again what has failed.
    pub fn look_now(&self) {
        if let Source::Acme(acme) = &self.current.load().source {
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
            let current = self.current.load_full();
            match &current.source {
                Source::Local => {}
                Source::Files(files) => current.look_at(files, now),
                Source::Acme(acme) => {
                    if acme.due(&current.slot).is_none_or(|due| due <= now) {
                        let outcome = tokio::select! {
                            outcome = acme.obtain(self.ca.tls(), &current.slot, now) => outcome,
                            () = self.replaced.notified() => continue,
                        };
                        current.note(outcome.map(|()| true).map_err(|error| format!("ACME: {error}")));
                    }
                    let due = acme.due(&current.slot).unwrap_or(now);
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
        let current = self.current.load();
        let problem = current.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ServerCertificate { mode: current.mode.as_str(), shown: shown.map(facts), problem }
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

impl Current {
    fn open(config: &Config, directory: &Path, egress: &Arc<Egress>, now: Time) -> Result<Self, StartError> {
        let mut wanted = Names::default();
        names_of(config).iter().try_for_each(|name| wanted.add(name)).map_err(failed)?;
        let (tls, slot) = (&config.tls, Arc::new(Slot::default()));
        let source = match (tls.mode, &tls.cert_file, &tls.key_file) {
            (TlsMode::Acme, ..) => {
                let challenge = match tls.acme_challenge {
                    AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn,
                    AcmeChallenge::Http01 => Challenge::Http(tls.acme_http_listen),
                };
                let (egress, check) = (egress.clone(), Box::new(|_, _| Ok(())));
                let client = Client::new(egress, Purpose::Acme, check, tls.acme_ca_file.as_deref());
                let client = client.map_err(|error| failed(format_args!("tls.acme_ca_file: {error}")))?;
                let server = tls.acme_directory.clone();
                let acme = Acme::open(directory, server, wanted, challenge, client, &slot, now);
                Source::Acme(acme.map_err(failed)?)
            }
            (TlsMode::Files, Some(certificate), Some(key)) => Source::Files(OwnFiles::new(certificate, key, wanted)),
            _ => Source::Local,
        };
        let (names, mode) = (config.server.names.clone(), tls.mode);
        Ok(Self { names, mode, source, slot, problem: Mutex::default() })
    }

    fn look_at(&self, files: &OwnFiles, now: Time) {
        self.note(files.look(&self.slot, now).map_err(|error| error.to_string()));
    }

    /// Logs what has changed: a certificate that is shown now, or a problem that is new.
    fn note(&self, outcome: Result<bool, String>) {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(is_new) => {
                *problem = None;
                if let Some(named) = self.slot.named().filter(|_| is_new) {
                    let Facts { names, issuer, not_after, .. } = named.facts();
                    tracing::info!(names = names.join(","), issuer, until = %not_after, "shows a new certificate");
                }
            }
            Err(error) => {
                if problem.as_ref() != Some(&error) {
                    let serves = match self.slot.named() {
                        Some(_) => "the certificate before it serves on",
                        None => "a certificate of the appliance's own authority serves instead",
                    };
                    tracing::error!(error, "there is no new certificate: {serves}");
                }
                *problem = Some(error);
            }
        }
    }
}

fn names_of(config: &Config) -> Vec<String> {
    config.server.names.iter().map(name).collect()
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
