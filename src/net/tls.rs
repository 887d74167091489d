//! TLS by itself: which certificate the next handshake shows, and where certificates come from.

pub mod acme;
pub mod authority;
pub mod device_ca;
mod files;
pub mod local_ca;
pub mod named;
pub mod names;
mod on_disk;
pub mod own_files;
pub mod sealing;

pub use on_disk::{OnDisk, certificate_on_disk};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};

use crate::clock::Clock;
use named::{Named, Unfit};

/// What the ACME server speaks when it asks for proof (RFC 8737), and nobody else.
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// TLS sessions kept for resumption; the oldest makes room. A few hundred bytes each.
const SESSIONS: usize = 1024;

/// Why there is no certificate. Every text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: std::io::Error },
    #[error("{} is damaged ({reason}): {remedy}", file.display())]
    Damaged { file: PathBuf, reason: String, remedy: &'static str },
    #[error("{} may be read by others (mode {mode:04o}): {remedy} {}", file.display(), file.display())]
    KeyExposed { file: PathBuf, mode: u32, remedy: &'static str },
    #[error("{}: {reason}", file.display())]
    Unfit { file: PathBuf, reason: Unfit },
    #[error("{} is missing", file.display())]
    Missing { file: PathBuf },
    #[error("{} is missing, but {} is there: {remedy}", key.display(), certificate.display())]
    KeyMissing { key: PathBuf, certificate: PathBuf, remedy: &'static str },
    #[error("{} has expired: {remedy}", file.display())]
    Expired { file: PathBuf, remedy: &'static str },
    #[error("\"{name}\" cannot be a name of this server: {reason}")]
    Name { name: String, reason: &'static str },
    #[error("this machine's clock says {0}: set it before certificates are made, or they will be useless")]
    Clock(crate::clock::Time),
    #[error("reading this machine's addresses: {0}")]
    Machine(std::io::Error),
    #[error("making a certificate: {0}")]
    Crypto(String),
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

/// The server's side of TLS: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// Clients that ask for a name which a certificate from elsewhere is for are shown that one; all others, above all those
/// that ask for an address, the local authority's.
pub struct ServerTls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    sessions: Arc<Sessions>,
}

/// Clients that are asked for a certificate. They need not have one; what they show must be good.
pub struct Clients {
    /// Who issues their certificates.
    pub authority: CertificateDer<'static>,
    pub clock: Arc<dyn Clock>,
}

impl Clients {
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let wrong = |error: &dyn std::fmt::Display| TlsError::Crypto(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).map_err(|error| wrong(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        verifier.allow_unauthenticated().build().map_err(|error| wrong(&error))
    }
}

/// The appliance's own clock, which never falls behind what it knows: the machine's may show 1970.
struct OwnTime(Arc<dyn Clock>);

impl TimeProvider for OwnTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now().unix().unsigned_abs())))
    }
}

impl std::fmt::Debug for OwnTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnTime")
    }
}

/// Where a source of certificates puts the one that it has. Each source has its own, so that one which is not asked
/// any more can show nothing.
#[derive(Debug, Default)]
pub struct Slot(ArcSwapOption<Named>);

impl Slot {
    /// Shows `certificate`, where it is for the name that is asked for, from the next handshake on.
    pub(super) fn show(&self, certificate: Named) {
        self.0.store(Some(Arc::new(certificate)));
    }

    pub fn named(&self) -> Option<Arc<Named>> {
        self.0.load_full()
    }
}

impl ServerTls {
    /// Asks `clients`, if any, for a certificate.
    pub fn new(local: CertifiedKey, clients: Option<&Clients>) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown {
            local: ArcSwap::from_pointee(local),
            slot: ArcSwap::default(),
            challenges: Mutex::default(),
        });
        let builder = match clients {
            Some(clients) => ServerConfig::builder_with_details(provider(), Arc::new(OwnTime(clients.clock.clone()))),
            None => ServerConfig::builder_with_provider(provider()),
        };
        let builder = builder
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::Crypto(error.to_string()))?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(clients.verifier()?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME_TLS.to_vec()];
        let sessions = Arc::new(Sessions(ArcSwap::new(ServerSessionMemoryCache::new(SESSIONS))));
        config.session_storage = sessions.clone();
        Ok(Self { config: Arc::new(config), shown, sessions })
    }

    /// Shows the local authority's `certificate` from the next handshake on. Connections that are open stay so.
    pub(super) fn swap_local(&self, certificate: Arc<CertifiedKey>) {
        self.shown.local.store(certificate);
    }

    pub(super) fn local(&self) -> Arc<CertifiedKey> {
        self.shown.local.load_full()
    }

    /// Shows what is in that slot, now and later.
    pub fn show_from(&self, slot: Arc<Slot>) {
        self.shown.slot.store(slot);
        // Whoever resumed a session would not see what is shown.
        self.sessions.forget();
    }

    /// The certificate from elsewhere that is shown.
    pub fn named(&self) -> Option<Arc<Named>> {
        self.shown.slot.load().named()
    }

    /// Whether browsers trust, without being told to, what they are shown for `host` (with or without a port).
    pub fn is_publicly_trusted(&self, host: &str) -> bool {
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase();
        self.named().is_some_and(|named| {
            named.facts().is_publicly_trusted && host.parse::<std::net::IpAddr>().is_err() && named.is_for(&host)
        })
    }

    /// Shows `certificate` to whoever asks, in ACME's own protocol, for proof that `name` leads here.
    fn answer_challenge(&self, name: &str, certificate: CertifiedKey) {
        self.shown.challenges().insert(name.into(), Arc::new(certificate));
    }

    fn end_challenges(&self) {
        self.shown.challenges().clear();
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

/// Sessions that clients may resume.
#[derive(Debug)]
struct Sessions(ArcSwap<ServerSessionMemoryCache>);

impl Sessions {
    fn forget(&self) {
        self.0.store(ServerSessionMemoryCache::new(SESSIONS));
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.load().put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.load().get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.load().take(key)
    }

    fn can_cache(&self) -> bool {
        self.0.load().can_cache()
    }
}

#[derive(Debug)]
struct Shown {
    local: ArcSwap<CertifiedKey>,
    slot: ArcSwap<Slot>,
    /// By DNS name.
    challenges: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Shown {
    fn challenges(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<CertifiedKey>>> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        if hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_TLS)) {
            return self.challenges().get(&name?).cloned();
        }
        let named = self.slot.load().named();
        let is_for = |named: &Named| match &name {
            Some(name) => named.is_for(name),
            // Whoever asks for an address names nothing.
            None => named.has_addresses(),
        };
        match named.as_ref().filter(|named| is_for(named)) {
            Some(named) => Some(named.key()),
            None => Some(self.local.load_full()),
        }
    }
}

/// ring, named rather than installed for the process, so that no order of start matters.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
