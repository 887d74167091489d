//! TLS by itself: which certificate the next handshake shows, and where certificates come from.

pub mod authority;
pub mod device_ca;
mod files;
pub mod local_ca;
pub mod names;
mod on_disk;

pub use on_disk::certificate_on_disk;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;

/// TLS sessions kept for resumption; the oldest makes room. A few hundred bytes each.
const SESSIONS: usize = 1024;

/// Why there is no certificate. Every text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: std::io::Error },
    #[error("{} is damaged ({reason}): {remedy}", file.display())]
    Damaged { file: PathBuf, reason: String, remedy: &'static str },
    #[error("{} may be read by others (mode {mode:04o}): chmod 600 {}", file.display(), file.display())]
    KeyExposed { file: PathBuf, mode: u32 },
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

/// The server's side of TLS: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1, one certificate at a time.
pub struct ServerTls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

impl ServerTls {
    pub fn new(certificate: CertifiedKey) -> Result<Self, TlsError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(certificate)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::Crypto(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Self { config: Arc::new(config), current })
    }

    /// Shows `certificate` from the next handshake on. Connections that are open stay so.
    pub fn swap(&self, certificate: CertifiedKey) {
        self.current.0.store(Arc::new(certificate));
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// ring, named rather than installed for the process, so that no order of start matters.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
