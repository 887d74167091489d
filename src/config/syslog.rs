//! The collector that gets a copy of the audit log.

use std::fmt;
use std::path::PathBuf;

use super::kind::{switch, text};
use super::{Host, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub struct SyslogConfig {
    /// Nothing is sent without one.
    pub server: Option<HostPort>,
    /// RFC 5425; in the clear (RFC 6587) without it.
    pub tls: bool,
    /// PEM: the only authorities whose word counts for the server; without it, those that browsers know.
    pub ca_file: Option<PathBuf>,
    /// People's names are sent too, and cannot be erased there.
    pub names: bool,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self { server: None, tls: true, ca_file: None, names: false }
    }
}

impl SyslogConfig {
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.section("syslog");
        visitor.setting("server", text::optional(text::host_and_port()), &mut self.server);
        visitor.setting("tls", switch(), &mut self.tls);
        visitor.setting("ca_file", text::optional_path(), &mut self.ca_file);
        visitor.setting("names", switch(), &mut self.names);
    }
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: Host,
    pub port: u16,
}

impl HostPort {
    /// Reads `HOST:PORT`, an IPv6 address in brackets; the port is not 0.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let port = port.parse().ok().filter(|port| *port != 0 && !is_bare_ipv6)?;
        Some(Self { host: Host::parse(host)?, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
