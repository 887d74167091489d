//! Client certificates for devices, from an authority of their own: whoever trusts it trusts devices, not servers.

use std::io;
use std::path::Path;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType,
    SubjectPublicKeyInfo,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::TlsError;
use super::authority::{self, Authority};
use super::sealing::Sealing;
use crate::clock::Time;
use crate::ids::{DeviceId, OrganizationId};

/// Larger than any request with an 8192-bit RSA key.
const LARGEST_CSR: usize = 16 * 1024;

/// Issues the certificates with which devices prove who they are.
pub struct DeviceCa {
    authority: Authority,
    life: Duration,
}

/// What a client has shown: a certificate of the devices' authority, and the proof that it has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub device: DeviceId,
    pub organization: OrganizationId,
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    pub not_after: Time,
}

impl ClientCertificate {
    /// Reads a certificate whose chain has been verified.
    pub(in crate::net) fn read(certificate: &CertificateDer<'_>) -> io::Result<Self> {
        let foreign = || io::Error::other("a certificate of the devices' authority that names no device");
        let parsed = authority::parse(certificate).map_err(io::Error::other)?;
        let subject = parsed.subject();
        let device = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        let organization = subject.iter_organization().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            device: device.and_then(DeviceId::parse).ok_or_else(foreign)?,
            organization: organization.and_then(OrganizationId::parse).ok_or_else(foreign)?,
            fingerprint: sha256(certificate),
            not_after: Time::from_unix(parsed.validity().not_after.timestamp()),
        })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// A new device certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub certificate_pem: String,
    pub ca_pem: String,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    pub not_after: Time,
}

/// Why a certificate signing request was refused. The texts complete a sentence that starts with its field's name.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    #[error("must be at most 16 KiB")]
    TooLarge,
    #[error("must be one PEM block \"CERTIFICATE REQUEST\" with a PKCS #10 request")]
    Malformed,
    #[error("is not signed with the key that it holds")]
    BadSignature,
    #[error("must hold a P-256, P-384, Ed25519 or RSA (2048 to 8192 bits) key")]
    UnsupportedKey,
    #[error("asks for the certificate of an authority")]
    AsksForAuthority,
    #[error(transparent)]
    Failed(#[from] TlsError),
}

impl DeviceCa {
    /// Opens `device-ca.pem` and `device-ca.key`, which is sealed, in `directory`, or makes both. Its certificates are valid
    /// for `life`.
    pub fn open(directory: &Path, sealing: &Sealing, life: Duration, now: Time) -> Result<Self, TlsError> {
        Ok(Self { authority: Authority::open(directory, "device-ca", "Zero device CA", Some(sealing), now)?, life })
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Issues a certificate for client authentication for the key in `csr_pem` (RFC 2986).
    ///
    /// Only the key is taken from the request. Who the device is, the appliance knows better: subject `CN` is the
    /// device, `O` its organization, and the alternative name is `urn:uuid:<device>`.
    pub fn issue(
        &self,
        csr_pem: &str,
        device: DeviceId,
        organization: OrganizationId,
        now: Time,
    ) -> Result<Issued, CsrError> {
        let key = checked_key(csr_pem)?;
        let serial = authority::new_serial();
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial.clone());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization.to_string());
        params.distinguished_name.push(DnType::CommonName, device.to_string());
        let urn = Ia5String::try_from(format!("urn:uuid:{device}")).map_err(TlsError::from)?;
        params.subject_alt_names = vec![SanType::URI(urn)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, not_after) = self.authority.sign(params, &key, now, self.life)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            ca_pem: self.authority.certificate_pem().into(),
            fingerprint: sha256(certificate.der()),
            serial: serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after,
        })
    }
}

/// The key of a request that proves to have it, and that asks for nothing it must not have.
fn checked_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, CsrError> {
    if csr_pem.len() > LARGEST_CSR {
        return Err(CsrError::TooLarge);
    }
    let (_, pem) = x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).map_err(|_| CsrError::Malformed)?;
    let csr = parse(&pem)?;
    let info = &csr.certification_request_info;
    let spki = &info.subject_pki;
    if !is_supported(spki) {
        return Err(CsrError::UnsupportedKey);
    }
    csr.verify_signature().map_err(|_| CsrError::BadSignature)?;
    let asks_for_authority = info.iter_attributes().any(|attribute| match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(request) => {
            request.extensions.iter().any(|extension| match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => constraints.ca,
                ParsedExtension::KeyUsage(usage) => usage.key_cert_sign(),
                _ => false,
            })
        }
        _ => false,
    });
    if asks_for_authority {
        return Err(CsrError::AsksForAuthority);
    }
    SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CsrError::UnsupportedKey)
}

fn parse(pem: &Pem) -> Result<X509CertificationRequest<'_>, CsrError> {
    if !matches!(pem.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(CsrError::Malformed);
    }
    match X509CertificationRequest::from_der(&pem.contents) {
        Ok(([], csr)) => Ok(csr),
        _ => Err(CsrError::Malformed),
    }
}

fn is_supported(spki: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> bool {
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384)
    } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
        matches!(spki.parsed(), Ok(PublicKey::RSA(key)) if (2048..=8192).contains(&key.key_size()))
    } else {
        *algorithm == OID_SIG_ED25519
    }
}

#[cfg(test)]
mod tests;
