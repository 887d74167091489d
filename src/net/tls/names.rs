//! The names and addresses that this server answers to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::TlsError;

/// Addresses of one machine that go into a certificate; a host of many containers has more, which nobody asks for.
const MOST_ADDRESSES: usize = 100;

/// A set of DNS names and IP addresses: those of the server's certificate, and those a `Host` header may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    dns: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// `localhost` and the loopback addresses.
    pub fn local() -> Self {
        let mut names = Self::default();
        names.dns.insert("localhost".into());
        names.addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        names
    }

    /// Adds a name as a person writes it: a DNS name (RFC 1123, in its ASCII form) or an IP address.
    pub fn add(&mut self, name: &str) -> Result<(), TlsError> {
        match name.parse::<IpAddr>() {
            Ok(address) => _ = self.addresses.insert(address.to_canonical()),
            Err(_) => _ = self.dns.insert(dns_name(name)?),
        }
        Ok(())
    }

    /// Adds this machine's host name and the addresses of its interfaces that another machine could use.
    pub fn add_machine(&mut self) -> Result<(), TlsError> {
        // A host name that is no DNS name (with an underscore, say) cannot be certified, nor asked for.
        _ = self.add(&rustix::system::uname().nodename().to_string_lossy());
        let interfaces = if_addrs::get_if_addrs().map_err(TlsError::Machine)?;
        let usable = |address: &IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_unspecified(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unspecified() && !v6.is_unicast_link_local(),
        };
        let addresses: BTreeSet<_> = interfaces.iter().map(|interface| interface.ip()).filter(usable).collect();
        self.addresses.extend(addresses.into_iter().take(MOST_ADDRESSES));
        Ok(())
    }

    /// Whether `host`, with or without a port, is one of these: the value of a `Host` header or a URI's authority
    /// (RFC 9110, section 7.2). Case and a final dot do not matter; IPv6 addresses may stand in brackets.
    pub fn contains(&self, host: &str) -> bool {
        if let Some(rest) = host.strip_prefix('[') {
            return match rest.split_once(']') {
                Some((address, port)) => (port.is_empty() || is_port(port)) && self.contains_v6(address),
                None => false,
            };
        }
        match host.split_once(':') {
            None => self.contains_name(host),
            Some((_, rest)) if rest.contains(':') => self.contains_v6(host),
            Some((name, port)) => is_port(&format!(":{port}")) && self.contains_name(name),
        }
    }

    fn contains_v6(&self, address: &str) -> bool {
        address.parse::<Ipv6Addr>().is_ok_and(|a| self.addresses.contains(&IpAddr::V6(a).to_canonical()))
    }

    fn contains_name(&self, name: &str) -> bool {
        match name.parse::<Ipv4Addr>() {
            Ok(address) => self.addresses.contains(&IpAddr::V4(address)),
            Err(_) => dns_name(name).is_ok_and(|name| self.dns.contains(&name)),
        }
    }

    pub fn dns(&self) -> impl Iterator<Item = &str> {
        self.dns.iter().map(String::as_str)
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }
}

/// What may follow a host in an authority: a colon and digits, or a colon alone (RFC 3986, section 3.2.3).
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()))
}

/// The one way this crate writes a DNS name: lower case, without the final dot.
fn dns_name(text: &str) -> Result<String, TlsError> {
    let refuse = |reason| TlsError::Name { name: text.into(), reason };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() || name.len() > 253 {
        return Err(refuse("it must have 1 to 253 characters"));
    }
    if !name.is_ascii() {
        return Err(refuse("write it in its ASCII form (xn--…)"));
    }
    let good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(good) {
        return Err(refuse("each part may have letters, digits and inner hyphens"));
    }
    // A last part of digits alone would be read as a (wrong) IPv4 address by browsers.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(refuse("it is neither a DNS name nor an IP address"));
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(extra: &[&str]) -> Names {
        let mut names = Names::local();
        extra.iter().for_each(|name| names.add(name).unwrap());
        names
    }

    #[test]
    fn a_browser_is_let_in_however_it_writes_the_host() {
        let names = names(&["Zero.Example.com.", "192.0.2.7", "2001:db8::7"]);
        for host in [
            "zero.example.com",
            "ZERO.example.COM:8443",
            "zero.example.com.",
            "zero.example.com.:443",
            "localhost:",
            "192.0.2.7",
            "192.0.2.7:443",
            "[2001:db8::7]",
            "[2001:DB8:0::7]:8443",
            "2001:db8::7",
            "[::1]:1",
            "[::ffff:192.0.2.7]",
        ] {
            assert!(names.contains(host), "{host}");
        }
    }

    #[test]
    fn a_host_of_someone_else_is_not_taken_for_ours() {
        let names = names(&["zero.example.com", "192.0.2.7"]);
        for host in [
            "",
            ".",
            ":443",
            "evil.example",
            "zero.example.com.evil.example",
            "zero.example.com..",
            "zero.example.com:443:1",
            "zero.example.com:x",
            "zero.example.com:+443",
            "zero.example.com@evil.example",
            "user@zero.example.com",
            "192.0.2.8",
            "3221225991",
            "192.0.2.7.",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[localhost]",
            "zero.example.com\u{2024}",
        ] {
            assert!(!names.contains(host), "{host}");
        }
    }

    #[test]
    fn names_that_no_client_could_use_are_refused_when_configured() {
        for name in
            ["", "*.example.com", "a_b", "-a", "exämple.com", "https://a", "a:443", "10.0.0", "300.1.1.1", "a..b"]
        {
            assert!(Names::local().add(name).is_err(), "{name}");
        }
        assert!(Names::local().add(&"a".repeat(64)).is_err());
    }

    #[test]
    fn the_machines_own_addresses_leave_out_what_others_cannot_reach() {
        let mut names = Names::default();
        names.add_machine().unwrap();
        assert!(names.addresses().all(|a| !a.is_loopback() && !a.is_unspecified()));
    }
}
