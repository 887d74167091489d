//! Where the server's certificate comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::kind::{choice, switch, text};
use super::{Host, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    pub mode: TlsMode,
    /// PEM: the certificate, then those of its authorities. Required with [`TlsMode::Files`].
    pub cert_file: Option<PathBuf>,
    /// PEM, without a password. Required with [`TlsMode::Files`].
    pub key_file: Option<PathBuf>,
    /// URL of the ACME server's directory, https.
    pub acme_directory: String,
    /// PEM file of the authorities that the ACME server's own certificate may come from, beside the public ones.
    pub acme_ca_file: Option<PathBuf>,
    pub acme_challenge: AcmeChallenge,
    /// Where proof is given over plain HTTP, while it is asked for.
    pub acme_http_listen: SocketAddr,
    /// Clients are asked for a device's certificate; they need not have one.
    pub device_certificates: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// From the appliance's own authority.
    Local,
    /// From the operator's files.
    Files,
    /// From an ACME server.
    Acme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    TlsAlpn01,
    Http01,
}

impl TlsMode {
    pub fn as_str(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(word, _)| word)
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            mode: TlsMode::Local,
            cert_file: None,
            key_file: None,
            acme_directory: "https://acme-v02.api.letsencrypt.org/directory".into(),
            acme_ca_file: None,
            acme_challenge: AcmeChallenge::TlsAlpn01,
            acme_http_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80),
            device_certificates: true,
        }
    }
}

const MODES: &[(&str, TlsMode)] = &[("local", TlsMode::Local), ("files", TlsMode::Files), ("acme", TlsMode::Acme)];

const CHALLENGES: &[(&str, AcmeChallenge)] =
    &[("tls-alpn-01", AcmeChallenge::TlsAlpn01), ("http-01", AcmeChallenge::Http01)];

impl TlsConfig {
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.section("tls");
        visitor.setting("mode", choice(MODES), &mut self.mode);
        visitor.setting("cert_file", text::optional_path(), &mut self.cert_file);
        visitor.setting("key_file", text::optional_path(), &mut self.key_file);
        visitor.setting("acme_directory", text::https_url(), &mut self.acme_directory);
        visitor.setting("acme_ca_file", text::optional_path(), &mut self.acme_ca_file);
        visitor.setting("acme_challenge", choice(CHALLENGES), &mut self.acme_challenge);
        visitor.setting("acme_http_listen", text::address(), &mut self.acme_http_listen);
        visitor.setting("device_certificates", switch(), &mut self.device_certificates);
    }

    /// What is wrong with these settings together, and with `names`: the keys, and a sentence.
    pub(super) fn contradiction(&self, names: &[Host]) -> Option<(&'static [&'static str], String)> {
        match self.mode {
            TlsMode::Local => None,
            TlsMode::Files if self.cert_file.is_none() || self.key_file.is_none() => Some((
                &["tls.mode", "tls.cert_file", "tls.key_file"],
                "tls.mode \"files\" needs tls.cert_file and tls.key_file".into(),
            )),
            TlsMode::Files if names.is_empty() => Some((
                &["tls.mode", "server.names"],
                "tls.mode \"files\" needs server.names: the names that the certificate is for".into(),
            )),
            TlsMode::Acme if !names.iter().any(|name| matches!(name, Host::Name(_))) => Some((
                &["tls.mode", "server.names"],
                "tls.mode \"acme\" needs a DNS name in server.names: the certificate is asked for by name".into(),
            )),
            TlsMode::Files | TlsMode::Acme => None,
        }
    }
}
