//! Invitations and resets by mail: a user who never gets theirs cannot sign in.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{EMAIL, PASSWORD, Server};
use crate::smtp_sink::{self as sink, Identity, Security, Sink};

const CHOSEN: &str = "a password of one's own";

/// What an appliance is told of the sink.
fn settings(port: u16, security: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("ZERO_SMTP_HOST", "localhost"),
        ("ZERO_SMTP_FROM", "Zero <zero@acme.example>"),
        ("ZERO_SMTP_PORT", port.to_string().leak()),
        ("ZERO_SMTP_TLS", security),
        ("ZERO_LOG_LEVEL", "trace"),
    ]
}

fn with_sign_in(identity: &Identity, password: &'static str) -> Vec<(&'static str, &'static str)> {
    let file = identity.file.to_str().unwrap().to_owned().leak();
    vec![("ZERO_SMTP_CA_FILE", file), ("ZERO_SMTP_USERNAME", sink::USERNAME), ("ZERO_SMTP_PASSWORD", password)]
}

async fn invite(server: &Server, token: &str, name: &str, email: &str) -> Value {
    let user = json!({"name": name, "email": email, "role": "user"});
    server.post("/users", token, user).await.expect(201)
}

async fn accept(server: &Server, token: &str, status: u16) {
    let body = json!({"token": token, "password": CHOSEN});
    server.send(server.request(Method::POST, "/auth/links/accept").json(&body)).await.expect(status);
}

async fn log_in(server: &Server, email: &str, password: &str, status: u16) -> Value {
    let body = json!({"email": email, "password": password});
    server.send(server.request(Method::POST, "/auth/login").json(&body)).await.expect(status)
}

async fn ask_for_reset(server: &Server, email: &str, status: u16) {
    let request = server.request(Method::POST, "/auth/password/reset").json(&json!({"email": email}));
    server.send(request).await.expect(status);
}

