//! What people may ask for under the GDPR, and that they get it.

use std::ops::{Bound, ControlFlow};

use reqwest::Method;
use serde_json::{Value, json};
use zero::clock::{Clock, SystemClock};
use zero::store::engine::{Direction, Read};
use zero::store::tables;
use zero::store::write::{Audited, Unaudited};

use crate::organizations::{found, log_in, text};
use crate::server::{EMAIL, PASSWORD, Reply, Server};

/// A user who can sign in: the id and the token.
async fn person(server: &Server, admin: &str, name: &str, role: &str) -> (String, String) {
    let email = format!("{}@acme.example", name.to_lowercase());
    let new = json!({"name": format!("{name} Surname"), "email": email, "role": role, "password": PASSWORD});
    let made = server.post("/users", admin, new).await.expect(201);
    (text(&made["id"]), log_in(server, &email).await)
}

/// A device of whoever asks: its id and token. Its serial number does not tell whose it is.
async fn device(server: &Server, owner: &str, name: &str, serial: Option<&str>) -> (String, String) {
    let body = json!({
        "device_name": name, "platform": "linux", "agent_version": "1", "serial_number": serial, "hostname": name,
    });
    let body =
        if serial.is_some() { body } else { json!({"device_name": name, "platform": "linux", "agent_version": "1"}) };
    let device = server.post("/devices/enroll", owner, body).await.expect(201);
    (text(&device["id"]), text(&device["device_token"]))
}

async fn check_in(server: &Server, id: &str, token: &str, report: Value) -> Vec<Value> {
    let answer = server.post(&format!("/devices/{id}/checkin"), token, report).await.expect(200);
    answer["commands"].as_array().unwrap().clone()
}

async fn delete(server: &Server, path: &str, token: &str) -> Reply {
    server.send(server.request(Method::DELETE, path).bearer_auth(token)).await
}

