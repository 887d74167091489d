//! The second factor, as the person with the phone meets it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use zero::clock::{Clock, SystemClock, Time};
use zero::store::audit::AuditEvent;
use zero::store::engine::Direction;
use zero::store::organizations;
use zero::store::tables::{KeyRange, ORGANIZATIONS};
use zero::store::write::{Audited, Tx};

use crate::server::{PASSWORD, Reply, Server};

/// An authenticator app.
pub struct Phone(totp_rs::Totp);

impl Phone {
    fn scan(secret: &str) -> Self {
        let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
        Self(totp_rs::Builder::new().with_secret(secret).build().unwrap())
    }

    /// The code that shows now, or `steps` of 30 seconds later; the appliance takes one of the next step too.
    fn code(&self, steps: u64) -> String {
        self.0.generate(now().unix().unsigned_abs() + 30 * steps).to_string()
    }
}

fn now() -> Time {
    SystemClock::new().now()
}

/// Puts the factor on: the phone, the code that has been spent on it, and the recovery codes.
pub async fn enroll(server: &Server, token: &str) -> (Phone, String, Vec<String>) {
    let new = server.post("/auth/mfa/totp", token, json!({"password": PASSWORD})).await.expect(200);
    assert!(new["qr_svg"].as_str().unwrap().contains("<svg"));
    let secret = new["secret"].as_str().unwrap();
    assert!(new["otpauth_uri"].as_str().unwrap().starts_with("otpauth://totp/Zero:admin%40acme%2Eexample?secret="));
    let phone = Phone::scan(secret);
    let code = phone.code(0);
    let confirmed = server.post("/auth/mfa/totp/confirm", token, json!({"code": code})).await.expect(200);
    let codes: Vec<String> = serde_json::from_value(confirmed["recovery_codes"].clone()).unwrap();
    (phone, code, codes)
}

/// Gives the password: the token for the second step.
async fn first_step(server: &Server) -> String {
    let answer = server.log_in().await;
    assert_eq!((&answer["mfa_required"], &answer["token"]), (&json!(true), &Value::Null));
    assert_eq!(answer["mfa_methods"], json!(["totp", "recovery"]));
    answer["mfa_token"].as_str().unwrap().into()
}

async fn verify(server: &Server, mfa_token: &str, method: &str, code: &str) -> Reply {
    let body = json!({"mfa_token": mfa_token, "method": method, "code": code});
    server.send(server.request(Method::POST, "/auth/mfa/verify").json(&body)).await
}

#[tokio::test]
async fn signing_in_takes_a_code_that_is_good_once_or_a_recovery_code_that_is_too() {
    let server = Server::start().await;
    let token = server.token().await;
    let wrong = server.post("/auth/mfa/totp", &token, json!({"password": "not it"})).await.expect(400);
    assert_eq!(wrong["errors"][0]["field"], "password");
    server.post("/auth/mfa/totp/confirm", &token, json!({"code": "123456"})).await.expect(409);
    server.post("/auth/mfa/totp", &token, json!({"password": PASSWORD})).await.expect(200);
    server.post("/auth/mfa/totp/confirm", &token, json!({"code": "12345"})).await.expect(400);
    assert!(server.log_in().await["token"].is_string(), "a secret that nobody has confirmed locks nobody out");

    let (phone, spent, codes) = enroll(&server, &token).await;
    assert_eq!((codes.len(), codes[0].len()), (10, 19));
    assert_eq!(server.get("/auth/me", &token).await.expect(200)["mfa_enabled"], true);

    let mfa_token = first_step(&server).await;
    verify(&server, &mfa_token, "totp", &spent).await.expect(401);
    server.get("/auth/me", &mfa_token).await.expect(401);
    let code = phone.code(1);
    let signed_in = verify(&server, &mfa_token, "totp", &code).await.expect(200);
    server.get("/auth/me", signed_in["token"].as_str().unwrap()).await.expect(200);
    verify(&server, &mfa_token, "recovery", &codes[0]).await.expect(401);

    let mfa_token = first_step(&server).await;
    let typed = codes[0].to_lowercase().replace('-', " ");
    // An answer that was lost on the way is given again, although the code is spent.
    let twice = || {
        let request = server.request(Method::POST, "/auth/mfa/verify").header("Idempotency-Key", "one");
        server.send(request.json(&json!({"mfa_token": mfa_token, "method": "recovery", "code": typed})))
    };
    let (first, again) = (twice().await, twice().await);
    assert_eq!((first.status.as_u16(), &first.text), (200, &again.text));
    let server = server.crash_and_restart().await;
    verify(&server, &mfa_token, "recovery", &codes[1]).await.expect(401);
    let mfa_token = first_step(&server).await;
    verify(&server, &mfa_token, "totp", &code).await.expect(401);
    verify(&server, &mfa_token, "recovery", &codes[0]).await.expect(401);
    verify(&server, &mfa_token, "recovery", &codes[1]).await.expect(200);

    // What was confidential is in no log and not readable in the file.
    let log = server.get("/audit-logs?action=auth.mfa.&page_size=100", &token).await.expect(200);
    let results: Vec<_> = log["data"].as_array().unwrap().iter().map(|entry| entry["result"].clone()).collect();
    assert_eq!(results.iter().filter(|result| **result == "failure").count(), 3);
    let log = server.get("/audit-logs?page_size=100", &token).await.text;
    let file = std::fs::read(server.folder.path().join("data/zero.redb")).unwrap();
    let secret = phone.0.secret();
    for text in [&codes[0], &codes[2], &secret.to_base32()] {
        assert!(!log.contains(text.as_str()) && !file.windows(text.len()).any(|part| part == text.as_bytes()));
    }
    assert!(!file.windows(20).any(|part| part == secret.as_bytes()));

    let remove = |password: &str| {
        let request = server.request(Method::DELETE, "/auth/mfa/totp").bearer_auth(&token);
        server.send(request.json(&json!({"password": password})))
    };
    remove("not it").await.expect(400);
    remove(PASSWORD).await.expect(204);
    remove(PASSWORD).await.expect(404);
    assert!(server.log_in().await["token"].is_string());
}

