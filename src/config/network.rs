//! What the appliance may connect to.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::kind::{choice, list, text};
use super::{Host, Visitor};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkConfig {
    pub egress: Egress,
    /// Where connections go all the same while `egress` denies them. At most 64.
    pub exceptions: Vec<Destination>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    #[default]
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A DNS name, whatever its addresses are; lower-case, without a dot at its end.
    Name(String),
    Network(IpNet),
}

const RULES: &[(&str, Egress)] = &[("allow", Egress::Allow), ("deny", Egress::Deny)];

impl NetworkConfig {
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.section("network");
        visitor.setting("egress", choice(RULES), &mut self.egress);
        visitor.setting("egress_exceptions", list(text::destination(), 64), &mut self.exceptions);
    }

    /// Whether the name may be looked up, and connected to at whatever address it has.
    pub fn permits_name(&self, name: &str) -> bool {
        let is_it = |exception: &Destination| matches!(exception, Destination::Name(known) if known == name);
        self.egress == Egress::Allow || self.exceptions.iter().any(is_it)
    }

    /// Whether the address may be connected to. What stays on the machine does not leave.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_in = |exception: &Destination| matches!(exception, Destination::Network(net) if net.contains(&address));
        self.egress == Egress::Allow || address.is_loopback() || self.exceptions.iter().any(is_in)
    }
}

impl Destination {
    /// Reads a DNS name, an address or a network.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(network) = text.parse::<IpNet>() {
            return (network.trunc() == network).then_some(Self::Network(network));
        }
        match Host::parse(text)? {
            Host::Name(name) => Some(Self::Name(name)),
            Host::Address(address) => Some(Self::Network(address.to_canonical().into())),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Network(network) => network.fmt(f),
        }
    }
}
