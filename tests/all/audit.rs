//! The audit log as proof: verified, exported, and signed.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use zero::clock::{Clock, SystemClock};
use zero::store::audit::AuditEvent;
use zero::store::persons;
use zero::store::write::Audited;

use crate::server::{EMAIL, Server, zero};

/// An organization in which something has happened, and its administrator's token.
async fn busy() -> (Server, String) {
    let server = Server::start().await;
    let admin = server.token().await;
    for name in ["=1+1", "laptop, \"old\"", "phone"] {
        server.enroll(&admin, name).await;
    }
    (server, admin)
}

async fn export(server: &Server, token: &str, query: &str) -> crate::server::Reply {
    server.get(&format!("/audit-logs/export?{query}"), token).await
}

#[tokio::test]
async fn a_log_verifies_through_the_api_and_its_export_is_the_list_from_its_oldest_entry_on() {
    let (server, admin) = busy().await;
    let verdict = server.get("/audit-logs/verify", &admin).await.expect(200);
    let newest = server.get("/audit-logs?page_size=100", &admin).await.expect(200);
    assert_eq!((&verdict["valid"], &verdict["entries"]), (&json!(true), &newest["total"]));
    assert_eq!(verdict["head"], newest["data"][0]["hash"]);

    let reply = export(&server, &admin, "format=ndjson").await;
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "application/x-ndjson"));
    assert!(reply.header("content-disposition").contains("audit-log-"));
    let lines: Vec<Value> = reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut listed = newest["data"].as_array().unwrap().clone();
    listed.reverse();
    assert_eq!(lines, listed);
    let noted = server.get("/audit-logs?action=audit.export", &admin).await.expect(200);
    assert_eq!((&noted["total"], &noted["data"][0]["details"]["format"]), (&json!(1), &json!("ndjson")));

    let devices = export(&server, &admin, "format=ndjson&action=device.&result=success").await;
    assert_eq!(devices.text.lines().count(), 3);
    let csv = export(&server, &admin, "format=csv&action=device.").await;
    assert_eq!((csv.text.lines().count(), csv.header("content-type")), (4, "text/csv"));
    assert!(csv.text.contains(",'=1+1,") && csv.text.contains(",\"laptop, \"\"old\"\"\","), "{}", csv.text);
    let cef = export(&server, &admin, "format=cef&action=device.").await;
    assert!(cef.text.lines().count() == 3 && cef.text.contains(" cs3=\\=1+1 "), "{}", cef.text);
    assert!(export(&server, &admin, "format=xml").await.expect(400)["details"].as_str().unwrap().contains("format"));
    let head = server.raw(&format!(
        "HEAD /api/v1/audit-logs/export?format=csv HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {admin}\r\n\
         connection: close\r\n\r\n"
    ));
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn only_who_may_export_gets_it_and_nobody_sees_another_organizations() {
    let (server, admin) = busy().await;
    let made = server.post("/api-keys", &admin, json!({"name": "viewer", "permissions": ["audit.view"]})).await;
    let viewer = made.expect(201)["key"].as_str().unwrap().to_owned();
    server.get("/audit-logs/verify", &viewer).await.expect(200);
    export(&server, &viewer, "format=csv").await.expect(403);
    server.post("/audit-logs/checkpoints", &viewer, json!({})).await.expect(403);

    let body = json!({"name": "Other", "admin": {"name": "Eve", "email": "eve@other.example", "password": "a good long password"}});
    server.post("/organizations", &admin, body).await.expect(201);
    let eve = json!({"email": "eve@other.example", "password": "a good long password"});
    let eve = server.send(server.request(Method::POST, "/auth/login").json(&eve)).await.expect(200);
    let eve = eve["token"].as_str().unwrap();
    server.post("/audit-logs/checkpoints", &admin, json!({})).await.expect(201);
    assert_eq!(server.get("/audit-logs/checkpoints", eve).await.expect(200)["total"], 0);
    let theirs = export(&server, eve, "format=ndjson").await.text;
    assert!(!theirs.contains("device.enroll") && theirs.contains("auth.login.success"));
    assert_eq!(server.get("/audit-logs/verify", eve).await.expect(200)["valid"], true);
}

