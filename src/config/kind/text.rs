//! Values that are written as text.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use lettre::message::Mailbox;
use url::Url;

use super::Kind;
use crate::config::layers::Given;
use crate::config::{Destination, Host, HostPort, PublicKey, Recipient, Secret};

/// A value with a textual form of its own.
pub(in crate::config) struct Text<T> {
    /// What is wanted, for messages: `must be …`.
    what: &'static str,
    parse: fn(&str) -> Option<T>,
    show: fn(&T) -> String,
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        given.text().and_then(self.parse).ok_or_else(|| format!("must be {}, not {given}", self.what))
    }

    fn write(&self, value: &T) -> toml::Value {
        toml::Value::String((self.show)(value))
    }
}

pub(in crate::config) fn address() -> Text<SocketAddr> {
    Text {
        what: "ADDRESS:PORT, such as 0.0.0.0:8443 or [::]:8443",
        parse: |text| text.parse().ok(),
        show: SocketAddr::to_string,
    }
}

pub(in crate::config) fn host() -> Text<Host> {
    Text { what: "a host name or an IP address, without a port", parse: Host::parse, show: Host::to_string }
}

pub(in crate::config) fn host_and_port() -> Text<HostPort> {
    Text {
        what: "HOST:PORT, such as logs.example.com:6514 or [fd00::1]:6514",
        parse: HostPort::parse,
        show: HostPort::to_string,
    }
}

pub(in crate::config) fn path() -> Text<PathBuf> {
    Text {
        what: "a path",
        parse: |text| (!text.is_empty() && !text.contains('\0')).then(|| text.into()),
        show: |path| path.display().to_string(),
    }
}

/// A path, or nothing: empty.
pub(in crate::config) fn optional_path() -> Text<Option<PathBuf>> {
    Text {
        what: "a path, or empty for none",
        parse: |text| (!text.contains('\0')).then(|| (!text.is_empty()).then(|| text.into())),
        show: |path| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
    }
}

/// An address on the web that nobody on the way can change.
pub(in crate::config) fn https_url() -> Text<String> {
    Text {
        what: "an https URL, such as https://ca.example.com/acme/directory",
        parse: |text| {
            let url = Url::parse(text).ok()?;
            (text.len() <= 2048 && url.scheme() == "https" && url.has_host() && url.username().is_empty())
                .then(|| url.into())
        },
        show: String::clone,
    }
}

/// Where a website is, as browsers have it: https, a host, perhaps a port.
pub(in crate::config) fn origin() -> Text<Url> {
    Text {
        what: "https://HOST or https://HOST:PORT, without a path",
        parse: |text| {
            let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && text.len() <= 512)?;
            let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            (is_bare && url.username().is_empty() && url.password().is_none()).then_some(url)
        },
        show: |url| url.origin().ascii_serialization(),
    }
}

/// A network, or one address as the network of itself alone.
pub(in crate::config) fn network() -> Text<IpNet> {
    Text {
        what: "a network, such as 10.0.0.0/8 or fd00::/8 (no bits set after the prefix), or an address",
        parse: |text| match text.parse::<IpAddr>() {
            Ok(address) => Some(address.into()),
            Err(_) => text.parse::<IpNet>().ok().filter(|network| network.trunc() == *network),
        },
        show: IpNet::to_string,
    }
}

/// Somewhere that the appliance may connect to.
pub(in crate::config) fn destination() -> Text<Destination> {
    Text {
        what: "a DNS name, an address or a network, such as mail.example.com, 192.168.1.20 or 10.0.0.0/8 (no bits set \
            after the prefix)",
        parse: Destination::parse,
        show: Destination::to_string,
    }
}

/// A network that devices get their addresses from: neither too small for a device nor all of the address space.
pub(in crate::config) fn pool() -> Text<Ipv4Net> {
    Text {
        what: "an IPv4 network of /8 to /30, such as 10.100.0.0/16 (no bits set after the prefix)",
        parse: |text| {
            let network: Ipv4Net = text.parse().ok()?;
            ((8..=30).contains(&network.prefix_len()) && network.trunc() == network).then_some(network)
        },
        show: Ipv4Net::to_string,
    }
}

/// Whoever backups are encrypted to.
pub(in crate::config) fn recipient() -> Text<Recipient> {
    Text {
        what: "an age recipient, age1 and 58 more characters, as age-keygen shows it",
        parse: |text| text.parse().ok(),
        show: Recipient::to_string,
    }
}

/// Whoever signs updates.
pub(in crate::config) fn public_key() -> Text<PublicKey> {
    Text {
        what: "an Ed25519 public key: the 44 characters that are its 32 bytes in base64",
        parse: |text| text.parse().ok(),
        show: PublicKey::to_string,
    }
}

/// Who mail is from.
pub(in crate::config) fn mailbox() -> Text<Mailbox> {
    Text {
        what: "an e-mail address, such as zero@example.com or \"Zero <zero@example.com>\"",
        parse: |text| text.parse().ok(),
        show: Mailbox::to_string,
    }
}

/// The name of an account somewhere else; none when it is empty.
pub(in crate::config) fn name() -> Text<String> {
    Text {
        what: "text of up to 256 characters without control characters",
        parse: |text| (text.chars().count() <= 256 && !text.contains(char::is_control)).then(|| text.into()),
        show: String::clone,
    }
}

/// A value that may be left out: empty text is none.
pub(in crate::config) struct Optional<T>(Text<T>);

pub(in crate::config) fn optional<T>(text: Text<T>) -> Optional<T> {
    Optional(text)
}

impl<T> Kind for Optional<T> {
    type Value = Option<T>;

    fn read(&self, given: &Given) -> Result<Option<T>, String> {
        if given.text() == Some("") { Ok(None) } else { self.0.read(given).map(Some) }
    }

    fn write(&self, value: &Option<T>) -> toml::Value {
        value.as_ref().map_or_else(|| toml::Value::String(String::new()), |value| self.0.write(value))
    }
}

/// A secret: neither a mistake in it nor a listing shows what it is. None when it is empty.
pub(in crate::config) struct Hidden;

impl Kind for Hidden {
    type Value = Secret;

    fn read(&self, given: &Given) -> Result<Secret, String> {
        let text = given.text().filter(|text| text.chars().count() <= 1024);
        text.map(Secret::new).ok_or_else(|| "must be text of up to 1024 characters".into())
    }

    fn write(&self, value: &Secret) -> toml::Value {
        toml::Value::String(if value.expose().is_empty() { String::new() } else { value.to_string() })
    }
}
