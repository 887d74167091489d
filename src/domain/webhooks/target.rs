//! Where deliveries may go. A webhook's URL is a stranger's word: it must not make the appliance speak to itself, to
//! services that trust this machine, or to what a cloud offers its machines. Addresses are judged as they are connected
//! to, however they were written, since a name may mean another one by then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use url::{Host, Url};

use crate::config::WebhooksConfig;
use crate::error::Error;

/// Bytes of a URL.
const MOST_BYTES: usize = 2048;
/// How long the check of a new URL waits for its name to be resolved.
const PATIENCE: Duration = Duration::from_secs(5);

pub type Finding = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Nowhere>> + Send>>;

/// Why a host has no address; says it in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nowhere {
    /// The appliance is not let there.
    #[error("{0}")]
    Denied(String),
    /// Not now, as far as can be told.
    #[error("{0}")]
    Unknown(String),
}

/// What the check of a URL needs to know of the machine and its network.
pub struct Surroundings {
    /// The addresses that a host, a name or an address, has now.
    pub find: Box<dyn Fn(String) -> Finding + Send + Sync>,
    /// Whether a name or an address is one of the appliance's own.
    pub is_own: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// The port that the appliance listens on.
    pub port: u16,
}

pub struct Targets {
    config: WebhooksConfig,
    around: Surroundings,
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    Loopback,
    Nowhere(&'static str),
}

impl Targets {
    pub fn new(config: WebhooksConfig, around: Surroundings) -> Self {
        Self { config, around }
    }

    /// The URL in its normal form, when deliveries may go there as far as can be told now.
    pub async fn check(&self, url: &str) -> Result<String, Error> {
        let wrong = |what: String| Error::field("url", what);
        let url = self.read(url).map_err(wrong)?;
        let is_tls = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or_default();
        let Some(host) = url.host() else { return Ok(url.into()) };
        let found = tokio::time::timeout(PATIENCE, (self.around.find)(host.to_string())).await;
        match found.unwrap_or_else(|_| Err(Nowhere::Unknown("no answer in time".into()))) {
            Ok(addresses) => {
                let judged = addresses.iter().map(|ip| self.permit(SocketAddr::new(*ip, port), is_tls));
                judged.collect::<Result<(), _>>().map_err(|why| wrong(format!("leads to {why}")))?;
            }
            Err(Nowhere::Denied(why)) => return Err(wrong(format!("is out of reach: {why}"))),
            // A receiver may be set up after its webhook. In clear, though, only what is known to be near is spoken to.
            Err(why) if !is_tls => {
                return Err(wrong(format!(
                    "must be https, since {host} cannot be resolved to a private address: {why}"
                )));
            }
            Err(_) => {}
        }
        Ok(url.into())
    }

    fn read(&self, text: &str) -> Result<Url, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("must have at most {MOST_BYTES} bytes"));
        }
        let url = Url::parse(text).map_err(|cause| format!("is no URL: {cause}"))?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("must be https, or http to a private address, not {other}")),
        };
        if url.as_str().len() > MOST_BYTES {
            return Err(format!("must have at most {MOST_BYTES} bytes"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must hold no user name or password: deliveries are known by their signature".into());
        }
        if url.fragment().is_some() {
            return Err("must hold no fragment (#), which is never sent".into());
        }
        let port = url.port_or_known_default().filter(|port| *port > 0).ok_or("must have a port from 1 to 65535")?;
        let address = match url.host() {
            None => return Err("must name a host".into()),
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                let is_local = name == "localhost" || name.ends_with(".localhost");
                if is_local && !self.config.allow_loopback {
                    return Err(format!("leads to {LOOPBACK}"));
                }
                if port == self.around.port && (self.around.is_own)(name) {
                    return Err(format!("leads to {OWN}"));
                }
                None
            }
        };
        if let Some(address) = address {
            self.permit(SocketAddr::new(address, port), is_tls).map_err(|why| format!("leads to {why}"))?;
        }
        Ok(url)
    }

    /// Whether a connection may be made; the error says what is there, and why not.
    pub fn permit(&self, to: SocketAddr, is_tls: bool) -> Result<(), String> {
        let ip = embedded(to.ip());
        if !self.config.allow_loopback && (self.around.is_own)(&ip.to_string()) {
            return Err(format!("{LOOPBACK} ({ip})"));
        }
        match reach(ip) {
            Reach::Nowhere(what) => return Err(format!("{what} ({ip})")),
            Reach::Loopback if !self.config.allow_loopback => return Err(format!("{LOOPBACK} ({ip})")),
            Reach::Private if !self.config.allow_private => {
                return Err(format!("a private network ({ip}), which webhooks.allow_private refuses"));
            }
            Reach::Public if !is_tls => return Err(format!("a public address ({ip}), which needs https")),
            Reach::Public | Reach::Private | Reach::Loopback => {}
        }
        if to.port() == self.around.port && (ip.is_loopback() || (self.around.is_own)(&ip.to_string())) {
            return Err(OWN.into());
        }
        Ok(())
    }
}

const LOOPBACK: &str = "the appliance's own machine, which webhooks.allow_loopback refuses";
const OWN: &str = "the appliance itself";

/// The IPv4 address that an IPv6 address stands for, where it stands for one: mapped or compatible (RFC 4291, 2.5.5),
/// 6to4 (RFC 3056), translated (RFC 6052).
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low] | [0, 0, 0, 0, 0xFFFF, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => v4(high, low),
        _ => ip,
    }
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [127, ..] => Reach::Loopback,
        [0, ..] => Reach::Nowhere("no address of a host"),
        // Where clouds tell their machines who they are, and their keys.
        [169, 254, 169, 254] | [100, 100, 100, 200] | [168, 63, 129, 16] => Reach::Nowhere("a metadata service"),
        [169, 254, ..] => Reach::Nowhere("a link-local address"),
        [224..=239, ..] => Reach::Nowhere("a multicast address"),
        [255, 255, 255, 255] => Reach::Nowhere("the broadcast address"),
        [240..=255, ..] | [192, 0, 0, _] => Reach::Nowhere("a reserved address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Nowhere("no address of a host"),
        [0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254] | [0xFD20, 0xCE, 0, 0, 0, 0, 0, 0x254] => {
            Reach::Nowhere("a metadata service")
        }
        [0xFE80..=0xFEBF, ..] => Reach::Nowhere("a link-local address"),
        [0xFF00..=0xFFFF, ..] => Reach::Nowhere("a multicast address"),
        // Teredo and translation of local use hide an address of IPv4; of the rest outside 2000::/3 none is public.
        [0x2001, 0, ..] | [0x64, 0xFF9B, ..] => Reach::Nowhere("a tunnel or translator"),
        [0xFC00..=0xFDFF, ..] | [0xFEC0..=0xFEFF, ..] => Reach::Private,
        [0x2000..=0x3FFF, ..] => Reach::Public,
        _ => Reach::Nowhere("a reserved address"),
    }
}

#[cfg(test)]
mod tests;
