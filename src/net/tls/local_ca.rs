//! The server's own certificate, from a CA that the appliance makes for itself.
//!
//! In `<data>/tls`: `ca.pem`, which clients are told to trust; `ca.key`; and `server.pem` with `server.key`, which
//! are short-lived and made anew whenever they do not fit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::authority::{self, Authority};
use super::files::{self, Readable, Sharing};
use super::named::{self, Facts, address};
use super::names::Names;
use super::{Clients, ServerTls, TlsError, provider};
use crate::clock::Time;

const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Adds what may change while the server runs.
type AddCurrent = Box<dyn Fn(&mut Names) -> Result<(), TlsError> + Send + Sync>;

/// The local CA, the server certificate that it has issued, and the TLS that shows it.
pub struct LocalCa {
    directory: PathBuf,
    authority: Authority,
    configured: ArcSwap<Names>,
    add_current: AddCurrent,
    tls: ServerTls,
    names: ArcSwap<Names>,
    validity: Mutex<Validity>,
}

#[derive(Clone, Copy)]
struct Validity {
    not_before: Time,
    not_after: Time,
}

impl Validity {
    /// A certificate is replaced when less than a third of its life is left; also when a clock that was set back
    /// makes it one of the future.
    fn is_fresh(&self, now: Time) -> bool {
        let life = self.not_after.since(self.not_before);
        self.not_before <= now && self.not_after.since(now) >= life / 3
    }
}

/// What a server certificate was like before its names changed.
pub struct Before {
    configured: Arc<Names>,
    names: Arc<Names>,
    key: Arc<CertifiedKey>,
}

struct ServerCertificate {
    key: CertifiedKey,
    validity: Validity,
    names: Names,
}

impl LocalCa {
    /// Opens what `directory` holds and makes what is missing. The certificate is for `configured` (DNS names and
    /// addresses), `localhost`, this machine's host name, its addresses, and what `others` says at the time.
    pub fn open(
        directory: &Path,
        configured: &[String],
        others: impl Fn() -> Vec<String> + Send + Sync + 'static,
        clients: Option<&Clients>,
        now: Time,
    ) -> Result<Self, TlsError> {
        let add = move |names: &mut Names| {
            names.add_machine()?;
            others().iter().try_for_each(|name| names.add(name))
        };
        Self::open_on(Box::new(add), directory, configured, clients, now)
    }

    fn open_on(
        add_current: AddCurrent,
        directory: &Path,
        configured: &[String],
        clients: Option<&Clients>,
        now: Time,
    ) -> Result<Self, TlsError> {
        let own = own_names(configured)?;
        let authority = Authority::open(directory, "ca", "Zero local CA", None, now)?;
        let mut names = own.clone();
        add_current(&mut names)?;
        let certificate = match load(directory, &authority)? {
            Some(found) if found.names == names && found.validity.is_fresh(now) => found,
            _ => issue(directory, &authority, names, now)?,
        };
        Ok(Self {
            directory: directory.into(),
            authority,
            configured: ArcSwap::from_pointee(own),
            add_current,
            tls: ServerTls::new(certificate.key, clients)?,
            names: ArcSwap::from_pointee(certificate.names),
            validity: Mutex::new(certificate.validity),
        })
    }

    /// Makes a new server certificate when names or addresses have changed or the old one has grown old, and
    /// shows it from the next handshake on. Returns whether it did. After an error the old one stays in place.
    ///
    /// Cheap when there is nothing to do: meant to be called every minute, so that a new address works soon.
    pub fn renew(&self, now: Time) -> Result<bool, TlsError> {
        let mut validity = self.validity.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Names::clone(&self.configured.load());
        (self.add_current)(&mut names)?;
        if **self.names.load() == names && validity.is_fresh(now) {
            return Ok(false);
        }
        *validity = self.show(issue(&self.directory, &self.authority, names, now)?);
        Ok(true)
    }

    /// From now on the certificate is for these names, beside the machine's own. Returns what leads back.
    pub fn answer_to(&self, configured: &[String], now: Time) -> Result<Before, TlsError> {
        let own = own_names(configured)?;
        let mut names = own.clone();
        (self.add_current)(&mut names)?;
        let mut validity = self.validity.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Before { configured: self.configured.load_full(), names: self.names(), key: self.tls.local() };
        if *before.names != names {
            *validity = self.show(issue(&self.directory, &self.authority, names, now)?);
        }
        self.configured.store(Arc::new(own));
        Ok(before)
    }

