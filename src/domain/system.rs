//! The appliance itself: how it shows who it is.

use std::net::IpAddr;
use std::sync::Arc;

use super::Services;
use super::authz::Permission;
use super::diagnosis::Diagnose;
use super::op::Op;
use super::settings::Changeable;
use crate::clock::Time;
use crate::error::Error;

/// The appliance's own authority, which is no secret: people need it before they can trust anything else it says.
#[derive(Clone, Debug)]
pub struct Trust {
    pub pem: String,
    pub der: Vec<u8>,
    /// SHA-256, as browsers show it.
    pub fingerprint: String,
    pub not_after: Time,
}

/// What clients are shown, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// Where it is meant to come from, as the settings write it.
    pub mode: &'static str,
    pub shown: Option<CertificateFacts>,
    /// Why there is no newer one.
    pub problem: Option<String>,
}

#[derive(Clone, Debug)]
pub struct CertificateFacts {
    pub names: Vec<String>,
    pub issuer: String,
    /// SHA-256, as browsers show it.
    pub fingerprint: String,
    pub not_before: Time,
    pub not_after: Time,
    pub is_publicly_trusted: bool,
}

/// What the network's edge tells of itself.
pub struct Edge {
    pub trust: Trust,
    pub certificate: Box<dyn Fn() -> ServerCertificate + Send + Sync>,
    /// Makes a certificate for new names at once, rather than within a minute.
    pub look: Box<dyn Fn() + Send + Sync>,
    /// Connections that `network.egress` has denied since the start, by what they were for.
    pub denied: Box<dyn Fn() -> Vec<(String, u64)> + Send + Sync>,
    pub diagnose: Arc<Diagnose>,
    /// The address of a proxy that is not trusted, when everything comes through it.
    pub unknown_proxy: Box<dyn Fn() -> Option<IpAddr> + Send + Sync>,
}

impl Services {
    /// Where people reach the appliance, as `https://HOST:PORT`: what the links it gives out start with.
    pub fn url(&self) -> String {
        let kept = self.store.memory().directory().settings().names.first().cloned();
        match self.changeable.as_ref().map(Changeable::settings) {
            Some(settings) => settings.config.server.url(kept, self.port),
            None => self.config.server.url(kept, self.port),
        }
    }

    pub(super) fn look_at_certificates(&self) {
        if let Some(edge) = &self.edge {
            (edge.look)();
        }
    }

    pub fn trust(&self) -> Result<&Trust, Error> {
        self.edge.as_ref().map(|edge| &edge.trust).ok_or(Error::NotFound("certificate authority"))
    }

    pub fn server_certificate(&self, op: &Op) -> Result<ServerCertificate, Error> {
        op.require(Permission::SystemAdmin)?;
        self.edge.as_ref().map(|edge| (edge.certificate)()).ok_or(Error::NotFound("certificate"))
    }
}