#[tokio::test]
async fn a_checkpoint_is_signed_with_the_key_that_is_published_and_made_once() {
    let (server, admin) = busy().await;
    let made = server.post("/audit-logs/checkpoints", &admin, json!({})).await.expect(201);
    let listed = server.get("/audit-logs/checkpoints", &admin).await.expect(200);
    assert_eq!((&listed["total"], &listed["data"][0]), (&json!(1), &made));
    let key = server.get("/audit-logs/checkpoints/key", &admin).await.expect(200);
    assert!(key["pem"].as_str().unwrap().starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA"));
    let hex = |value: &Value| zero::model::hex::Hex::parse(value.as_str().unwrap()).unwrap().0;
    let text = |name: &str| made[name].as_str().map_or_else(|| made[name].to_string(), Into::into);
    let lines = ["organization_id", "seq", "hash", "time"].map(text).join("\n");
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, hex(&key["public_key"]));
    public.verify(format!("zero audit checkpoint 1\n{lines}\n").as_bytes(), &hex(&made["signature"])).unwrap();
    // The key outlives the process.
    let server = server.crash_and_restart().await;
    assert_eq!(server.get("/audit-logs/checkpoints/key", &admin).await.expect(200), key);
    assert_eq!(server.get("/audit-logs/verify", &admin).await.expect(200)["valid"], true);
}

