//! The line between the devices and the appliance: bounded, sometimes bad, and patient.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::dice::Dice;
use super::tally::{Tally, add};

/// Longest pause before a request is tried again over a line that is down.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub struct Line {
    client: reqwest::Client,
    base: String,
    slots: Semaphore,
    bad: u8,
    tally: Arc<Tally>,
}

pub struct Answer {
    pub status: StatusCode,
    /// `null` where the answer was not JSON.
    pub body: Value,
}

impl Line {
    pub fn new(
        url: &str,
        ca: &Path,
        connections: u16,
        bad: u8,
        wait: u64,
        tally: Arc<Tally>,
    ) -> Result<Self, Box<dyn Error>> {
        let authority = CertificateDer::from_pem_file(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority)?;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // HTTP/1.1: a dropped request is a dropped connection, and each slot is at most one connection.
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .pool_max_idle_per_host(connections.into())
            .pool_idle_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(30 + wait))
            .build()?;
        let base = format!("{}/api/v1", url.trim_end_matches('/'));
        Ok(Self { client, base, slots: Semaphore::new(connections.into()), bad, tally })
    }

    /// Fails at once where there is no appliance, or one that is not to be trusted.
    pub async fn reach(&self) -> Result<(), Box<dyn Error>> {
        let answer = self.client.get(format!("{}/health", self.base)).send().await;
        answer.map_err(|error| format!("{}: {}", self.base, causes(&error)))?.error_for_status()?;
        Ok(())
    }

    /// Asks until there is an answer other than "later" (429, 503). Under one `Idempotency-Key`, so that
    /// what was done already is not done twice. Now and then the first answer is lost on the way.
    pub async fn post(&self, dice: &mut Dice, path: &str, token: &str, body: &Value) -> Answer {
        let bad = dice.percent(self.bad);
        self.ask(dice, path, Some(token), body, bad).await
    }

    /// As [`Line::post`], over a good line.
    pub async fn post_well(&self, dice: &mut Dice, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.ask(dice, path, token, body, false).await
    }

    async fn ask(&self, dice: &mut Dice, path: &str, token: Option<&str>, body: &Value, mut bad: bool) -> Answer {
        let key = Uuid::now_v7().to_string();
        let mut pause = Duration::from_secs(1);
        loop {
            let slot = self.slots.acquire().await.expect("this semaphore is never closed");
            let request = self.client.post(format!("{}{path}", self.base)).header("idempotency-key", &key).json(body);
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            if std::mem::take(&mut bad) {
                add(&self.tally.dropped);
                // Sometimes before the request has arrived, sometimes after: the device cannot know.
                let _ = tokio::time::timeout(dice.within(Duration::from_millis(50)), request.send()).await;
                continue;
            }
            let answered = answer(request).await;
            drop(slot);
            let later = match answered {
                Ok((StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(later), _)) => {
                    add(&self.tally.waited);
                    later
                }
                Ok((StatusCode::SERVICE_UNAVAILABLE, ..)) => {
                    self.tally.error("503");
                    pause
                }
                Ok((status, _, body)) => return Answer { status, body },
                Err(error) => {
                    self.tally.error(if error.is_timeout() { "time-out" } else { "connection" });
                    pause
                }
            };
            tokio::time::sleep(later + dice.within(Duration::from_secs(1))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Status, `Retry-After` and body.
async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<(StatusCode, Option<Duration>, Value)> {
    let response = request.send().await?;
    let status = response.status();
    let later = response.headers().get(RETRY_AFTER).and_then(|later| later.to_str().ok()?.parse().ok());
    let body = response.bytes().await?;
    Ok((status, later.map(Duration::from_secs), serde_json::from_slice(&body).unwrap_or_default()))
}

fn causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
