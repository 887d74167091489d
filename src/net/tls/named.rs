//! A certificate for the appliance's names that somebody else has issued, checked before anybody is shown it.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::names::Names;
use super::{authority, provider};
use crate::clock::Time;

/// More than any chain has that a client would follow.
const LONGEST_CHAIN: usize = 10;

static PUBLIC_ROOTS: LazyLock<RootCertStore> =
    LazyLock::new(|| RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });

/// Why a certificate is not fit to be shown, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

impl Unfit {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What somebody may want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// DNS names, which may be wildcards, and addresses.
    pub names: Vec<String>,
    pub issuer: String,
    /// SHA-256, as browsers show it.
    pub fingerprint: String,
    pub not_before: Time,
    pub not_after: Time,
    /// Browsers trust it without being told to.
    pub is_publicly_trusted: bool,
}

/// A certificate with its chain and its key.
#[derive(Debug)]
pub struct Named {
    key: Arc<CertifiedKey>,
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    facts: Facts,
}

/// What else is asked of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// It leads to a public authority, or to the root that ends it: clients could not find what is missing.
    Complete,
    /// Whoever issued it has sent what belongs to it.
    AsIssued,
}

impl Named {
    /// Reads the certificate, first, with those of its authorities in order, and its key.
    pub(super) fn check(chain_pem: &str, key_pem: &str, chain: Chain, now: Time) -> Result<Self, Unfit> {
        Self::check_against(&PUBLIC_ROOTS, chain_pem, key_pem, chain, now)
    }

    fn check_against(
        roots: &RootCertStore,
        chain_pem: &str,
        key_pem: &str,
        chain: Chain,
        now: Time,
    ) -> Result<Self, Unfit> {
        let mut certificates = certificates(chain_pem)?;
        let parsed = certificates.iter().map(authority::parse).collect::<Result<Vec<_>, _>>();
        let parsed = parsed.map_err(|reason| Unfit::new(format!("a certificate cannot be read: {reason}")))?;
        let own = parsed.first().ok_or_else(|| Unfit::new("there is no certificate in PEM"))?;
        check_use(own)?;
        let key = CertifiedKey::new(certificates.clone(), signing_key(key_pem)?);
        key.keys_match().map_err(|_| Unfit::new("the key is not the one that the certificate was made for"))?;
        parsed.iter().try_for_each(|certificate| check_validity(certificate, now))?;
        check_order(&parsed)?;
        let is_publicly_trusted = leads_to(roots, &certificates, now);
        let ends_in_root = parsed.last().is_some_and(is_self_signed);
        if chain == Chain::Complete && !is_publicly_trusted && !ends_in_root {
            let issuer = parsed.last().map(|last| last.issuer().to_string()).unwrap_or_default();
            return Err(Unfit::new(format!(
                "the chain is not complete: add the certificate of its issuer, \"{issuer}\", after the others, and so \
                 on up to the root of your own authority"
            )));
        }
        let (dns, addresses) = names(own)?;
        let facts = Facts {
            names: dns.iter().cloned().chain(addresses.iter().map(ToString::to_string)).collect(),
            issuer: own.issuer().to_string(),
            fingerprint: fingerprint(&certificates[0]),
            not_before: Time::from_unix(own.validity().not_before.timestamp()),
            not_after: Time::from_unix(own.validity().not_after.timestamp()),
            is_publicly_trusted,
        };
        // Clients have the root, or do not trust it.
        if ends_in_root && certificates.len() > 1 {
            certificates.pop();
        }
        Ok(Self { key: Arc::new(CertifiedKey { cert: certificates, ..key }), dns, addresses, facts })
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether it is for this host, written as [`Names`] writes it.
    pub(super) fn is_for(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address.to_canonical()),
            Err(_) => self.dns.iter().any(|name| is_match(name, host)),
        }
    }

    pub(super) fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Clients that ask for one of `wanted` must be shown a certificate that has it. Addresses count only where there
    /// is no name: public authorities hardly certify them, and the local authority does.
    pub(super) fn covers(&self, wanted: &Names) -> Result<(), Unfit> {
        let mut missing: Vec<String> = wanted.dns().filter(|name| !self.is_for(name)).map(Into::into).collect();
        if wanted.dns().next().is_none() {
            missing.extend(wanted.addresses().map(|address| address.to_string()).filter(|name| !self.is_for(name)));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (missing, names) = (missing.join(", "), self.facts.names.join(", "));
        Err(Unfit::new(format!("the certificate is for {names}, but not for {missing}, which server.names has")))
    }
}

