//! Proof that a name leads here, for as long as an ACME server asks for it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::super::{ServerTls, TlsError, authority, provider};

/// Requests for proof at a time: a server asks from a few places at once.
const MOST_REQUESTS: usize = 32;
/// From accepting a request to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(10);
const HEAD: usize = 8 * 1024;

/// The way in which names are proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// By a certificate of its own on the appliance's own port (RFC 8737), which must be 443 from outside.
    TlsAlpn,
    /// Over plain HTTP on this address (RFC 8555, section 8.3), which must be port 80 from outside.
    Http(SocketAddr),
}

/// Answers while it lives.
pub(super) enum Proof<'a> {
    TlsAlpn(&'a ServerTls),
    Http(HttpProof),
}

impl<'a> Proof<'a> {
    pub async fn open(method: Challenge, tls: &'a ServerTls) -> Result<Self, String> {
        match method {
            Challenge::TlsAlpn => Ok(Self::TlsAlpn(tls)),
            Challenge::Http(address) => {
                let opened = HttpProof::open(address).await.map(Self::Http);
                opened.map_err(|error| format!("cannot listen on {address} (tls.acme_http_listen): {error}"))
            }
        }
    }

    pub fn challenge(&self) -> ChallengeType {
        match self {
            Self::TlsAlpn(_) => ChallengeType::TlsAlpn01,
            Self::Http(_) => ChallengeType::Http01,
        }
    }

    pub fn answer(&self, name: &str, token: &str, key: &KeyAuthorization) -> Result<(), TlsError> {
        match self {
            Self::TlsAlpn(tls) => tls.answer_challenge(name, certificate(name, key)?),
            Self::Http(proof) => _ = proof.answers().insert(token.into(), key.as_str().into()),
        }
        Ok(())
    }
}

impl Drop for Proof<'_> {
    fn drop(&mut self) {
        if let Self::TlsAlpn(tls) = self {
            tls.end_challenges();
        }
    }
}

fn certificate(name: &str, key: &KeyAuthorization) -> Result<CertifiedKey, TlsError> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(key.digest().as_ref())];
    let own = authority::new_key()?;
    let certificate = params.self_signed(&own)?;
    let own = PrivateKeyDer::Pkcs8(own.serialize_der().into());
    let own = provider().key_provider.load_private_key(own).map_err(|error| TlsError::Crypto(error.to_string()))?;
    // Not checked against each other: the certificate's extension is one that only ACME servers understand.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], own))
}

type Answers = Arc<Mutex<HashMap<String, String>>>;

/// A listener that gives out the proofs and nothing else.
pub(super) struct HttpProof {
    answers: Answers,
    _serving: JoinSet<()>,
}

impl HttpProof {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let answers = Answers::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, answers.clone()));
        Ok(Self { answers, _serving: serving })
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, answers: Answers) {
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = requests.join_next(), if !requests.is_empty() => {}
            accepted = listener.accept(), if requests.len() < MOST_REQUESTS => match accepted {
                Ok((socket, _)) => _ = requests.spawn(tokio::time::timeout(PATIENCE, exchange(socket, answers.clone()))),
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a request for proof");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn exchange(socket: TcpStream, answers: Answers) {
    let answer = service_fn(|request: Request<hyper::body::Incoming>| {
        let response = respond(request.method(), request.uri().path(), &answers);
        async { Ok::<_, Infallible>(response) }
    });
    let served =
        http1::Builder::new().keep_alive(false).max_buf_size(HEAD).serve_connection(TokioIo::new(socket), answer);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a request for proof");
    }
}

fn respond(method: &Method, path: &str, answers: &Answers) -> Response<Full<Bytes>> {
    let token = path.strip_prefix("/.well-known/acme-challenge/");
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    let found = token.filter(|_| method == Method::GET).and_then(|token| answers.get(token));
    let mut response = Response::new(Full::from(found.cloned().unwrap_or_default()));
    if found.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}