/// What is read and what is exported keeps no name whose key is gone; the chain holds.
#[tokio::test]
async fn an_erased_person_is_in_no_answer_and_not_in_the_file() {
    let (server, admin) = busy().await;
    let canary = "canary-7f3a@acme.example";
    let body = json!({"name": "Canary Bird", "email": canary, "role": "user", "password": "a good long password"});
    let user = server.post("/users", &admin, body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let login = json!({"email": canary, "password": "a good long password"});
    let token = server.send(server.request(Method::POST, "/auth/login").json(&login)).await.expect(200);
    server.enroll(token["token"].as_str().unwrap(), "Canary Birds phone").await;
    let wrong = json!({"email": canary, "password": "a wrong password"});
    server.send(server.request(Method::POST, "/auth/login").json(&wrong)).await.expect(401);
    server.post("/auth/logout", token["token"].as_str().unwrap(), json!({})).await.expect(204);
    server.post(&format!("/users/{user}/suspend"), &admin, json!({})).await.expect(200);
    assert!(export(&server, &admin, "format=ndjson").await.text.contains("Canary Bird"));
    server.delete(&format!("/users/{user}"), &admin).await.expect(204);

    let id = zero::ids::UserId::parse(&user).unwrap();
    let server = server
        .restart_with(SystemClock::new().now(), move |tx| {
            let organization = zero::store::users::by_email(tx, EMAIL)?.unwrap().organization_id;
            persons::forget(tx, organization, id)?;
            Ok(Audited::new((), AuditEvent::new("gdpr.delete").of(organization).on("user", id, "Canary Bird")))
        })
        .await;
    let exported = export(&server, &admin, "format=ndjson").await.text;
    let listed = server.get("/audit-logs?page_size=100", &admin).await.text;
    for text in [&exported, &listed] {
        assert!(text.contains(&user) && text.contains("[erased]"));
        assert!(!text.to_lowercase().contains("canary"), "{:?}", text.lines().find(|line| line.contains("anary")));
    }
    assert_eq!(server.get("/audit-logs/verify", &admin).await.expect(200)["valid"], true);
}

/// It may be an erased person's, or a password that was typed into the wrong field; no key's end would erase it.
#[tokio::test]
async fn an_e_mail_that_is_nobodys_is_told_apart_and_not_written_down() {
    let server = Server::start().await;
    let admin = server.token().await;
    for email in ["Ghost@acme.example", "another@acme.example", "ghost@ACME.example"] {
        let wrong = json!({"email": email, "password": "a wrong password"});
        server.send(server.request(Method::POST, "/auth/login").json(&wrong)).await.expect(401);
    }
    let log = server.get("/audit-logs?action=auth.login.failure", &admin).await;
    assert!(!log.text.to_lowercase().contains("acme.example"), "{}", log.text);
    let entries = log.expect(200);
    let [third, second, first] = [0, 1, 2].map(|at| entries["data"][at]["details"]["email_pseudonym"].to_string());
    assert!(first == third && first != second && first.len() == 34, "{first} {second} {third}");
}

fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let output = zero(&[&["audit", "verify"], arguments].concat()).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// With no server: the folder, a copy of the file, an export, each as it is and tampered with.
#[tokio::test]
async fn the_command_verifies_data_and_exports_and_names_the_first_broken_entry() {
    let (mut server, admin) = busy().await;
    let checkpoint = server.post("/audit-logs/checkpoints", &admin, json!({})).await.expect(201);
    let key = server.get("/audit-logs/checkpoints/key", &admin).await.expect(200);
    let key = key["public_key"].as_str().unwrap();
    let exported = export(&server, &admin, "format=ndjson").await.text;
    let data = server.folder.path().join("data");
    let (data, file) = (data.to_str().unwrap(), data.join("zero.redb"));
    assert!(verify(&["--data-dir", data]).1.contains("is running on"));
    assert!(verify(&[file.to_str().unwrap()]).1.contains("is open in another process"));
    server.process.kill().unwrap();
    server.process.wait().unwrap();

    let at = |name: &str, content: &str| {
        let path = server.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let before = std::fs::read(&file).unwrap();
    let (code, said) = verify(&["--data-dir", data]);
    assert!(code == Some(0) && said.contains("Acme (") && said.contains(key), "{said}");
    let kept = at("checkpoint.json", &checkpoint.to_string());
    let (code, said) = verify(&["--data-dir", data, "--checkpoint", &kept]);
    assert!(code == Some(0) && said.contains("agree: 1 (signed)"), "{said}");
    let copy = server.folder.path().join("copy.redb");
    std::fs::copy(&file, &copy).unwrap();
    assert_eq!(verify(&[copy.to_str().unwrap()]).0, Some(0));
    assert!(std::fs::read(&file).unwrap() == before, "verifying wrote to the data");

    let whole = at("log.ndjson", &exported);
    let (code, said) = verify(&[&whole, "--checkpoint", &kept, "--key", key]);
    assert!(code == Some(0) && said.contains("agree: 1 (signed)"), "{said}");
    let lines: Vec<&str> = exported.split_inclusive('\n').collect();
    let broken = |name: &str, lines: Vec<&str>, entry: &str, why: &str| {
        let (code, said) = verify(&[&at(name, &lines.concat())]);
        assert!(code == Some(1) && said.contains(&format!("BROKEN at entry {entry}: {why}")), "{name}: {said}");
    };
    let edited = lines[3].replace("linux", "macos");
    broken("edited", [&lines[..3], &[&edited], &lines[4..]].concat(), "4", "its hash does not fit");
    broken("removed", [&lines[..3], &lines[4..]].concat(), "4", "entry 5 is in its place");
    broken("swapped", [&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat(), "3", "entry 4 is in its place");
    let name = lines[3].replace("Administrator", "Somebody else");
    assert_ne!(name, lines[3]);
    broken("renamed", [&lines[..3], &[&name], &lines[4..]].concat(), "4", "a name in it was changed");
    // What an end cut off would hide, only the checkpoint tells.
    let cut = at("cut.ndjson", &lines[..4].concat());
    assert_eq!(verify(&[&cut]).0, Some(0));
    let (code, said) = verify(&[&cut, "--checkpoint", &kept]);
    assert!(code == Some(1) && said.contains("BROKEN at entry 5: it is missing"), "{said}");
    let mut forged = checkpoint.clone();
    forged["seq"] = json!(3);
    let forged = at("forged.json", &forged.to_string());
    for arguments in [vec![&*whole, "--checkpoint", &forged], vec!["--data-dir", data, "--checkpoint", &forged]] {
        let (code, said) = verify(&arguments);
        assert!(code == Some(1) && said.contains("BROKEN at entry 3"), "{said}");
    }
    assert_eq!(verify(&[&at("empty.ndjson", "")]).0, Some(1));
}
