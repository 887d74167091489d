//! The way back in for whoever holds the machine and has lost the rest.

use std::io::Write;
use std::process::Output;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use zero::clock::{Clock, SystemClock};
use zero::model::mfa::{Mfa, Totp};
use zero::model::role::{Role, RoleRef};
use zero::model::sealed::Sealed;
use zero::model::user::{User, UserStatus};
use zero::store::audit::AuditEvent;
use zero::store::users;
use zero::store::write::Audited;

use crate::server::{EMAIL, PASSWORD, Server, zero};

fn recover(server: &Server, email: &str, password: Option<&str>) -> Output {
    let data = server.folder.path().join("data");
    let mut command = zero(&["recover-admin", "--data-dir", data.to_str().unwrap(), "--email", email]);
    let mut child = command.args(password.map(|_| "--password-stdin")).spawn().unwrap();
    // A refusal may come before it reads.
    let _ = writeln!(child.stdin.take().unwrap(), "{}", password.unwrap_or_default());
    child.wait_with_output().unwrap()
}

fn refusal(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_super_admin_gets_back_in_and_nobody_else_becomes_one() {
    let server = Server::start().await;
    let token = server.token().await;
    server.post("/api-keys", &token, json!({"name": "ci", "role": "auditor"})).await.expect(201);
    assert!(refusal(&recover(&server, EMAIL, None)).contains("stop it first"));
    server.get("/auth/me", &token).await.expect(200);

    // The administrator has lost the phone, and the other super admin has suspended the account.
    let change = |tx: &mut zero::store::write::Tx| {
        let ada = users::by_email(tx, EMAIL)?.unwrap();
        let organization = ada.organization_id;
        let root = User { id: tx.new_id(), email: "root@acme.example".into(), ..ada.clone() };
        let carol = User { email: "carol@acme.example".into(), role: RoleRef::BuiltIn(Role::User), ..root.clone() };
        users::put(tx, root)?;
        users::put(tx, User { id: tx.new_id(), ..carol })?;
        let totp = Totp { secret: Sealed { nonce: [0; 12], bytes: vec![0; 36] }, last_step: 0 };
        let mfa = Mfa { totp: Some(totp), ..Mfa::default() };
        users::put(tx, User { status: UserStatus::Suspended, mfa, ..ada })?;
        Ok(Audited::new((), AuditEvent::new("user.suspend").of(organization)))
    };
    let mut server = server.restart_with(SystemClock::new().now(), change).await;
    server.get("/auth/me", &token).await.expect(401);
    server.process.kill().unwrap();
    server.process.wait().unwrap();

    for nobody in ["carol@acme.example", "nobody@acme.example"] {
        let why = refusal(&recover(&server, nobody, None));
        for part in [nobody, "admin@acme.example (suspended)", "root@acme.example"] {
            assert!(why.contains(part), "{why}");
        }
    }
    assert!(refusal(&recover(&server, EMAIL, Some("short"))).contains("at least 12 characters"));
    let recovered = recover(&server, "Admin@ACME.example", None);
    let told = String::from_utf8_lossy(&recovered.stderr);
    assert!(recovered.status.success() && told.contains("sessions ended: 1") && told.contains("for them: 1"), "{told}");
    let password = String::from_utf8(recovered.stdout).unwrap();

    let server = server.crash_and_restart().await;
    server.get("/auth/me", &token).await.expect(401);
    let log_in = async |password: &str| {
        let body = json!({"email": EMAIL, "password": password});
        server.send(server.request(Method::POST, "/auth/login").json(&body)).await
    };
    log_in(PASSWORD).await.expect(401);
    let signed_in = log_in(password.trim_end()).await.expect(200);
    assert_eq!(signed_in["user"]["role"], "super_admin");
    let admin = signed_in["token"].as_str().unwrap();
    let log = server.get("/audit-logs?action=system.recover_admin", admin).await.expect(200);
    let (entry, details) = (&log["data"][0], &log["data"][0]["details"]);
    assert_eq!((&entry["actor"]["type"], &entry["resource"]["id"]), (&json!("system"), &signed_in["user"]["id"]));
    assert_eq!((&details["was"], &details["mfa_removed"]), (&json!("suspended"), &json!(true)));
    assert!(!log.to_string().contains(password.trim_end()));
}

#[test]
fn where_there_is_no_appliance_nothing_is_made() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let recover = zero(&["recover-admin", "--data-dir", data.to_str().unwrap(), "--email", EMAIL]).output().unwrap();
    assert!(refusal(&recover).contains("there is no appliance"));
    assert!(!data.exists());
}
