//! A certificate from an ACME server (RFC 8555), asked for, kept and renewed.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, Error as AcmeError, HttpClient, Identifier, Key,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::files::{self, Readable, Sharing};
use super::named::{Chain, Named};
use super::names::Names;
use super::{ServerTls, Slot, TlsError, authority};
use crate::clock::Time;
use crate::ids::fill_random;
use crate::net::outbound::Client;

mod proof;
#[cfg(test)]
mod tests;

pub use proof::Challenge;

/// From the first question to the certificate, at most.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// For one answer of the server.
const ANSWER: Duration = Duration::from_secs(30);
/// For the server to look at the proofs, and again for it to issue.
const POLLING: Duration = Duration::from_secs(120);
/// After a failure, and three times as long after each further one: public servers take five failures an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

const REMEDY: &str = "remove it, and another is made";

/// Asks for the certificate and keeps it in files.
pub struct Acme {
    /// The account's key is kept: the server knows the appliance by it.
    account_file: PathBuf,
    /// Key and chain in one file, so that they always fit each other.
    certificate_file: PathBuf,
    server: String,
    wanted: Names,
    challenge: Challenge,
    client: Arc<Client>,
    attempts: Mutex<Attempts>,
}

/// Failures since the last success.
#[derive(Default)]
struct Attempts {
    failures: u32,
    not_before: Option<Time>,
}

/// Key and certificate, below the folder that [`Acme::open`] is given.
pub const CERTIFICATE: &str = "acme/certificate.pem";

impl Acme {
    /// `server`: the URL of its directory. `wanted`: the certificate is for the DNS names among them. Shows the last
    /// certificate, if there is one that is still good.
    pub fn open(
        parent: &Path,
        server: String,
        wanted: Names,
        challenge: Challenge,
        client: Client,
        slot: &Slot,
        now: Time,
    ) -> Result<Self, TlsError> {
        let directory = parent.join("acme");
        files::make_directory(&directory)?;
        let acme = Self {
            account_file: directory.join("account.key"),
            certificate_file: parent.join(CERTIFICATE),
            server,
            wanted,
            challenge,
            client: Arc::new(client),
            attempts: Mutex::default(),
        };
        if let Some(pem) = files::read_key(&acme.certificate_file, Sharing::None)? {
            match Named::check(&pem, &pem, Chain::AsIssued, now) {
                Ok(named) => slot.show(named),
                Err(reason) => tracing::warn!(%reason, "the certificate of the last run cannot be shown any more"),
            }
        }
        Ok(acme)
    }