#[tokio::test]
async fn five_wrong_codes_end_the_attempt_and_lock_the_account() {
    let server = Server::start().await;
    let token = server.token().await;
    let (phone, _, codes) = enroll(&server, &token).await;
    let (mfa_token, other) = (first_step(&server).await, first_step(&server).await);
    // All at once: however they race, only five are looked at.
    let guesses = (0..8).map(|_| verify(&server, &mfa_token, "recovery", "AAAA-AAAA-AAAA-AAAA"));
    let guesses = futures_util::future::join_all(guesses).await;
    let looked_at = guesses.iter().filter(|guess| guess.text.contains("the code is wrong")).count();
    assert_eq!((looked_at, guesses.iter().all(|guess| guess.status == 401)), (5, true));
    let dead = verify(&server, &mfa_token, "totp", &phone.code(1)).await.expect(401);
    assert!(dead["message"].as_str().unwrap().contains("sign in again"), "{dead}");
    verify(&server, &other, "recovery", &codes[0]).await.expect(429);
    let body = json!({"email": crate::server::EMAIL, "password": PASSWORD});
    server.send(server.request(Method::POST, "/auth/login").json(&body)).await.expect(429);
    server.get("/auth/me", &token).await.expect(200);
}

#[tokio::test]
async fn a_required_factor_stops_everything_but_setting_it_up_and_locks_nobody_out() {
    fn require(tx: &mut Tx) -> Result<Audited<()>, zero::error::Error> {
        let (_, found) = ORGANIZATIONS.page(tx, KeyRange::all(), Direction::Ascending, 0, 1)?;
        let mut organization = found.into_iter().next().unwrap();
        let event = AuditEvent::new("organization.update").of(organization.id);
        organization.settings.require_mfa = true;
        organization.require_mfa_since = None;
        organizations::put(tx, organization)?;
        Ok(Audited::new((), event))
    }
    let server = Server::start().await;
    let token = server.token().await;
    let (id, device) = server.enroll(&token, "laptop").await;
    let made = server.post("/api-keys", &token, json!({"name": "ci", "role": "auditor"})).await.expect(201);
    let key = made["key"].as_str().unwrap();

    let day = Duration::from_secs(86_400);
    let server = server.restart_with(now(), require).await;
    let due = |answer: &Value| Time::parse(answer["mfa_setup_required_by"].as_str().unwrap()).unwrap();
    assert!(due(&server.log_in().await) > now().plus(6 * day));
    server.get("/devices", &token).await.expect(200);

    let server = server.restart_with(now().minus(8 * day), require).await;
    let answer = server.log_in().await;
    assert!(due(&answer) < now());
    let late = answer["token"].as_str().unwrap();
    for (path, by) in [("/devices", late), ("/auth/sessions", late), ("/devices", &token), ("/devices", key)] {
        let refused = server.get(path, by).await.expect(403);
        assert!(refused["details"].as_str().unwrap().contains("second factor"), "{refused}");
    }
    server.post(&format!("/devices/{id}/checkin"), &device, json!({})).await.expect(200);
    server.get("/auth/me", late).await.expect(200);
    enroll(&server, late).await;
    for by in [late, &token, key] {
        server.get("/devices", by).await.expect(200);
    }
}
