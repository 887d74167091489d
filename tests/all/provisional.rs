//! Settings that could lock everybody out: they hold at once, and stay only if somebody got in through them.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::leaked;
use crate::mfa;
use crate::pki::{Connection, NAME, Pki, der, write_key};
use crate::server::{EMAIL, PASSWORD, Server, init, zero};

const SETTINGS: &str = "/system/settings";
const FORWARDED: &str = "203.0.113.9";

/// A server that is set up, with this file of settings.
async fn server_with(file: &str, settings: &[(&'static str, &'static str)]) -> Server {
    let folder = TempDir::new().unwrap();
    assert!(init(&folder.path().join("data")).status.success());
    let path = folder.path().join("zero.toml");
    fs::write(&path, file).unwrap();
    let mut all = vec![("ZERO_CONFIG", leaked(path.to_str().unwrap()))];
    all.extend(settings);
    Server::on(folder, all).await
}

async fn settings(server: &Server, admin: &str) -> Value {
    server.get(SETTINGS, admin).await.expect(200)
}

/// Waits for the time to be over, of whatever is provisional there.
async fn gone_back(server: &Server, admin: &str, path: &str) -> Value {
    let started = Instant::now();
    loop {
        let now = server.get(path, admin).await.expect(200);
        if now["provisional"].is_null() {
            return now;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{now}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The status of an answer under that name.
fn status_as(server: &Server, host: &str) -> String {
    let answer = server.raw(&format!("GET /api/v1/health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Which address a sign-in through a proxy on this machine is said to come from.
async fn source_of_sign_in(server: &Server, admin: &str) -> String {
    let request = server.request(Method::POST, "/auth/login").header("x-forwarded-for", FORWARDED);
    server.send(request.json(&json!({"email": EMAIL, "password": PASSWORD}))).await.expect(200);
    let log = server.get("/audit-logs?action=auth.login.success&page_size=1", admin).await.expect(200);
    log["data"][0]["source_ip"].as_str().unwrap().into()
}

/// What the log says of the settings, the newest first.
async fn noted(server: &Server, admin: &str) -> Vec<(String, Value)> {
    let mut noted = Vec::new();
    for action in ["change", "confirm", "revert"] {
        let path = format!("/audit-logs?action=system.settings.{action}");
        let log = server.get(&path, admin).await.expect(200);
        noted.extend(log["data"].as_array().unwrap().iter().map(|entry| (action.to_owned(), entry["details"].clone())));
    }
    noted
}

#[tokio::test]
async fn a_name_that_keeps_everybody_out_is_gone_again_when_nobody_confirms_it() {
    let file = format!("[server]\nnames = [\"{NAME}\"]");
    let server = server_with(&file, &[("ZERO_SERVER_CONFIRM_SECONDS", "5")]).await;
    let admin = server.token().await;
    let changed = server.put(SETTINGS, &admin, json!({"names": ["other.example.test"]})).await.expect(200);
    assert_eq!(changed["names"], json!(["other.example.test"]));
    assert!(!changed["provisional"]["until"].is_null(), "{changed}");
    assert_eq!((status_as(&server, NAME), status_as(&server, "other.example.test")), ("421".into(), "200".into()));
    // One at a time.
    server.put(SETTINGS, &admin, json!({"names": []})).await.expect(409);

    assert_eq!(gone_back(&server, &admin, SETTINGS).await["names"], json!([NAME]));
    assert_eq!((status_as(&server, NAME), status_as(&server, "other.example.test")), ("200".into(), "421".into()));
    server.post(&format!("{SETTINGS}/confirm"), &admin, json!({})).await.expect(409);
    let there = |action: &str, key: &str, value: &str| (action.to_owned(), json!({ key: value }));
    let noted = noted(&server, &admin).await;
    let forth = format!("[\"{NAME}\"] → [\"other.example.test\"]");
    assert_eq!(noted[0], there("change", "names", &forth));
    assert_eq!((noted[1].0.as_str(), &noted[1].1["reason"]), ("revert", &"not confirmed in time".into()));
    assert_eq!(noted.len(), 2);
    // The next start knows nothing of it.
    let server = server.crash_and_restart().await;
    assert_eq!(settings(&server, &admin).await["names"], json!([NAME]));
}

#[tokio::test]
async fn what_was_confirmed_over_a_new_connection_stays_and_the_file_says_where_it_is_from() {
    let server = server_with("[server]\ntrusted_proxies = []", &[]).await;
    let admin = server.token().await;
    assert_eq!(source_of_sign_in(&server, &admin).await, "127.0.0.1");
    // Begins before the change, and ends after it.
    let mut old = server.connect();
    let head =
        format!("POST /api/v1{SETTINGS}/confirm HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {admin}\r\n");
    old.write_all(head.as_bytes()).unwrap();
    old.flush().unwrap();

    server.put(SETTINGS, &admin, json!({"trusted_proxies": ["127.0.0.1"]})).await.expect(200);
    assert_eq!(source_of_sign_in(&server, &admin).await, FORWARDED, "at once");
    old.write_all(b"\r\n").unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("over a new one"), "{answer}");
    let confirmed = server.post(&format!("{SETTINGS}/confirm"), &admin, json!({})).await.expect(200);
    assert_eq!((&confirmed["provisional"], &confirmed["trusted_proxies"]), (&Value::Null, &json!(["127.0.0.1/32"])));

    let server = server.crash_and_restart().await;
    assert_eq!(source_of_sign_in(&server, &admin).await, FORWARDED, "after a crash as well");
    assert_eq!(
        noted(&server, &admin).await.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(),
        ["change", "confirm"]
    );
    let (data, file) = (server.folder.path().join("data"), server.folder.path().join("zero.toml"));
    let check = |data: &PathBuf| {
        let arguments = ["check-config", "--data-dir", data.to_str().unwrap(), "--config", file.to_str().unwrap()];
        String::from_utf8(zero(&arguments).output().unwrap().stdout).unwrap()
    };
    let shown = check(&data);
    let line = shown.lines().find(|line| line.starts_with("trusted_proxies")).unwrap();
    assert!(line.contains("127.0.0.1/32") && line.contains("settings.toml:"), "{line}");
    // What is as in the file of settings is in there alone.
    server.put(SETTINGS, &admin, json!({"trusted_proxies": []})).await.expect(200);
    server.post(&format!("{SETTINGS}/confirm"), &admin, json!({})).await.expect(200);
    assert!(!fs::read_to_string(data.join("settings.toml")).unwrap().contains("trusted_proxies"));
}

#[tokio::test]
async fn a_crash_before_anybody_confirmed_leads_back_too() {
    let server = server_with("", &[]).await;
    let admin = server.token().await;
    server.put(SETTINGS, &admin, json!({"trusted_proxies": ["127.0.0.1"]})).await.expect(200);
    let server = server.crash_and_restart().await;
    let now = settings(&server, &admin).await;
    assert_eq!((&now["trusted_proxies"], &now["provisional"]), (&json!([]), &Value::Null));
    assert_eq!(source_of_sign_in(&server, &admin).await, "127.0.0.1");
    let noted = noted(&server, &admin).await;
    assert_eq!(noted[1], ("revert".into(), json!({"reason": "started again before it was confirmed"})));
}

#[tokio::test]
async fn what_does_not_hold_is_refused_and_changes_nothing() {
    let server = server_with("", &[("ZERO_SERVER_TRUSTED_PROXIES", "10.0.0.1")]).await;
    let admin = server.token().await;
    let before = settings(&server, &admin).await;
    assert_eq!(before["fixed"], json!({"trusted_proxies": "ZERO_SERVER_TRUSTED_PROXIES"}));
    for (change, field) in [
        (json!({"names": ["-bad"]}), "names"),
        (json!({"public_url": "https://elsewhere.example.test"}), "public_url"),
        (json!({"public_url": "http://localhost"}), "public_url"),
        (json!({"tls_mode": "files"}), "tls_mode"),
        (json!({"tls_mode": "acme"}), "tls_mode"),
        (json!({"tls_mode": "none"}), "tls_mode"),
        // Set where it wins.
        (json!({"trusted_proxies": ["10.0.0.2"]}), "trusted_proxies"),
        (json!({"listen": "0.0.0.0:1"}), "listen"),
    ] {
        let refused = server.put(SETTINGS, &admin, change.clone()).await.expect(400);
        assert!(refused.to_string().contains(field), "{change}: {refused}");
    }
    assert_eq!(settings(&server, &admin).await, before);
    // The same as before is no change, wherever it is set.
    let same = server.put(SETTINGS, &admin, json!({"trusted_proxies": ["10.0.0.1"]})).await.expect(200);
    assert_eq!(same, before);
    assert!(noted(&server, &admin).await.is_empty());
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_checked_first_and_taken_away_again_when_nobody_got_in_with_it() {
    let (pki, files) = (Pki::new(), TempDir::new().unwrap());
    let (chain, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
    let file = format!(
        "[server]\nnames = [\"{NAME}\"]\nconfirm_seconds = 5\n[tls]\ncert_file = {chain:?}\nkey_file = {key:?}"
    );
    let server = server_with(&file, &[]).await;
    let admin = server.token().await;
    let (pair, other) = (pki.issue(&[NAME], 1, 90), pki.issue(&[NAME], 1, 90));
    let local = fs::read_to_string(server.folder.path().join("data/tls/ca.pem")).unwrap();
    let shown = |root: &str| Connection::open(server.port(), NAME, root).map(|connection| connection.certificate());
    let before = shown(&local).unwrap();

    fs::write(&chain, pki.chain(&pair)).unwrap();
    write_key(&key, &other.key);
    let refused = server.put(SETTINGS, &admin, json!({"tls_mode": "files"})).await.expect(400);
    assert!(refused.to_string().contains("the key is not the one"), "{refused}");
    assert_eq!(shown(&local).unwrap(), before);

    write_key(&key, &pair.key);
    server.put(SETTINGS, &admin, json!({"tls_mode": "files"})).await.expect(200);
    assert_eq!(shown(&pki.root_pem).unwrap(), der(&pair.certificate));
    assert_eq!(gone_back(&server, &admin, SETTINGS).await["tls_mode"], "local");
    shown(&local).expect("the one of the appliance's own authority");
    assert!(shown(&pki.root_pem).is_err());
}

#[tokio::test]
async fn a_required_factor_stays_only_when_somebody_who_has_one_confirms_it() {
    const ORGANIZATION: &str = "/organization";
    let noted = async |server: &Server, admin: &str| {
        let log = server.get("/audit-logs?action=organization.&page_size=10", admin).await.expect(200);
        let entries = log["data"].as_array().unwrap().iter();
        let entries = entries.map(|entry| (entry["action"].clone(), entry["actor"]["type"].clone()));
        entries.rev().collect::<Vec<_>>()
    };
    // Whoever has no factor would be kept out at once.
    let settings = [("ZERO_SERVER_CONFIRM_SECONDS", "3"), ("ZERO_AUTH_MFA_GRACE_DAYS", "0")];
    let server = Server::start_with(&settings).await;
    let admin = server.token().await;
    let change = json!({"name": "Acme", "settings": {"require_mfa": true}});
    let require = async |server: &Server, admin: &str| {
        let changed = server.put(ORGANIZATION, admin, change.clone()).await;
        let changed = changed.expect(200);
        assert_eq!(changed["settings"]["require_mfa"], true);
        assert!((2..=3).contains(&changed["provisional"]["seconds_left"].as_u64().unwrap()), "{changed}");
    };

    require(&server, &admin).await;
    server.get("/devices", &admin).await.expect(403);
    let back = loop {
        let answer = server.get(ORGANIZATION, &admin).await;
        if answer.status == 200 {
            break answer.json();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((&back["settings"]["require_mfa"], &back["provisional"]), (&json!(false), &Value::Null));
    server.post("/organization/confirm", &admin, json!({})).await.expect(409);

    mfa::enroll(&server, &admin).await;
    require(&server, &admin).await;
    let server = server.crash_and_restart().await;
    gone_back(&server, &admin, ORGANIZATION).await;
    require(&server, &admin).await;
    let kept = server.post("/organization/confirm", &admin, json!({})).await.expect(200);
    assert_eq!(kept["provisional"], Value::Null);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let kept = server.get(ORGANIZATION, &admin).await.expect(200);
    assert_eq!(kept["settings"]["require_mfa"], true);

    let [update, confirm, revert] =
        ["update", "mfa.confirm", "mfa.revert"].map(|what| json!(format!("organization.{what}")));
    let (user, system) = (json!("user"), json!("system"));
    let changed = || (update.clone(), user.clone());
    let undone = || (revert.clone(), system.clone());
    let all = [changed(), undone(), changed(), undone(), changed(), (confirm.clone(), user.clone())];
    assert_eq!(noted(&server, &admin).await, all);
}

#[tokio::test]
async fn whoever_has_no_second_factor_cannot_confirm_that_everybody_needs_one() {
    let server = Server::start().await;
    let admin = server.token().await;
    let change = json!({"name": "Acme", "settings": {"require_mfa": true}});
    server.put("/organization", &admin, change).await.expect(200);
    let refused = server.post("/organization/confirm", &admin, json!({})).await.expect(409);
    assert!(refused["details"].as_str().unwrap_or_default().contains("set one up"), "{refused}");
    mfa::enroll(&server, &admin).await;
    server.post("/organization/confirm", &admin, json!({})).await.expect(200);
}
