use rcgen::{
    BasicConstraints, CustomExtension, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use x509_parser::extensions::GeneralName;

use super::*;

const NOW: Time = Time::from_unix(1_790_000_000);
const LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const DEVICE: &str = "01920000-0000-7000-8000-000000000001";
const ORGANIZATION: &str = "01920000-0000-7000-8000-000000000002";

/// Seals nothing: what these tests are about is issued.
fn open_seal() -> Sealing {
    Sealing { seal: Box::new(|text| Ok(text.to_vec())), open: Box::new(|sealed| Ok(sealed.to_vec())) }
}

fn issue(csr_pem: &str) -> Result<Issued, CsrError> {
    let directory = TempDir::new().unwrap();
    let ca = DeviceCa::open(directory.path(), &open_seal(), LIFE, NOW).unwrap();
    ca.issue(csr_pem, DeviceId::parse(DEVICE).unwrap(), OrganizationId::parse(ORGANIZATION).unwrap(), NOW)
}

fn csr(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::new(vec!["admin.example.com".to_owned()]).unwrap();
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

#[test]
fn a_device_gets_a_certificate_that_names_it_and_nothing_that_it_asked_to_be() {
    let key = p256();
    let issued = issue(&csr(&key, |params| {
        params.distinguished_name.push(DnType::CommonName, "root");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Of a kind that nobody here knows.
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 311, 20, 2], vec![5, 0]));
    }))
    .unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    let shown = ClientCertificate::read(&certificate).unwrap();
    assert_eq!((shown.fingerprint, shown.not_after), (issued.fingerprint, issued.not_after));
    assert_eq!((shown.device.to_string(), shown.organization.to_string()), (DEVICE.into(), ORGANIZATION.into()));
    let certificate = authority::parse(&certificate).unwrap();
    assert_eq!(certificate.subject().to_string(), format!("O={ORGANIZATION}, CN={DEVICE}"));
    let names = certificate.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(names.general_names, [GeneralName::URI(&format!("urn:uuid:{DEVICE}"))]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    assert!(!certificate.is_ca());
    assert_eq!(certificate.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(issued.serial, certificate.raw_serial().iter().map(|b| format!("{b:02x}")).collect::<String>());
    assert_eq!(issued.not_after, NOW.plus(LIFE));
    assert_eq!(certificate.validity().not_after.timestamp(), issued.not_after.unix());

    let root = CertificateDer::from_pem_slice(issued.ca_pem.as_bytes()).unwrap();
    certificate.verify_signature(Some(authority::parse(&root).unwrap().public_key())).unwrap();
}

#[test]
fn the_keys_that_devices_have_are_accepted() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        issue(&csr(&key, |_| ())).unwrap();
    }
    issue(include_str!("rsa-2048.csr")).unwrap();
}

#[test]
fn a_weak_key_is_refused() {
    assert!(matches!(issue(include_str!("rsa-1024.csr")), Err(CsrError::UnsupportedKey)));
    assert!(matches!(issue(include_str!("secp256k1.csr")), Err(CsrError::UnsupportedKey)));
}

#[test]
fn a_device_cannot_become_an_authority() {
    let asks = csr(&p256(), |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(matches!(issue(&asks), Err(CsrError::AsksForAuthority)));
    let asks = csr(&p256(), |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert!(matches!(issue(&asks), Err(CsrError::AsksForAuthority)));
}

#[test]
fn a_key_that_the_requester_does_not_have_is_refused() {
    let csr = csr(&p256(), |_| ());
    let (_, mut pem) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).unwrap();
    let position = memchr::memmem::find(&pem.contents, b"admin.example.com").unwrap();
    pem.contents[position] = b'A';
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pem.contents);
    let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{encoded}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(matches!(issue(&forged), Err(CsrError::BadSignature)));
}

#[test]
fn what_is_no_request_is_refused_without_a_panic() {
    let good = csr(&p256(), |_| ());
    let key = p256().serialize_pem();
    for text in ["", "hello", &key, &good[..good.len() / 2], &good.replace(" REQUEST", "")] {
        assert!(matches!(issue(text), Err(CsrError::Malformed)), "{text}");
    }
    assert!(matches!(issue(&"x".repeat(LARGEST_CSR + 1)), Err(CsrError::TooLarge)));
}