/// Table and row of everything in the data file that has `word` in it, in whatever case; the audit log, which is to be
/// kept, is not looked at.
async fn rows_with(server: Server, word: &'static str) -> (Server, Vec<String>) {
    let (told, found) = std::sync::mpsc::channel();
    let look = move |tx: &mut zero::store::write::Tx| {
        for table in tables::ALL.iter().filter(|table| table.name != "audit") {
            tx.scan(table.name, Bound::Unbounded, Bound::Unbounded, Direction::Ascending, &mut |key, value| {
                let row = String::from_utf8_lossy(&[key, value].concat()).to_lowercase();
                if row.contains(word) {
                    told.send(format!("{}: {row}", table.name)).unwrap();
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(Audited::without_entry((), Unaudited::Unchanged))
    };
    let server = server.restart_with(SystemClock::new().now(), look).await;
    (server, found.try_iter().collect())
}

#[tokio::test]
async fn an_export_has_everything_that_is_held_and_nothing_of_others() {
    let server = Server::start().await;
    let root = server.token().await;
    let (ann, ann_token) = person(&server, &root, "Ann", "admin").await;
    let (bob, bob_token) = person(&server, &root, "Bob", "user").await;
    let (laptop, laptop_token) = device(&server, &ann_token, "Laptop of Ann", Some("SN-1")).await;
    device(&server, &bob_token, "Laptop of Bob", Some("SN-2")).await;
    check_in(&server, &laptop, &laptop_token, json!({})).await;
    server.post(&format!("/devices/{laptop}/lock"), &root, json!({})).await.expect(200);
    let policy = json!({"name": "Quiet", "policy_data": {"usb": {"allowed": false}}});
    let policy = server.post("/policies", &root, policy).await.expect(201);
    let group = server.post("/groups", &root, json!({"name": "Sales", "members": [ann, bob]})).await.expect(201);
    let assign = format!("/policies/{}/assign", text(&policy["id"]));
    server.post(&assign, &root, json!({"group_ids": [group["id"]]})).await.expect(200);
    server.post("/enrollment-tokens", &root, json!({"name": "Phone of Ann", "user_id": ann})).await.expect(201);
    let key = server.post("/api-keys", &ann_token, json!({"name": "script of Ann", "role": "user"})).await.expect(201);
    server.post("/gdpr/object", &ann_token, json!({"purpose": "profiling", "reason": "No."})).await.expect(200);
    server.post("/gdpr/restrict", &ann_token, json!({"restricted": true, "reason": "It is wrong"})).await.expect(200);
    // What an admin did to others is theirs, not hers.
    server.post(&format!("/users/{bob}/suspend"), &ann_token, json!({})).await.expect(200);
    server.post(&format!("/users/{bob}/resume"), &ann_token, json!({})).await.expect(200);

    let reply = server.get("/gdpr/export", &ann_token).await;
    assert_eq!(reply.header("content-disposition"), format!("attachment; filename=personal-data-{ann}.json"));
    let foreign = ["bob", EMAIL, &root, "SN-2", &text(&key["key"]), "argon2", "token_hash"];
    let shown: Vec<_> =
        foreign.iter().filter(|word| reply.text.to_lowercase().contains(&word.to_lowercase())).collect();
    assert!(shown.is_empty(), "{shown:?} in {}", reply.text);
    let export = reply.expect(200);
    assert_eq!((&export["profile"]["id"], &export["profile"]["email"]), (&json!(ann), &json!("ann@acme.example")));
    assert_eq!(export["groups"], json!([{"id": group["id"], "name": "Sales"}]));
    let shown = &export["devices"][0];
    assert_eq!((&shown["id"], &shown["hostname"]), (&json!(laptop), &json!("Laptop of Ann")));
    assert!(shown["last_seen"].is_string() && export["devices"].as_array().unwrap().len() == 1);
    assert_eq!((&shown["commands"][0]["type"], &shown["policy"]["policy_id"]), (&json!("lock"), &policy["id"]));
    assert_eq!(shown["policy"]["policy_data"]["usb"]["allowed"], json!(false));
    assert_eq!((&export["sessions"][0]["current"], &export["sessions"][1]), (&json!(true), &Value::Null));
    assert_eq!((&export["api_keys"][0]["id"], &export["api_keys"][0]["name"]), (&key["id"], &json!("script of Ann")));
    assert_eq!(export["enrollment_tokens"][0]["name"], "Phone of Ann");
    assert_eq!(export["restriction"]["reason"], "It is wrong");
    assert_eq!(
        (&export["objections"][0]["purpose"], &export["objections"][0]["reason"]),
        (&json!("profiling"), &json!("No."))
    );
    assert_eq!(export["truncated"], json!([]));
    let entries = export["audit_entries"].as_array().unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in ["user.create", "auth.login.success", "device.enroll", "device.lock", "user.suspend", "gdpr.export"] {
        assert!(actions.contains(&action), "{action} is not in {actions:?}");
    }
    let created = entries.iter().find(|entry| entry["action"] == "user.create").unwrap();
    assert_eq!(created["actor"], json!({"type": "user", "id": null, "name": null}), "who made her is somebody else");

    let by_admin = server.get(&format!("/gdpr/export?user_id={ann}"), &root).await.expect(200);
    assert_eq!((&by_admin["devices"], &by_admin["objections"]), (&export["devices"], &export["objections"]));
    let log = server.get(&format!("/audit-logs?action=gdpr.export&resource_id={ann}"), &root).await.expect(200);
    assert_eq!(log["total"], 2, "each is in the log");
}

#[tokio::test]
async fn nobody_asks_for_others_without_the_right_and_other_organizations_do_not_exist() {
    let server = Server::start().await;
    let root = server.token().await;
    let (ann, ann_token) = person(&server, &root, "Ann", "user").await;
    let (_, help) = person(&server, &root, "Helper", "help_desk").await;
    let (admin, admin_token) = person(&server, &root, "Second", "admin").await;
    let me = text(&server.get("/auth/me", &root).await.expect(200)["id"]);
    let other = found(&server, &root, "Umbrella").await;
    let foreign = log_in(&server, &text(&other["admin"]["email"])).await;
    let calls = [
        (Method::GET, "/gdpr/export", json!({})),
        (Method::DELETE, "/gdpr/delete", json!({})),
        (Method::POST, "/gdpr/restrict", json!({"restricted": true})),
        (Method::POST, "/gdpr/object", json!({"purpose": "analytics"})),
        (Method::DELETE, "/gdpr/object/analytics", json!({})),
    ];
    for (method, path, body) in &calls {
        for (who, whom, status) in
            [(&help, &ann, 403), (&ann_token, &admin, 403), (&foreign, &ann, 404), (&ann_token, &"x".to_owned(), 400)]
        {
            let request = server.request(method.clone(), &format!("{path}?user_id={whom}")).bearer_auth(who);
            let reply = server.send(request.json(body)).await;
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        }
    }
    server.get("/gdpr/erasures", &help).await.expect(403);
    // An admin may not erase whoever may do more, and the last super admin stays.
    delete(&server, &format!("/gdpr/delete?user_id={me}"), &admin_token).await.expect(403);
    let refused = delete(&server, "/gdpr/delete", &root).await.expect(409);
    assert!(text(&refused["details"]).contains("last active super admin"), "{refused}");
    server.get("/auth/me", &root).await.expect(200);
    assert_eq!(server.get("/gdpr/erasures", &root).await.expect(200)["total"], 0);
    // A program says whom it means: nobody is erased because it left that out.
    let key = server.post("/api-keys", &root, json!({"name": "k", "role": "admin"})).await.expect(201);
    delete(&server, "/gdpr/delete", &text(&key["key"])).await.expect(400);
    let weak = server.post("/api-keys", &root, json!({"name": "w", "role": "user"})).await.expect(201);
    delete(&server, &format!("/gdpr/delete?user_id={ann}"), &text(&weak["key"])).await.expect(403);
    delete(&server, &format!("/gdpr/delete?user_id={ann}"), &text(&key["key"])).await.expect(200);
}

#[tokio::test]
async fn of_an_erased_person_no_name_is_left_and_a_device_is_wiped_when_it_says_so() {
    let server = Server::start().await;
    let root = server.token().await;
    let (canary, token) = person(&server, &root, "Canary", "admin").await;
    let (laptop, laptop_token) = device(&server, &token, "Canary Laptop", Some("SN-1")).await;
    check_in(&server, &laptop, &laptop_token, json!({"hostname": "canary.local"})).await;
    let tags = server.request(Method::PATCH, &format!("/devices/{laptop}")).bearer_auth(&token);
    server.send(tags.json(&json!({"tags": ["canary"]}))).await.expect(200);
    // Lost without its credentials: one with a serial number, one without, and one deleted before.
    let mut lost = Vec::new();
    for (name, serial) in [("Canary Phone", Some("SN-2")), ("Canary Tablet", None), ("Canary Watch", Some("SN-3"))] {
        let (id, _) = device(&server, &token, name, serial).await;
        server.post(&format!("/devices/{id}/wipe"), &token, json!({"force": true})).await.expect(200);
        lost.push(id);
    }
    delete(&server, &format!("/devices/{}", lost[2]), &token).await.expect(204);
    // And one that is wiped already.
    let (wiped, wiped_token) = device(&server, &token, "Canary Kiosk", Some("SN-4")).await;
    server.post(&format!("/devices/{wiped}/wipe"), &token, json!({})).await.expect(200);
    let wipe = &check_in(&server, &wiped, &wiped_token, json!({})).await[0];
    let result = format!("/devices/{wiped}/commands/{}/result", text(&wipe["id"]));
    server.post(&result, &wiped_token, json!({"status": "succeeded"})).await.expect(200);

    server.post("/groups", &root, json!({"name": "Sales", "members": [canary]})).await.expect(201);
    server.post("/enrollment-tokens", &root, json!({"name": "Canary's", "user_id": canary})).await.expect(201);
    let key = server.post("/api-keys", &token, json!({"name": "canary's", "role": "admin"})).await.expect(201);
    let policies: Vec<Value> = vec![
        server.post("/policies", &token, json!({"name": "P", "policy_data": {}})).await.expect(201),
        server.post("/policies", &text(&key["key"]), json!({"name": "Q", "policy_data": {}})).await.expect(201),
    ];
    server.post("/gdpr/object", &token, json!({"purpose": "analytics", "reason": "canary"})).await.expect(200);
    let (server, before) = rows_with(server, "canary").await;
    for table in ["users", "users_by_email", "devices", "wipe_intents", "policy_versions", "api_keys"] {
        let has_rows = before.iter().any(|row| row.starts_with(&format!("{table}:")));
        assert!(has_rows, "{table} is not tried: {before:?}");
    }

    let receipt = delete(&server, "/gdpr/delete", &token).await.expect(200);
    let devices = json!([
        {"id": laptop, "wipe": "requested"},
        {"id": lost[0], "wipe": "waiting for serial"},
        {"id": lost[1], "wipe": "not reachable"},
        {"id": wiped, "wipe": "confirmed"},
    ]);
    assert_eq!((&receipt["user_id"], &receipt["devices"]), (&json!(canary), &devices));
    assert_eq!((&receipt["sessions_ended"], &receipt["api_keys_ended"]), (&json!(1), &json!(1)));
    server.get("/auth/me", &token).await.expect(401);
    server.get("/policies", &text(&key["key"])).await.expect(401);
    let sign_in = json!({"email": "canary@acme.example", "password": PASSWORD});
    server.send(server.request(Method::POST, "/auth/login").json(&sign_in)).await.expect(401);
    server.get(&format!("/users/{canary}"), &root).await.expect(404);
    delete(&server, &format!("/gdpr/delete?user_id={canary}"), &root).await.expect(404);
    let entries = server.get("/audit-logs?action=gdpr.delete", &root).await.expect(200);
    let entry = &entries["data"][0];
    assert_eq!((&entry["actor"]["id"], &entry["actor"]["name"]), (&json!(canary), &Value::Null));
    assert!(!entry.to_string().to_lowercase().contains("canary"), "{entry}");

    // The device is still there to be wiped, as nobody's, and tells nothing more of whose it was.
    let commands = check_in(&server, &laptop, &laptop_token, json!({"hostname": "canary.local"})).await;
    assert_eq!((commands.len(), &commands[0]["type"]), (1, &json!("wipe")));
    let shown = server.get(&format!("/devices/{laptop}"), &root).await.expect(200);
    assert_eq!((&shown["user_id"], &shown["hostname"], &shown["tags"]), (&Value::Null, &Value::Null, &json!([])));
    assert_ne!(shown["status"], "wiped");
    let hand_on = server.request(Method::PATCH, &format!("/devices/{laptop}")).bearer_auth(&root);
    server.send(hand_on.json(&json!({"device_name": "New"}))).await.expect(409);

    let (server, after) = rows_with(server, "canary").await;
    assert!(after.is_empty(), "{after:?}");
    let document = server.send(server.request(Method::GET, "/openapi.json")).await.expect(200);
    let lists = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, item)| !path.contains('{') && item.get("get").is_some() && !path.contains("/audit-logs"));
    let mut paths: Vec<String> = lists.map(|(path, _)| path.trim_start_matches("/api/v1").into()).collect();
    paths.extend(policies.iter().map(|policy| format!("/policies/{}/versions", text(&policy["id"]))));
    assert!(paths.len() >= 15, "{paths:?}");
    for path in paths {
        let reply = server.get(&path, &root).await;
        assert!(reply.status == 200 && !reply.text.to_lowercase().contains("canary"), "{path}: {}", reply.text);
    }

    // It is wiped when it says so, and gone then; the ledger has what became of it.
    let result = format!("/devices/{laptop}/commands/{}/result", text(&commands[0]["id"]));
    assert_eq!(
        server.post(&result, &laptop_token, json!({"status": "succeeded"})).await.expect(200)["status"],
        "succeeded"
    );
    server.get(&format!("/devices/{laptop}"), &root).await.expect(404);
    server.post(&format!("/devices/{laptop}/checkin"), &laptop_token, json!({})).await.expect(401);
    let ledger = server.get("/gdpr/erasures", &root).await.expect(200);
    assert_eq!((&ledger["total"], &ledger["data"][0]["receipt_id"]), (&json!(1), &receipt["receipt_id"]));
    assert_eq!(ledger["data"][0]["devices"][0]["wipe"], "confirmed");
    assert_eq!(server.get("/devices", &root).await.expect(200)["total"], 0);
    // The log has the name nowhere, neither from before nor in the erasure nor in what came of it, and still verifies.
    let log = server.get("/audit-logs/export?format=ndjson", &root).await;
    assert!(log.text.contains("auth.login.failure"), "somebody tried the e-mail after the erasure");
    let named: Vec<&str> = log.text.lines().filter(|line| line.to_lowercase().contains("canary")).collect();
    assert!(log.text.lines().count() > 20 && named.is_empty(), "{named:?}");
    assert_eq!(server.get("/audit-logs/verify", &root).await.expect(200)["valid"], true);
    // Those that could not be told are wiped first when they come back.
    for serial in ["sn-2", "SN-3"] {
        let (again, token) = device(&server, &root, "New", Some(serial)).await;
        assert_eq!(check_in(&server, &again, &token, json!({})).await[0]["type"], "wipe");
    }
}

#[tokio::test]
async fn while_restricted_nothing_is_counted_or_kept_and_the_device_works_on() {
    let server = Server::start().await;
    let root = server.token().await;
    let (ann, ann_token) = person(&server, &root, "Ann", "user").await;
    let (laptop, token) = device(&server, &ann_token, "Laptop", Some("SN-1")).await;
    device(&server, &root, "Other", Some("SN-2")).await;
    let stats = async || {
        let stats = server.get("/stats", &root).await.expect(200);
        let sum = |member: &str| stats[member].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
        let days = stats["enrollments"].as_array().unwrap();
        let enrolled: u64 = days.iter().map(|day| day["count"].as_u64().unwrap()).sum();
        let total = stats["total"].as_u64().unwrap();
        assert_eq!([sum("by_status"), sum("by_platform"), sum("by_compliance"), enrolled], [total; 4]);
        total
    };
    assert_eq!(stats().await, 2);
    let path = format!("/gdpr/restrict?user_id={ann}");
    let now = server.post(&path, &root, json!({"restricted": true, "reason": "disputed"})).await.expect(200);
    assert_eq!((&now["restricted"], &now["reason"]), (&json!(true), &json!("disputed")));
    let again = server.post(&path, &root, json!({"restricted": true, "reason": "disputed"})).await.expect(200);
    assert_eq!(again, now);
    assert_eq!(stats().await, 1);

    // Marked wherever it is shown.
    let device_path = format!("/devices/{laptop}");
    for path in [&format!("/users/{ann}"), "/auth/me", &device_path] {
        assert_eq!(server.get(path, &ann_token).await.expect(200)["restricted"], true, "{path}");
    }
    for path in ["/users?q=ann", "/devices?q=laptop"] {
        assert_eq!(server.get(path, &root).await.expect(200)["data"][0]["restricted"], true, "{path}");
    }
    assert_eq!(server.get("/devices?q=other", &root).await.expect(200)["data"][0]["restricted"], false);

    // Commands and policies reach the device, and nothing of its check-ins is kept.
    let policy = json!({"name": "Quiet", "policy_data": {"usb": {"allowed": false}}});
    let policy = server.post("/policies", &root, policy).await.expect(201);
    let assign = format!("/policies/{}/assign", text(&policy["id"]));
    server.post(&assign, &root, json!({"device_ids": [laptop]})).await.expect(200);
    server.post(&format!("{device_path}/lock"), &root, json!({})).await.expect(200);
    let commands = check_in(&server, &laptop, &token, json!({"os_version": "12", "posture": {}})).await;
    assert_eq!(commands[0]["type"], "lock");
    let result = format!("{device_path}/commands/{}/result", text(&commands[0]["id"]));
    server.post(&result, &token, json!({"status": "succeeded"})).await.expect(200);
    let held = server.get(&format!("{device_path}/policy"), &token).await.expect(200);
    assert_eq!(held["policy_data"]["usb"]["allowed"], json!(false));
    server.put(&format!("{device_path}/status"), &token, json!({"status": "online"})).await.expect(200);
    let shown = server.get(&device_path, &root).await.expect(200);
    assert_eq!(
        (&shown["last_seen"], &shown["status"], &shown["os_version"]),
        (&Value::Null, &json!("pending"), &Value::Null)
    );

    // It outlives the process, and is over when it is lifted.
    let server = server.crash_and_restart().await;
    assert_eq!(server.get("/stats", &root).await.expect(200)["total"], 1);
    let lifted = server.post("/gdpr/restrict", &ann_token, json!({"restricted": false})).await.expect(200);
    assert_eq!((&lifted["restricted"], &lifted["restricted_since"]), (&json!(false), &Value::Null));
    check_in(&server, &laptop, &token, json!({"os_version": "12"})).await;
    let shown = server.get(&device_path, &root).await.expect(200);
    assert!(shown["last_seen"].is_string());
    assert_eq!(
        (&shown["status"], &shown["os_version"], &shown["restricted"]),
        (&json!("online"), &json!("12"), &json!(false))
    );
    assert_eq!(server.get("/stats", &root).await.expect(200)["total"], 2);
    let log = server.get(&format!("/audit-logs?action=gdpr.restrict&resource_id={ann}"), &root).await.expect(200);
    assert_eq!(log["total"], 2, "asking twice is one change");
}

#[tokio::test]
async fn an_objection_is_honoured_until_it_is_withdrawn() {
    let server = Server::start().await;
    let root = server.token().await;
    let (ann, ann_token) = person(&server, &root, "Ann", "user").await;
    let (laptop, token) = device(&server, &ann_token, "Laptop", Some("SN-1")).await;
    server.post("/gdpr/object", &ann_token, json!({"purpose": "breathing"})).await.expect(400);
    let first =
        server.post("/gdpr/object", &ann_token, json!({"purpose": "analytics", "reason": "a"})).await.expect(200);
    let again =
        server.post("/gdpr/object", &ann_token, json!({"purpose": "analytics", "reason": "b"})).await.expect(200);
    assert_eq!(first, again);
    assert_eq!(server.get("/stats", &root).await.expect(200)["total"], 0);
    delete(&server, "/gdpr/object/analytics", &ann_token).await.expect(204);
    delete(&server, "/gdpr/object/analytics", &ann_token).await.expect(404);
    delete(&server, "/gdpr/object/breathing", &ann_token).await.expect(404);
    assert_eq!(server.get("/stats", &root).await.expect(200)["total"], 1);

    let policy = json!({"name": "Safe", "policy_data": {"compliance": {"encryption_required": true}}});
    let policy = server.post("/policies", &root, policy).await.expect(201);
    let assign = format!("/policies/{}/assign", text(&policy["id"]));
    server.post(&assign, &root, json!({"user_ids": [ann]})).await.expect(200);
    let report = async |encrypted: bool| {
        check_in(&server, &laptop, &token, json!({"posture": {"disk_encrypted": encrypted}})).await;
        server.get(&format!("/devices/{laptop}"), &root).await.expect(200)["compliance"].clone()
    };
    let history = async || {
        let log = format!("/audit-logs?action=device.compliance.change&resource_id={laptop}");
        server.get(&log, &root).await.expect(200)["total"].as_u64().unwrap()
    };
    server.post("/gdpr/object", &ann_token, json!({"purpose": "profiling"})).await.expect(200);
    let before = history().await;
    assert_eq!(report(false).await, "non_compliant", "what holds now is known");
    assert_eq!(report(true).await, "compliant");
    // A verdict that somebody else's change leads to leaves no history either: it is recorded together with another's.
    let (other, other_token) = device(&server, &root, "Other", Some("SN-2")).await;
    server.post(&assign, &root, json!({"device_ids": [other]})).await.expect(200);
    check_in(&server, &other, &other_token, json!({"posture": {"disk_encrypted": true}})).await;
    let stricter = json!({"name": "Safe", "policy_data": {"compliance": {"passcode_min_length": 8}}});
    server.put(&format!("/policies/{}", text(&policy["id"])), &root, stricter).await.expect(200);
    let log = format!("/audit-logs?action=device.compliance.change&resource_id={other}");
    let recorded = async || {
        while server.get(&log, &root).await.expect(200)["data"][0]["details"]["from"] != "compliant" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), recorded()).await.expect("the other's is recorded");
    assert_eq!(history().await, before, "what was before is not kept");
    delete(&server, "/gdpr/object/profiling", &ann_token).await.expect(204);
    let relaxed = json!({"name": "Safe", "policy_data": {"compliance": {"encryption_required": true}}});
    server.put(&format!("/policies/{}", text(&policy["id"])), &root, relaxed).await.expect(200);
    assert_eq!(report(false).await, "non_compliant");
    assert!(history().await > before);
}

/// Deleting an account is no erasure: the log goes on naming the person. It can be asked for afterwards as well.
#[tokio::test]
async fn somebody_who_was_deleted_can_still_be_erased() {
    let server = Server::start().await;
    let root = server.token().await;
    let (gone, _) = person(&server, &root, "Goner", "user").await;
    server.delete(&format!("/users/{gone}"), &root).await.expect(204);
    let log = async || server.get("/audit-logs?page_size=100", &root).await.text.to_lowercase();
    assert!(log().await.contains("goner"));
    let path = format!("/gdpr/delete?user_id={gone}");
    let receipt = delete(&server, &path, &root).await.expect(200);
    assert_eq!((&receipt["user_id"], &receipt["devices"]), (&json!(gone), &json!([])));
    assert!(!log().await.contains("goner"));
    assert_eq!(server.get("/audit-logs/verify", &root).await.expect(200)["valid"], true);
    delete(&server, &path, &root).await.expect(404);
}