    /// Takes back what [`LocalCa::answer_to`] has done, which cannot fail. The certificate of before is shown again until
    /// [`LocalCa::renew`], which is due then, has made another: the disk has the wrong one.
    pub fn answer_as_before(&self, before: Before) {
        let mut validity = self.validity.lock().unwrap_or_else(PoisonError::into_inner);
        self.configured.store(before.configured);
        self.tls.swap_local(before.key);
        self.names.store(before.names);
        validity.not_after = validity.not_before;
    }

    fn show(&self, certificate: ServerCertificate) -> Validity {
        self.tls.swap_local(Arc::new(certificate.key));
        self.names.store(Arc::new(certificate.names));
        certificate.validity
    }

    pub fn tls(&self) -> &ServerTls {
        &self.tls
    }

    /// What the certificate is for, and what a `Host` may be.
    pub fn names(&self) -> Arc<Names> {
        self.names.load_full()
    }

    /// Of the server certificate; `None` when it cannot be read, which its making would have found.
    pub fn facts(&self) -> Option<Facts> {
        let shown = self.tls.local();
        let certificate = shown.cert.first()?;
        let validity = *self.validity.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names();
        Some(Facts {
            names: names.dns().map(Into::into).chain(names.addresses().map(|address| address.to_string())).collect(),
            issuer: authority::parse(certificate).ok()?.issuer().to_string(),
            fingerprint: named::fingerprint(certificate),
            not_before: validity.not_before,
            not_after: validity.not_after,
            is_publicly_trusted: false,
        })
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

fn own_names(configured: &[String]) -> Result<Names, TlsError> {
    let mut own = Names::local();
    configured.iter().try_for_each(|name| own.add(name))?;
    Ok(own)
}

fn certificate_file(directory: &Path) -> PathBuf {
    directory.join("server.pem")
}

fn key_file(directory: &Path) -> PathBuf {
    directory.join("server.key")
}

/// The certificate on disk; `None` when it is missing, damaged, or not of this authority: then it is made anew.
fn load(directory: &Path, authority: &Authority) -> Result<Option<ServerCertificate>, TlsError> {
    let (Some(certificate_pem), Some(key_pem)) =
        (files::read(&certificate_file(directory))?, files::read_key(&key_file(directory), Sharing::None)?)
    else {
        return Ok(None);
    };
    Ok(read(&certificate_pem, &key_pem, authority))
}

fn read(certificate_pem: &str, key_pem: &str, authority: &Authority) -> Option<ServerCertificate> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    let parsed = authority::parse(&certificate).ok()?;
    if !authority.has_signed(&parsed) {
        return None;
    }
    let names = names_of(&parsed)?;
    let validity = Validity {
        not_before: Time::from_unix(parsed.validity().not_before.timestamp()),
        not_after: Time::from_unix(parsed.validity().not_after.timestamp()),
    };
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).ok()?;
    // Refuses a key that is not the certificate's.
    let key = CertifiedKey::from_der(vec![certificate.clone()], key, &provider()).ok()?;
    Some(ServerCertificate { key, validity, names })
}

pub(super) fn names_of(certificate: &X509Certificate<'_>) -> Option<Names> {
    let mut names = Names::default();
    for name in &certificate.subject_alternative_name().ok()??.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.add(name).ok()?,
            GeneralName::IPAddress(bytes) => names.add(&address(bytes)?.to_string()).ok()?,
            _ => return None,
        }
    }
    Some(names)
}

fn issue(directory: &Path, authority: &Authority, names: Names, now: Time) -> Result<ServerCertificate, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Zero server");
    for name in names.dns() {
        params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name)?));
    }
    params.subject_alt_names.extend(names.addresses().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

    let key = authority::new_key()?;
    let (certificate, _) = authority.sign(params, &key, now, LIFETIME)?;
    let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
    let issued = read(&certificate_pem, &key_pem, authority)
        .ok_or_else(|| TlsError::Crypto("the new server certificate cannot be read back".into()))?;
    // A crash between the two leaves a pair that does not fit, which is found and made anew.
    files::write(&key_file(directory), &key_pem, Readable::ByOwner)?;
    files::write(&certificate_file(directory), &certificate_pem, Readable::ByAll)?;
    tracing::info!(until = %issued.validity.not_after, "issued a server certificate");
    Ok(issued)
}

#[cfg(test)]
mod tests;
