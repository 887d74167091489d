//! The one way out. Every connection that the appliance makes by itself, and every name that it looks up, is asked for
//! here, so that nothing leaves a machine that is to be alone.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::names;
use crate::config::NetworkConfig;

/// For a name to be looked up, and for its only address to accept the connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// For one of several addresses to accept the connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
pub const MOST_ADDRESSES: usize = 4;
/// How often the log says of a host that it was refused.
const SAY_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Hosts of which that is remembered; past this all are forgotten, and said sooner.
const REMEMBERED: usize = 256;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Webhook,
    Mail,
    Syslog,
    Acme,
}

impl Purpose {
    pub const ALL: [Self; 4] = [Self::Webhook, Self::Mail, Self::Syslog, Self::Acme];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
            Self::Syslog => "syslog",
            Self::Acme => "acme",
        }
    }
}

/// Why a host has no address that could be connected to, in words for whoever wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The settings let nothing leave for it.
    #[error("{0}")]
    Denied(String),
    /// It cannot be found.
    #[error("{0}")]
    Unknown(String),
}

pub type Found = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send>>;
/// The addresses of a name, and whether servers of names may be asked for them.
pub type Lookup = dyn Fn(String, bool) -> Found + Send + Sync;

pub struct Egress {
    rules: NetworkConfig,
    lookup: Box<Lookup>,
    refused: [AtomicU64; Purpose::ALL.len()],
    said: Mutex<HashMap<(Purpose, String), Instant>>,
}

impl Egress {
    pub fn new(rules: NetworkConfig) -> Self {
        Self::with(rules, Box::new(|name, may_ask| Box::pin(async move { names::resolve(&name, may_ask).await })))
    }

    /// With another way to look names up, for tests.
    pub fn with(rules: NetworkConfig, lookup: Box<Lookup>) -> Self {
        Self { rules, lookup, refused: Default::default(), said: Mutex::default() }
    }

    /// Attempts that were refused since the start.
    pub fn refused(&self) -> [(Purpose, u64); Purpose::ALL.len()] {
        Purpose::ALL.map(|purpose| (purpose, self.refused[purpose as usize].load(Ordering::Relaxed)))
    }

    /// The addresses that the host has now and that may be connected to; `host` is a name or an address.
    pub async fn addresses(&self, purpose: Purpose, host: &str) -> Result<Vec<IpAddr>, Unreachable> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return if self.rules.permits(address) { Ok(vec![address]) } else { Err(self.refuse(purpose, host)) };
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let may_ask = self.rules.permits_name(&name);
        let found = timeout(PATIENCE, (self.lookup)(name, may_ask)).await;
        let found = found.unwrap_or_else(|_| Err(format!("the name {host} cannot be resolved in time")));
        if may_ask {
            return found.map_err(Unreachable::Unknown);
        }
        let permitted: Vec<_> =
            found.unwrap_or_default().into_iter().filter(|address| self.rules.permits(*address)).collect();
        if permitted.is_empty() { Err(self.refuse(purpose, host)) } else { Ok(permitted) }
    }

    /// The addresses that the host has now, that may leave, and that `permit` has nothing against.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn permitted(
        &self,
        purpose: Purpose,
        host: &str,
        port: u16,
        permit: impl Fn(SocketAddr) -> Result<(), String>,
    ) -> Result<Vec<SocketAddr>, String> {
        let addresses = self.addresses(purpose, host).await.map_err(|why| why.to_string())?;
        let mut refusal = format!("{host} has no address");
        let mut permitted = Vec::new();
        for address in addresses.into_iter().map(|ip| SocketAddr::new(ip, port)) {
            match permit(address) {
                Ok(()) => permitted.push(address),
                Err(what) => refusal = format!("{host} leads to {what}"),
            }
        }
        permitted.truncate(MOST_ADDRESSES);
        if permitted.is_empty() { Err(refusal) } else { Ok(permitted) }
    }

    /// Counts it; the log says it once an hour for each host, since some are tried every few seconds.
    fn refuse(&self, purpose: Purpose, host: &str) -> Unreachable {
        self.refused[purpose as usize].fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (purpose, host.to_owned());
        if said.get(&key).is_none_or(|last| last.elapsed() >= SAY_AGAIN) {
            if said.len() >= REMEMBERED {
                said.clear();
            }
            said.insert(key, Instant::now());
            let purpose = purpose.as_str();
            tracing::warn!(
                purpose,
                host,
                "network.egress denies this: nothing was sent; name the host in network.egress_exceptions if it may be reached"
            );
        }
        Unreachable::Denied(format!(
            "network.egress denies connections to {host}: whoever runs the appliance can name it in \
             network.egress_exceptions"
        ))
    }
}

/// Connects to the first of these addresses that accepts it.
///
/// # Errors
/// Why none of them does.
pub async fn connect(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), String> {
    let patience = if addresses.len() > 1 { CONNECT } else { PATIENCE };
    let mut refusal = "there is no address to connect to".to_owned();
    for &address in addresses {
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(cause)) => refusal = format!("cannot connect to {address}: {cause}"),
            Err(_) => refusal = format!("{address} does not accept the connection"),
        }
    }
    Err(refusal)
}