async fn until_logged(server: &Server, part: &str) {
    let started = Instant::now();
    while !server.log().contains(part) {
        assert!(started.elapsed() < Duration::from_secs(30), "{part:?} is not in the log: {}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The audit log's entries on mail, once there are this many.
async fn mail_entries(server: &Server, token: &str, count: u64) -> Value {
    let started = Instant::now();
    loop {
        let log = server.get("/audit-logs?action=system.mail.send", token).await.expect(200);
        if log["total"].as_u64() >= Some(count) {
            return log["data"].clone();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_invitation_arrives_and_its_link_works_and_no_name_makes_a_header() {
    let (folder, mut inboxes) = (TempDir::new().unwrap(), 0);
    let identity = Identity::make(folder.path());
    for (security, named) in [(Security::Implicit, "implicit"), (Security::StartTls, "starttls")] {
        let sink = Sink::start(0, security, Some(&identity));
        let settings = [settings(sink.port(), named), with_sign_in(&identity, sink::PASSWORD)].concat();
        let server = Server::start_with(&settings).await;
        let admin = server.token().await;
        let name = "Zoë\r\nBcc: eve@evil.example\r\n\r\nClick here";
        let invited = invite(&server, &admin, name, "zoe@acme.example").await;
        assert_eq!(invited["invitation"]["mailed"], true);
        let mail = sink.wait_for(1).await.remove(0);
        assert_eq!(mail.recipients, ["zoe@acme.example"]);
        assert!(mail.headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("bcc")), "{mail:?}");
        assert_eq!(mail.header("to"), "Zoë Bcc: eve@evil.example Click here <zoe@acme.example>");
        assert_eq!(mail.header("subject"), "Your account at Acme");
        assert!(mail.header("from").contains("zero@acme.example"));
        assert!(mail.header("message-id").ends_with("@acme.example>"));
        assert!(mail.text.starts_with("Hello Zoë Bcc: eve@evil.example Click here,\r\n"), "{}", mail.text);
        assert!(mail.text.contains(invited["invitation"]["url"].as_str().unwrap()), "{}", mail.text);
        let entries = mail_entries(&server, &admin, 1).await;
        assert_eq!((&entries[0]["result"], &entries[0]["resource"]["id"]), (&json!("success"), &invited["id"]));
        accept(&server, &mail.token(), 204).await;
        log_in(&server, "zoe@acme.example", CHOSEN, 200).await;
        // Neither secret is told to anybody else.
        for told in [server.log(), entries.to_string()] {
            assert!(!told.contains(&mail.token()) && !told.contains(sink::PASSWORD));
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(sink.received().len(), 1, "it is sent once");
        inboxes += 1;
    }
    assert_eq!(inboxes, 2);
}

/// The process is killed when the answer is there and the mail server is not.
#[tokio::test]
async fn a_kill_before_delivery_and_a_server_that_is_down_lose_no_mail_and_keep_no_dead_link() {
    let port = sink::free_port();
    let server = Server::start_with(&settings(port, "none")).await;
    let admin = server.token().await;
    let lost = invite(&server, &admin, "Ada", "ada@acme.example").await;
    let path = format!("/users/{}", lost["id"].as_str().unwrap());
    let again = server.post(&format!("{path}/reset-password"), &admin, json!({})).await.expect(200);
    let gone = invite(&server, &admin, "Gone", "left@acme.example").await;
    server.delete(&format!("/users/{}", gone["id"].as_str().unwrap()), &admin).await.expect(204);
    let used = invite(&server, &admin, "Used", "used@acme.example").await;
    accept(&server, used["invitation"]["token"].as_str().unwrap(), 204).await;
    let file = std::fs::read(server.folder.path().join("data/zero.redb")).unwrap();
    let secret = again["token"].as_str().unwrap();
    assert!(file.windows(secret.len()).all(|part| part != secret.as_bytes()), "what waits is sealed");
    let server = server.crash_and_restart().await;
    until_logged(&server, "mail cannot be sent").await;

    let sink = Sink::start(port, Security::None, None);
    let mail = sink.wait_for(1).await.remove(0);
    assert_eq!(mail.recipients, ["ada@acme.example"]);
    assert_eq!(json!(mail.token()), again["token"], "the newest link is the one that is good");
    accept(&server, &mail.token(), 204).await;
    mail_entries(&server, &admin, 1).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(sink.received().len(), 1, "links that are spent or whose user is gone are not mailed");
}

#[tokio::test]
async fn a_refused_sign_in_and_a_refused_recipient_are_said_clearly_and_show_no_secret() {
    let folder = TempDir::new().unwrap();
    let identity = Identity::make(folder.path());
    let sink = Sink::start(0, Security::Implicit, Some(&identity));
    let wrong = [settings(sink.port(), "implicit"), with_sign_in(&identity, "hunter2hunter2")].concat();
    let server = Server::start_with(&wrong).await;
    let admin = server.token().await;
    let invited = invite(&server, &admin, "Ada", "ada@acme.example").await;
    until_logged(&server, "check smtp.username and smtp.password").await;
    let token = invited["invitation"]["token"].as_str().unwrap();
    assert!(!server.log().contains("hunter2") && !server.log().contains(token));
    assert!(sink.received().is_empty());

    let sink = Sink::start(0, Security::None, None);
    let server = Server::start_with(&settings(sink.port(), "none")).await;
    let admin = server.token().await;
    let invited = invite(&server, &admin, "Gone", "gone@acme.example").await;
    let entry = mail_entries(&server, &admin, 1).await[0].clone();
    assert_eq!((&entry["result"], &entry["resource"]["id"]), (&json!("failure"), &invited["id"]));
    assert!(entry["details"]["reason"].as_str().unwrap().contains("550"), "{entry}");
    // What is wrong with the sender is wrong with every mail, and none is given up for it.
    invite(&server, &admin, "Strict", "strict@acme.example").await;
    until_logged(&server, "check smtp.from").await;
    mail_entries(&server, &admin, 1).await;
    // The link itself is good all the same.
    accept(&server, invited["invitation"]["token"].as_str().unwrap(), 204).await;
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_gets_no_mail() {
    let folder = TempDir::new().unwrap();
    let identity = Identity::make(folder.path());
    let sink = Sink::start(0, Security::Implicit, Some(&identity));
    let server = Server::start_with(&settings(sink.port(), "implicit")).await;
    let admin = server.token().await;
    invite(&server, &admin, "Ada", "ada@acme.example").await;
    until_logged(&server, "mail cannot be sent").await;
    assert!(sink.received().is_empty());
}

#[tokio::test]
async fn whoever_forgot_the_password_gets_a_link_and_nobody_learns_who_has_an_account() {
    let sink = Sink::start(0, Security::None, None);
    let server = Server::start_with(&settings(sink.port(), "none")).await;
    let admin = server.token().await;
    for _ in 0..5 {
        ask_for_reset(&server, "nobody@acme.example", 204).await;
    }
    ask_for_reset(&server, "nobody@acme.example", 429).await;
    ask_for_reset(&server, &EMAIL.to_uppercase(), 204).await;
    let mail = sink.wait_for(1).await.remove(0);
    assert_eq!(mail.recipients, [EMAIL]);
    assert_eq!(mail.header("subject"), "A new password for your account at Acme");
    // Until the link is used, whoever else may have asked has changed nothing.
    server.get("/auth/me", &admin).await.expect(200);
    log_in(&server, EMAIL, PASSWORD, 200).await;
    accept(&server, &mail.token(), 204).await;
    server.get("/auth/me", &admin).await.expect(401);
    log_in(&server, EMAIL, PASSWORD, 401).await;
    let admin = log_in(&server, EMAIL, CHOSEN, 200).await;
    let log = server.get("/audit-logs?action=auth.reset.request", admin["token"].as_str().unwrap()).await.expect(200);
    assert_eq!((&log["total"], &log["data"][0]["details"]["mailed"]), (&json!(6), &json!(true)));
    for _ in 0..4 {
        ask_for_reset(&server, EMAIL, 204).await;
    }
    ask_for_reset(&server, EMAIL, 429).await;

    let unmailed = Server::start().await;
    let admin = unmailed.token().await;
    ask_for_reset(&unmailed, EMAIL, 204).await;
    assert_eq!(invite(&unmailed, &admin, "Ada", "ada@acme.example").await["invitation"]["mailed"], false);
}