    /// When to ask for a certificate; a time that has passed means now.
    pub fn due(&self, slot: &Slot) -> Option<Time> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let renewal = slot.named().filter(|named| named.covers(&self.wanted).is_ok()).map(|named| renewal(&named));
        renewal.max(attempts.not_before)
    }

    /// Tries at the next opportunity, whatever has failed before.
    pub fn forget_failures(&self) {
        *self.attempts.lock().unwrap_or_else(PoisonError::into_inner) = Attempts::default();
    }

    /// Asks for a certificate, with proofs that `tls` gives, and puts it into `slot`. After an error, what was there stays.
    ///
    /// # Errors
    /// What the server says, or what stands in its way, in words for whoever runs the appliance.
    pub async fn obtain(&self, tls: &ServerTls, slot: &Slot, now: Time) -> Result<(), String> {
        let obtained = tokio::time::timeout(PATIENCE, self.attempt(tls, slot, now)).await;
        let outcome = obtained.unwrap_or_else(|_| Err(format!("no certificate within {} seconds", PATIENCE.as_secs())));
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        *attempts = match &outcome {
            Ok(()) => Attempts::default(),
            Err(_) => {
                let failures = attempts.failures + 1;
                Attempts { failures, not_before: Some(now.plus(pause(failures, random()))) }
            }
        };
        outcome
    }

    async fn attempt(&self, tls: &ServerTls, slot: &Slot, now: Time) -> Result<(), String> {
        let started = Instant::now();
        let identifiers: Vec<_> = self.wanted.dns().map(|name| Identifier::Dns(name.into())).collect();
        let account = self.account().await?;
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await.map_err(in_words)?;
        let polling = RetryPolicy::default().timeout(POLLING);
        // Answers until the order is ready.
        let proof = proof::Proof::open(self.challenge, tls).await?;
        self.prove(&mut order, &proof).await?;
        match order.poll_ready(&polling).await.map_err(in_words)? {
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => {}
            OrderStatus::Pending | OrderStatus::Invalid => return Err(refusal(&mut order).await),
        }
        drop(proof);

        let key = authority::new_key().map_err(|error| error.to_string())?;
        let csr = self.request(&key).map_err(|error| error.to_string())?;
        order.finalize_csr(&csr).await.map_err(in_words)?;
        let chain = order.poll_certificate(&polling).await.map_err(in_words)?;
        let pem = format!("{}{chain}", key.serialize_pem());
        // It may have begun this second.
        let now = now.plus(started.elapsed() + Duration::from_secs(1));
        let wrong = |reason| format!("{} has issued a certificate that is of no use: {reason}", self.server);
        let named = Named::check(&pem, &pem, Chain::AsIssued, now).map_err(wrong)?;
        named.covers(&self.wanted).map_err(wrong)?;
        files::write(&self.certificate_file, &pem, Readable::ByOwner).map_err(|error| error.to_string())?;
        slot.show(named);
        Ok(())
    }

    /// The account of our key, made where the server does not know it (yet, or any more).
    async fn account(&self) -> Result<Account, String> {
        let key = self.account_key().map_err(|error| error.to_string())?;
        let der = key.serialize_der();
        let key = Key::from_pkcs8_der(PrivatePkcs8KeyDer::from(der.as_slice())).map_err(in_words)?;
        let builder = Account::builder_with_http(Box::new(Http(self.client.clone())));
        let pair = (key, PrivatePkcs8KeyDer::from(der).into());
        let (account, _) = builder.create_from_key(pair, self.server.clone()).await.map_err(in_words)?;
        Ok(account)
    }

    fn account_key(&self) -> Result<KeyPair, TlsError> {
        let file = &self.account_file;
        if let Some(pem) = files::read_key(file, Sharing::None)? {
            let damaged = |error: rcgen::Error| TlsError::Damaged {
                file: file.clone(),
                reason: error.to_string(),
                remedy: REMEDY,
            };
            return KeyPair::from_pem(&pem).map_err(damaged);
        }
        let key = authority::new_key()?;
        files::write(file, &key.serialize_pem(), Readable::ByOwner)?;
        Ok(key)
    }

    async fn prove(&self, order: &mut Order, proof: &proof::Proof<'_>) -> Result<(), String> {
        let kind = proof.challenge();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(in_words)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Identifier::Dns(name) = authorization.identifier().identifier.clone() else {
                return Err(format!("{} asks for proof of something that was not ordered", self.server));
            };
            let challenge = authorization.challenge(kind.clone());
            let mut challenge = challenge.ok_or_else(|| {
                format!("{} does not offer the way in which {name} is to be proven (tls.acme_challenge)", self.server)
            })?;
            let key = challenge.key_authorization();
            proof.answer(&name, &challenge.token, &key).map_err(|error| error.to_string())?;
            challenge.set_ready().await.map_err(in_words)?;
        }
        Ok(())
    }

    fn request(&self, key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
        let names: Vec<String> = self.wanted.dns().map(Into::into).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(key)?.der().to_vec())
    }
}

/// At two thirds of its life, and a little later, by up to a 24th: a hundred appliances that were installed on one day
/// need not come back on one day. The same after a restart.
fn renewal(named: &Named) -> Time {
    let facts = named.facts();
    let life = facts.not_after.since(facts.not_before);
    let share = u32::from_str_radix(facts.fingerprint.get(..2).unwrap_or_default(), 16).unwrap_or(0);
    facts.not_before.plus(life * 2 / 3 + life / 24 / 256 * share)
}

/// How long to wait after so many failures; `random` moves it by up to a fifth, either way.
fn pause(failures: u32, random: u8) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(3_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_PAUSE);
    pause * (8 * 255 + 4 * u32::from(random)) / (10 * 255)
}

fn random() -> u8 {
    let mut byte = [0];
    fill_random(&mut byte);
    byte[0]
}

/// Which name was not proven, and why.
async fn refusal(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let Ok(state) = authorization.refresh().await else { continue };
        let found = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        let name = state.identifier();
        reasons.extend(found.map(|error| format!("{name}: {error}")));
    }
    match reasons.is_empty() {
        true => "the server refuses the order and does not say why".into(),
        false => format!("the server does not accept the proof: {}", reasons.join("; ")),
    }
}

fn in_words(error: AcmeError) -> String {
    match error {
        AcmeError::Api(problem) => format!("the server refuses: {problem}"),
        AcmeError::Timeout(_) => format!("the server has not decided within {} seconds", POLLING.as_secs()),
        AcmeError::Json(error) => format!("what answers there is no ACME server: {error}"),
        other => other.to_string(),
    }
}

/// The appliance's own HTTP client, as the ACME library asks for one.
struct Http(Arc<Client>);

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, AcmeError>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let answer = client.request(Request::from_parts(head, body), ANSWER).await;
            let answer = answer.map_err(|cause| AcmeError::Other(cause.into()))?;
            Ok(answer.map(Full::new).into())
        })
    }
}
