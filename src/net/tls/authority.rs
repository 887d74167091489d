//! A certificate authority of this appliance: a key and a certificate on disk, and signing with them.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::TlsError;
use super::files::{self, Readable, Sharing};
use super::sealing::Sealing;
use crate::clock::Time;
use crate::ids::fill_random;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LIFETIME: Duration = DAY.saturating_mul(3650);
/// Clients whose clock is a little behind must not find a new certificate "not yet valid".
const BACKDATE: Duration = Duration::from_secs(60 * 60);
/// 2026-01-01. A clock before it has not been set, and what it dates would be expired once it is.
const EARLIEST: Time = Time::from_unix(1_767_225_600);

const REMEDY: &str = "put it back from a backup of the data directory. Removing both this authority's files makes a \
    new authority, which everyone who trusts the old one then has to trust anew";

/// An issuing CA: P-256, ten years, only end-entity certificates below it.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    not_after: Time,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens `<directory>/<name>.pem` and `<directory>/<name>.key`, or makes both when there is neither. With `sealing` the
    /// key is sealed; one that is not yet is written anew.
    ///
    /// What exists is never replaced: those who trust this authority could not tell. A missing certificate is made
    /// again from the key, under the same subject, so that what the old one vouched for stays valid.
    pub(super) fn open(
        directory: &Path,
        name: &str,
        title: &str,
        sealing: Option<&Sealing>,
        now: Time,
    ) -> Result<Self, TlsError> {
        files::make_directory(directory)?;
        let certificate_file = directory.join(format!("{name}.pem"));
        let key_file = directory.join(format!("{name}.key"));
        let certificate_pem = files::read(&certificate_file)?;
        let stored = files::read_key(&key_file, Sharing::None)?;
        if stored.is_none() && certificate_pem.is_some() {
            return Err(TlsError::KeyMissing { key: key_file, certificate: certificate_file, remedy: REMEDY });
        }

        let keep = |key: &KeyPair| {
            let pem = key.serialize_pem();
            let text = sealing.map_or(Ok(pem.clone()), |sealing| sealing.seal(&pem)).map_err(TlsError::Crypto)?;
            files::write(&key_file, &text, Readable::ByOwner)
        };
        let key = match stored {
            Some(text) => {
                let opened = sealing.map_or(Ok(None), |sealing| sealing.open(&text));
                let opened = opened.map_err(|why| damaged(&key_file, why))?;
                let pem = opened.as_deref().unwrap_or(&text);
                let key = KeyPair::from_pem(pem).map_err(|error| damaged(&key_file, error))?;
                if sealing.is_some() && opened.is_none() {
                    keep(&key)?;
                    tracing::info!(file = %key_file.display(), "sealed the key of a certificate authority");
                }
                key
            }
            None => {
                check_clock(now)?;
                let key = new_key()?;
                // The key first: a certificate without its key is beyond repair, a key without its certificate is not.
                keep(&key)?;
                key
            }
        };
        let certificate_pem = match certificate_pem {
            Some(pem) => pem,
            None => {
                check_clock(now)?;
                let pem = self_signed(title, &key, now)?.pem();
                files::write(&certificate_file, &pem, Readable::ByAll)?;
                tracing::info!(file = %certificate_file.display(), "made the certificate of a certificate authority");
                pem
            }
        };
        Self::load(&certificate_file, certificate_pem, key, now)
    }

    fn load(file: &Path, certificate_pem: String, key: KeyPair, now: Time) -> Result<Self, TlsError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|e| damaged(file, e))?;
        let parsed = parse(&certificate).map_err(|error| damaged(file, error))?;
        if !parsed.is_ca() {
            return Err(damaged(file, "it is not the certificate of an authority"));
        }
        if parsed.public_key().raw != key.subject_public_key_info().as_slice() {
            return Err(damaged(file, "it does not belong to the key beside it"));
        }
        let not_after = Time::from_unix(parsed.validity().not_after.timestamp());
        if not_after <= now {
            return Err(TlsError::Expired { file: file.into(), remedy: REMEDY });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| damaged(file, error))?;
        Ok(Self { certificate, certificate_pem, not_after, issuer })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    pub fn not_after(&self) -> Time {
        self.not_after
    }

    /// SHA-256 of the certificate, as browsers show it: `3F:9A:…`, 32 pairs.
    pub fn fingerprint(&self) -> String {
        super::named::fingerprint(&self.certificate)
    }

    /// Signs a certificate for `key` with a random serial number, valid from an hour ago for `lifetime`, but not
    /// longer than the authority itself. Returns it with its end.
    pub(super) fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        now: Time,
        lifetime: Duration,
    ) -> Result<(Certificate, Time), TlsError> {
        let not_after = now.plus(lifetime).min(self.not_after);
        set_validity(&mut params, now, not_after);
        params.serial_number.get_or_insert_with(new_serial);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        Ok((params.signed_by(key, &self.issuer)?, not_after))
    }

    /// Whether this authority has signed `certificate`.
    pub(super) fn has_signed(&self, certificate: &X509Certificate<'_>) -> bool {
        parse(&self.certificate).is_ok_and(|own| certificate.verify_signature(Some(own.public_key())).is_ok())
    }
}

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, &'static str> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err("it is not an X.509 certificate"),
    }
}

pub(super) fn new_key() -> Result<KeyPair, TlsError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// 127 random bits; the highest set, so that all serial numbers have the same length.
pub(super) fn new_serial() -> SerialNumber {
    let mut serial = [0; 16];
    fill_random(&mut serial);
    serial[0] = serial[0] & 0x7F | 0x40;
    SerialNumber::from_slice(&serial)
}

fn self_signed(title: &str, key: &KeyPair, now: Time) -> Result<Certificate, TlsError> {
    let mut params = CertificateParams::default();
    // Derived from the key, so that the same key always has the same subject; and different on every appliance, so
    // that a person who trusts two of them can tell them apart.
    let id: String = digest(&SHA256, key.der_bytes()).as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{title} {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(new_serial());
    set_validity(&mut params, now, now.plus(LIFETIME));
    Ok(params.self_signed(key)?)
}

fn set_validity(params: &mut CertificateParams, now: Time, not_after: Time) {
    /// The end of the year 9998, well within what the arithmetic below can hold.
    const LATEST: u64 = 253_370_764_799;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Time| epoch + Duration::from_secs(u64::try_from(time.unix()).unwrap_or(0).min(LATEST));
    params.not_before = at(now.minus(BACKDATE));
    params.not_after = at(not_after);
}

fn check_clock(now: Time) -> Result<(), TlsError> {
    if now < EARLIEST { Err(TlsError::Clock(now)) } else { Ok(()) }
}

fn damaged(file: &Path, reason: impl ToString) -> TlsError {
    TlsError::Damaged { file: file.into(), reason: reason.to_string(), remedy: REMEDY }
}