/// A wildcard stands for exactly one label (RFC 6125, section 6.4.3).
fn is_match(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, parent)| parent == rest),
        None => pattern == host,
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| Unfit::new(format!("the certificates cannot be read: {error}")))?;
    if found.len() > LONGEST_CHAIN {
        return Err(Unfit::new(format!(
            "there are {} certificates: no chain has more than {LONGEST_CHAIN}",
            found.len()
        )));
    }
    Ok(found)
}

fn signing_key(pem: &str) -> Result<Arc<dyn rustls::sign::SigningKey>, Unfit> {
    if pem.contains("ENCRYPTED") {
        return Err(Unfit::new(
            "the key is protected by a password: write it without one, with openssl pkey -in … -out …",
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Unfit::new(format!("the key cannot be read as PEM: {error}")))?;
    let supported = provider().key_provider.load_private_key(key);
    supported.map_err(|_| {
        Unfit::new("the key's kind is not supported: take P-256, P-384, Ed25519 or RSA (2048 to 8192 bits)")
    })
}

fn check_use(own: &X509Certificate<'_>) -> Result<(), Unfit> {
    if own.is_ca() && !is_self_signed(own) {
        return Err(Unfit::new("the first certificate is an authority's: put the server's own before it"));
    }
    let usage = own.extended_key_usage().map_err(|_| Unfit::new("the certificate's extensions cannot be read"))?;
    match usage {
        Some(usage) if !usage.value.server_auth && !usage.value.any => {
            Err(Unfit::new("the certificate is not one for servers (its extended key usage lacks serverAuth)"))
        }
        _ => Ok(()),
    }
}

fn check_validity(certificate: &X509Certificate<'_>, now: Time) -> Result<(), Unfit> {
    let subject = certificate.subject();
    let not_before = Time::from_unix(certificate.validity().not_before.timestamp());
    let not_after = Time::from_unix(certificate.validity().not_after.timestamp());
    if now < not_before {
        let reason = format!("the certificate \"{subject}\" is not valid before {not_before}: the clock says {now}");
        return Err(Unfit(reason));
    }
    if not_after <= now {
        return Err(Unfit(format!("the certificate \"{subject}\" has expired, at {not_after}")));
    }
    Ok(())
}

fn check_order(chain: &[X509Certificate<'_>]) -> Result<(), Unfit> {
    for pair in chain.windows(2) {
        let [issued, issuer] = pair else { continue };
        let is_signed = issued.verify_signature(Some(issuer.public_key())).is_ok();
        if issued.issuer() != issuer.subject() || !is_signed || !issuer.is_ca() {
            return Err(Unfit(format!(
                "the chain is not in order: \"{}\" must be followed by the certificate of its issuer, \"{}\", not by \
                 that of \"{}\"",
                issued.subject(),
                issued.issuer(),
                issuer.subject()
            )));
        }
    }
    Ok(())
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject() == certificate.issuer() && certificate.verify_signature(None).is_ok()
}

fn leads_to(roots: &RootCertStore, chain: &[CertificateDer<'_>], now: Time) -> bool {
    let Some((own, rest)) = chain.split_first() else { return false };
    let Ok(own) = ParsedCertificate::try_from(own) else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unix().unsigned_abs()));
    let algorithms = provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&own, roots, rest, now, algorithms.all).is_ok()
}

fn names(own: &X509Certificate<'_>) -> Result<(Vec<String>, Vec<IpAddr>), Unfit> {
    let nameless = || Unfit::new("the certificate has no subject alternative names, and clients look at nothing else");
    let found = own.subject_alternative_name().map_err(|_| nameless())?.ok_or_else(nameless)?;
    let (mut dns, mut addresses) = (Vec::new(), Vec::new());
    for name in &found.value.general_names {
        match name {
            GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Ok((dns, addresses))
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        _ => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
    }
}

/// SHA-256 of a certificate, as browsers show it: `3F:9A:…`, 32 pairs.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let pairs: Vec<String> = digest(&SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests;
