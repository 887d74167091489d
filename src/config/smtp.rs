//! The server that takes the appliance's mail.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;

use super::kind::{choice, count, seconds, text};
use super::{Host, Secret, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub struct SmtpConfig {
    /// Nothing is mailed without one.
    pub host: Option<Host>,
    pub tls: SmtpTls,
    /// 0 to 65,535; 0 stands for the usual one, see [`SmtpConfig::port`].
    pub port: u32,
    /// Signs in with it, and with the password, unless it is empty.
    pub username: String,
    pub password: Secret,
    /// Required with a host.
    pub from: Option<Mailbox>,
    /// PEM: the only authorities whose word counts for the server; without it, those that browsers know.
    pub ca_file: Option<PathBuf>,
    /// For one message, from connecting to the server's word that it has it. 1 to 300 s.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte.
    Implicit,
    /// Asked for in the clear; a server that has none gets no mail.
    StartTls,
    /// Only within this machine or its private network.
    None,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            host: None,
            tls: SmtpTls::Implicit,
            port: 0,
            username: String::new(),
            password: Secret::new(""),
            from: None,
            ca_file: None,
            timeout: Duration::from_secs(30),
        }
    }
}

const TLS: &[(&str, SmtpTls)] =
    &[("implicit", SmtpTls::Implicit), ("starttls", SmtpTls::StartTls), ("none", SmtpTls::None)];

impl SmtpConfig {
    /// The port set, or the one that servers have for this kind of TLS.
    pub fn port(&self) -> u16 {
        let usual = match self.tls {
            SmtpTls::Implicit => 465,
            SmtpTls::StartTls => 587,
            SmtpTls::None => 25,
        };
        u16::try_from(self.port).ok().filter(|port| *port != 0).unwrap_or(usual)
    }

    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.section("smtp");
        visitor.setting("host", text::optional(text::host()), &mut self.host);
        visitor.setting("tls", choice(TLS), &mut self.tls);
        visitor.setting("port", count(0..=65_535), &mut self.port);
        visitor.setting("username", text::name(), &mut self.username);
        visitor.setting("password", text::Hidden, &mut self.password);
        visitor.setting("from", text::optional(text::mailbox()), &mut self.from);
        visitor.setting("ca_file", text::optional(text::path()), &mut self.ca_file);
        visitor.setting("timeout_seconds", seconds(1..=300), &mut self.timeout);
    }

    /// What is wrong with these settings together: the keys, and a sentence. Nothing is, while nothing is mailed.
    pub(super) fn contradiction(&self) -> Option<(&'static [&'static str], String)> {
        let host = self.host.as_ref()?;
        if self.from.is_none() {
            let message = "smtp.host needs smtp.from, the address that the mail comes from";
            return Some((&["smtp.host", "smtp.from"], message.into()));
        }
        if self.username.is_empty() != self.password.expose().is_empty() {
            let message = "smtp.username and smtp.password need each other";
            return Some((&["smtp.username", "smtp.password"], message.into()));
        }
        (self.tls == SmtpTls::None && !is_near(host)).then(|| {
            let message = format!(
                "smtp.tls may be \"none\" only for localhost or an address of this machine or a private network, \
                 not for {host}: links and the password would be open to read on the way"
            );
            (&["smtp.host", "smtp.tls"] as &'static [_], message)
        })
    }
}

/// A name may lead anywhere, but for this one.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Name(name) => name == "localhost",
        Host::Address(std::net::IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private(),
        Host::Address(std::net::IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unique_local(),
    }
}
