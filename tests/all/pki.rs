//! An authority of the tests' own, and a look at what a server shows.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub const NAME: &str = "zero.example.test";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority, and the one above it.
pub struct Pki {
    pub root_pem: String,
    pub intermediate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pki {
    pub fn new() -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = authority("A company's root");
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let intermediate = authority("A company's servers");
        let intermediate_pem = intermediate.signed_by(&key, &root).unwrap().pem();
        Self { root_pem, intermediate_pem, issuer: Issuer::new(intermediate, key) }
    }

    /// A server's certificate that is good from `from` days before now to `until` days after it.
    pub fn issue(&self, names: &[&str], from: i32, until: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        let at = |days: i32| match days {
            0.. => SystemTime::now() + DAY * days.unsigned_abs(),
            _ => SystemTime::now() - DAY * days.unsigned_abs(),
        };
        (params.not_before, params.not_after) = (at(-from).into(), at(until).into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// As it should be: in order, and up to the root.
    pub fn chain(&self, pair: &Pair) -> String {
        format!("{}{}{}", pair.certificate, self.intermediate_pem, self.root_pem)
    }
}

pub fn roots(pem: &str) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

/// TLS that trusts `pem` and nothing else, and shows `identity` to a server that asks for one.
pub fn trusting(pem: &str, identity: Option<(&str, &str)>) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(pem));
    match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    }
}

/// A connection on which `name` was asked for and proven, by what `pem` trusts.
pub struct Connection(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Connection {
    pub fn open(port: u16, name: &str, pem: &str) -> Result<Self, String> {
        Self::with(&Arc::new(trusting(pem, None)), port, name)
    }

    pub fn with(tls: &Arc<rustls::ClientConfig>, port: u16, name: &str) -> Result<Self, String> {
        let name = name.to_owned().try_into().unwrap();
        let client = rustls::ClientConnection::new(tls.clone(), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = rustls::StreamOwned::new(client, socket);
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => Ok(Self(stream)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the server has shown.
    pub fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().unwrap()[0].to_vec()
    }

    pub fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The head of the answer to a GET, on the connection that stays open.
    pub fn get(&mut self, host: &str, path: &str) -> String {
        self.try_get(host, path).unwrap()
    }

    pub fn try_get(&mut self, host: &str, path: &str) -> Result<String, String> {
        let failed = |error: std::io::Error| error.to_string();
        write!(self.0, "GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").map_err(failed)?;
        let mut read = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let length = self.0.read(&mut piece).map_err(failed)?;
            read.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&read);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length: usize = header(head, "content-length").unwrap().parse().unwrap();
                if body.len() >= length {
                    return Ok(head.to_lowercase());
                }
            }
            assert!(length > 0, "the connection ended: {text}");
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

pub fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// A key as its owner keeps it.
pub fn write_key(path: &Path, pem: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(pem.as_bytes()).unwrap();
}
