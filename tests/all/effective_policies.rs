//! What holds on a device and why, as an administrator sees it and as the device hears of it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::organizations::{log_in, text};
use crate::server::{PASSWORD, Server};

pub async fn policy(server: &Server, admin: &str, name: &str, data: Value) -> String {
    text(&server.post("/policies", admin, json!({"name": name, "policy_data": data})).await.expect(201)["id"])
}

pub async fn group(server: &Server, admin: &str, name: &str, parent: Option<&str>, members: &[&str]) -> String {
    let body = json!({"name": name, "parent_id": parent, "members": members});
    text(&server.post("/groups", admin, body).await.expect(201)["id"])
}

/// A user who has no password yet.
pub async fn person(server: &Server, admin: &str, name: &str) -> String {
    let body = json!({"name": name, "email": format!("{}@acme.example", name.to_lowercase()), "role": "user"});
    text(&server.post("/users", admin, body).await.expect(201)["id"])
}

/// A device that enrols with a token which brings along what `token` says.
pub async fn device(server: &Server, admin: &str, name: &str, token: Value) -> (String, String) {
    let mut body = json!({"name": name});
    body.as_object_mut().unwrap().extend(token.as_object().unwrap().clone());
    let token = server.post("/enrollment-tokens", admin, body).await.expect(201);
    server.enroll(&text(&token["token"]), name).await
}

pub async fn assign(server: &Server, admin: &str, policy: &str, targets: Value) {
    server.post(&format!("/policies/{policy}/assign"), admin, targets).await.expect(200);
}

pub async fn unassign(server: &Server, admin: &str, policy: &str, targets: Value) {
    server.post(&format!("/policies/{policy}/unassign"), admin, targets).await.expect(200);
}

async fn put(server: &Server, admin: &str, policy: &str, body: Value) {
    server.put(&format!("/policies/{policy}"), admin, body).await.expect(200);
}

pub async fn effective(server: &Server, token: &str, device: &str) -> Value {
    server.get(&format!("/devices/{device}/policy"), token).await.expect(200)
}

async fn tag(server: &Server, token: &str, device: &str) -> String {
    server.get(&format!("/devices/{device}/policy"), token).await.header("etag").to_owned()
}

/// The value of `usb.allowed`, the policy that says so, and what that is assigned to.
async fn usb(server: &Server, admin: &str, device: &str) -> (bool, String, String) {
    let found = effective(server, admin, device).await;
    let source = &found["sources"]["usb.allowed"];
    let assigned = &source["assigned_to"];
    let name = assigned.get("name").map(|name| format!(" {}", text(name))).unwrap_or_default();
    let value = found["policy_data"]["usb"]["allowed"].as_bool().unwrap();
    (value, text(&source["policy_name"]), format!("{}{name}", text(&assigned["type"])))
}

fn says(value: bool, policy: &str, assigned: &str) -> (bool, String, String) {
    (value, policy.into(), assigned.into())
}

#[tokio::test]
async fn usb_is_blocked_for_marketing_and_not_for_engineering_and_here_is_why() {
    let server = Server::start().await;
    let admin = server.token().await;
    let mut laptops = Vec::new();
    for name in ["Mia", "Eve"] {
        let email = format!("{name}@acme.example");
        let user = json!({"name": name, "email": email, "role": "user", "password": PASSWORD});
        let user = text(&server.post("/users", &admin, user).await.expect(201)["id"]);
        let (id, token) = server.enroll(&log_in(&server, &email).await, &format!("{name}'s laptop")).await;
        laptops.push((user, id, token));
    }
    let [(mia, mias, mias_token), (eve, eves, _)] = &laptops[..] else { unreachable!() };
    let company = group(&server, &admin, "Company", None, &[]).await;
    let marketing = group(&server, &admin, "Marketing", Some(&company), &[mia]).await;
    group(&server, &admin, "Engineering", Some(&company), &[eve]).await;

    let everyone = json!({"usb": {"allowed": true}, "dlp": {"screenshot_allowed": true}});
    let everyone = policy(&server, &admin, "Everyone", everyone).await;
    assign(&server, &admin, &everyone, json!({"default": true})).await;
    let base = policy(&server, &admin, "Base", json!({"network": {"dns_filtering": true}})).await;
    let body = json!({"name": "No USB", "policy_data": {"usb": {"allowed": false}}, "extends": base});
    let no_usb = text(&server.post("/policies", &admin, body).await.expect(201)["id"]);
    assign(&server, &admin, &no_usb, json!({"group_ids": [marketing]})).await;

    let found = effective(&server, &admin, mias).await;
    let settings = json!({"usb": {"allowed": false}, "dlp": {"screenshot_allowed": true},
        "network": {"dns_filtering": true}});
    assert_eq!(found["policy_data"], settings);
    let in_marketing = json!({"type": "group", "id": marketing, "name": "Marketing"});
    let from_no_usb = json!({"policy_id": no_usb, "policy_name": "No USB", "assigned_to": in_marketing});
    assert_eq!(found["sources"]["usb.allowed"], from_no_usb);
    let inherited =
        json!({"policy_id": base, "policy_name": "Base", "inherited_by": no_usb, "assigned_to": in_marketing});
    assert_eq!(found["sources"]["network.dns_filtering"], inherited);
    let default = json!({"policy_id": everyone, "policy_name": "Everyone", "assigned_to": {"type": "default"}});
    assert_eq!(found["sources"]["dlp.screenshot_allowed"], default);
    assert_eq!((&found["policy_name"], &found["version"]), (&json!("No USB"), &json!(1)));
    assert_eq!(effective(&server, mias_token, mias).await, found, "the device sees what its administrator sees");
    assert_eq!(usb(&server, &admin, eves).await, says(true, "Everyone", "default"));

    // What is nearer decides: a group before the one around it, the user before groups, the device before all.
    let broad =
        policy(&server, &admin, "Broad", json!({"usb": {"allowed": true}, "dlp": {"print_allowed": false}})).await;
    assign(&server, &admin, &broad, json!({"group_ids": [company]})).await;
    assert_eq!(usb(&server, &admin, eves).await, says(true, "Broad", "group Company"));
    assert_eq!(usb(&server, &admin, mias).await, says(false, "No USB", "group Marketing"));
    let found = effective(&server, &admin, mias).await;
    assert_eq!(found["sources"]["dlp.print_allowed"]["assigned_to"]["name"], "Company");
    let own = policy(&server, &admin, "Mia's own", json!({"usb": {"allowed": true}})).await;
    assign(&server, &admin, &own, json!({"user_ids": [mia]})).await;
    assert_eq!(usb(&server, &admin, mias).await, says(true, "Mia's own", "user Mia"));
    let kiosk = policy(&server, &admin, "Kiosk", json!({"usb": {"allowed": false}})).await;
    assign(&server, &admin, &kiosk, json!({"device_ids": [mias]})).await;
    assert_eq!(usb(&server, &admin, mias).await, says(false, "Kiosk", "device"));
    let off = json!({"name": "Kiosk", "policy_data": {"usb": {"allowed": false}}, "active": false});
    put(&server, &admin, &kiosk, off).await;
    assert_eq!(
        usb(&server, &admin, mias).await,
        says(true, "Mia's own", "user Mia"),
        "what is not active is passed over"
    );
    let order = effective(&server, &admin, mias).await;
    let order: Vec<String> = order["assignments"].as_array().unwrap().iter().map(|a| text(&a["policy_name"])).collect();
    assert_eq!(order, ["Mia's own", "No USB", "Broad", "Everyone"]);

    // The tag is another one exactly when a setting is.
    let before = tag(&server, &admin, eves).await;
    let everything = json!({"usb": {"allowed": true}, "dlp": {"print_allowed": false}});
    put(&server, &admin, &broad, json!({"name": "Broad", "description": "new", "policy_data": everything})).await;
    let path = format!("/devices/{eves}/policy");
    let same = server.request(Method::GET, &path).bearer_auth(&admin).header("if-none-match", &before);
    assert_eq!(server.send(same).await.status, 304);
    put(&server, &admin, &broad, json!({"name": "Broad", "policy_data": {"usb": {"allowed": false}}})).await;
    assert_ne!(tag(&server, &admin, eves).await, before);
    let server = server.crash_and_restart().await;
    assert_eq!(usb(&server, &admin, eves).await, says(false, "Broad", "group Company"));
}

/// For each policy: the count that it shows is the length of the list, and these are the lengths.
async fn assert_counts(server: &Server, admin: &str, policies: &[(&str, u64)], when: &str) {
    for (policy, expected) in policies {
        let shown = server.get(&format!("/policies/{policy}"), admin).await.expect(200);
        let listed = server.get(&format!("/devices?policy_id={policy}"), admin).await.expect(200);
        assert_eq!(shown["device_count"], listed["total"], "{when}: {}", shown["name"]);
        assert_eq!(listed["total"], *expected, "{when}: {}", shown["name"]);
    }
    let groups = server.get("/groups", admin).await.expect(200);
    for group in groups["data"].as_array().unwrap() {
        let listed = server.get(&format!("/devices?group_id={}", text(&group["id"])), admin).await.expect(200);
        assert_eq!(group["device_count"], listed["total"], "{when}: {}", group["name"]);
    }
}

#[tokio::test]
async fn a_policy_counts_the_devices_that_it_is_in_force_on_whatever_changes() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (mia, eve) = (person(&server, &admin, "Mia").await, person(&server, &admin, "Eve").await);
    let (mias, _) = device(&server, &admin, "m1", json!({"user_id": mia})).await;
    device(&server, &admin, "m2", json!({"user_id": mia})).await;
    device(&server, &admin, "e1", json!({"user_id": eve})).await;
    let outer = group(&server, &admin, "Outer", None, &[]).await;
    let inner = group(&server, &admin, "Inner", Some(&outer), &[&mia]).await;
    let (one, other) =
        (policy(&server, &admin, "One", json!({})).await, policy(&server, &admin, "Other", json!({})).await);
    let counts =
        async |first, second, when| assert_counts(&server, &admin, &[(&one, first), (&other, second)], when).await;

    counts(0, 0, "at first").await;
    assign(&server, &admin, &one, json!({"default": true})).await;
    counts(3, 0, "with a default").await;
    // A group carries its policy as one of its members.
    let path = format!("/groups/{outer}");
    let grouped = server.put(&path, &admin, json!({"name": "Outer", "policy_id": other})).await.expect(200);
    assert_eq!((&grouped["policy_id"], &grouped["device_count"]), (&json!(other), &json!(2)));
    counts(1, 2, "with a group").await;
    server.put(&format!("/groups/{inner}/members"), &admin, json!({"members": [eve]})).await.expect(200);
    counts(2, 1, "with another member").await;
    server.put(&path, &admin, json!({"name": "Renamed"})).await.expect(200);
    counts(2, 1, "what a change leaves out stays").await;
    let owner = server.request(Method::PATCH, &format!("/devices/{mias}")).bearer_auth(&admin);
    server.send(owner.json(&json!({"user_id": eve}))).await.expect(200);
    counts(1, 2, "with another owner").await;
    let (kiosk, _) = device(&server, &admin, "k1", json!({"group_id": inner})).await;
    let (till, _) = device(&server, &admin, "t1", json!({"policy_id": other})).await;
    counts(1, 4, "with what enrolment tokens bring along").await;
    let source = async |device| effective(&server, &admin, device).await["assignments"][0]["assigned_to"].clone();
    assert_eq!(source(&kiosk).await, json!({"type": "group", "id": outer, "name": "Renamed"}));
    assert_eq!(source(&till).await, json!({"type": "device"}));
    unassign(&server, &admin, &other, json!({"device_ids": [till]})).await;
    counts(2, 3, "without an assignment").await;
    server.delete(&format!("/devices/{kiosk}"), &admin).await.expect(204);
    counts(2, 2, "without a device").await;
    server.delete(&format!("/users/{eve}"), &admin).await.expect(204);
    counts(2, 0, "without a user").await;
    server.put(&path, &admin, json!({"name": "Renamed", "policy_id": null})).await.expect(200);
    assign(&server, &admin, &other, json!({"user_ids": [mia]})).await;
    counts(1, 1, "with a user's own").await;

    let server = server.crash_and_restart().await;
    assert_counts(&server, &admin, &[(&one, 1), (&other, 1)], "after a crash").await;
    server.put(&path, &admin, json!({"name": "x", "policy_id": inner})).await.expect(400);
    server.post("/groups", &admin, json!({"name": "x", "policy_id": inner})).await.expect(400);
    // Whoever may edit groups but not assign policies keeps what there is.
    let role = json!({"name": "Clerk", "permissions": ["users.view", "users.edit"]});
    server.post("/roles", &admin, role).await.expect(201);
    let key = server.post("/api-keys", &admin, json!({"name": "clerk", "role": "Clerk"})).await.expect(201);
    let clerk = text(&key["key"]);
    server.put(&path, &clerk, json!({"name": "Renamed again"})).await.expect(200);
    server.put(&path, &clerk, json!({"name": "x", "policy_id": one})).await.expect(403);
    server.post("/groups", &clerk, json!({"name": "x", "policy_id": one})).await.expect(403);
}

#[tokio::test]
async fn a_device_hears_of_a_change_at_once_and_of_nobody_elses() {
    let server = Server::start().await;
    let admin = server.token().await;
    let first = policy(&server, &admin, "First", json!({"usb": {"allowed": true}})).await;
    let second = policy(&server, &admin, "Second", json!({"usb": {"allowed": true}, "dlp": {"watermark": true}})).await;
    let (touched, touched_token) = device(&server, &admin, "touched", json!({"policy_id": first})).await;
    let (other, other_token) = device(&server, &admin, "other", json!({"policy_id": second})).await;
    let check_in = async |device: &str, token: &str, wait: u64, body: Value| {
        let started = Instant::now();
        let path = format!("/devices/{device}/checkin?wait={wait}");
        let answer = server.post(&path, token, body).await.expect(200);
        (text(&answer["policy_etag"]), started.elapsed())
    };
    let (held, _) = check_in(&touched, &touched_token, 0, json!({})).await;
    let (others, _) = check_in(&other, &other_token, 0, json!({})).await;
    assert_eq!(held, tag(&server, &admin, &touched).await);
    assert_ne!(held, others);
    let (_, took) = check_in(&touched, &touched_token, 30, json!({"policy_etag": others})).await;
    assert!(took < Duration::from_secs(10), "with other settings than it should have, a device waited {took:?}");
    let (same, took) = check_in(&touched, &touched_token, 1, json!({"policy_etag": held})).await;
    assert!(same == held && took >= Duration::from_secs(1), "with nothing new it was answered after {took:?}");
    server.post(&format!("/devices/{touched}/checkin"), &touched_token, json!({"policy_etag": "x"})).await.expect(400);

    let saving = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        put(&server, &admin, &first, json!({"name": "First", "policy_data": {"usb": {"allowed": false}}})).await;
    };
    let ((new, took), (unchanged, waited), ()) = tokio::join!(
        check_in(&touched, &touched_token, 30, json!({"policy_etag": held})),
        check_in(&other, &other_token, 2, json!({"policy_etag": others})),
        saving
    );
    assert!(new != held && took < Duration::from_secs(10), "the change arrived after {took:?}");
    assert!(unchanged == others && waited >= Duration::from_secs(2), "woken for nothing after {waited:?}");

    check_in(&touched, &touched_token, 0, json!({"policy_version": 2})).await;
    check_in(&touched, &touched_token, 0, json!({"policy_version": 2})).await;
    assert_eq!(server.get(&format!("/devices/{touched}"), &admin).await.expect(200)["policy_version"], 2);
    let log = server.get("/audit-logs?action=device.policy.sync", &admin).await.expect(200);
    assert_eq!((&log["total"], &log["data"][0]["details"]), (&json!(1), &json!({"version": 2})));
    assert_eq!(log["data"][0]["resource"]["id"], json!(touched));
}

#[tokio::test]
async fn whether_a_device_complies_is_the_same_wherever_it_is_asked() {
    let server = Server::start().await;
    let admin = server.token().await;
    let rules = json!({"compliance": {"encryption_required": true, "passcode_min_length": 6}});
    let rules = policy(&server, &admin, "Rules", rules).await;
    assign(&server, &admin, &rules, json!({"default": true})).await;
    let mut devices = Vec::new();
    for (name, posture) in [
        ("good", json!({"disk_encrypted": true, "passcode_set": true, "passcode_length": 8})),
        ("bad", json!({"disk_encrypted": false, "passcode_set": true, "passcode_length": 4})),
        ("silent", json!({"passcode_set": true, "passcode_length": 8})),
    ] {
        let (id, token) = device(&server, &admin, name, json!({})).await;
        server.post(&format!("/devices/{id}/checkin"), &token, json!({"posture": posture})).await.expect(200);
        devices.push(id);
    }
    let verdict = async |at: usize| {
        let device = server.get(&format!("/devices/{}", devices[at]), &admin).await.expect(200);
        (text(&device["compliance"]), device["compliance_reasons"].clone())
    };
    let counts = async |compliant: u64, non_compliant: u64, unknown: u64| {
        let stats = server.get("/stats", &admin).await.expect(200);
        for (name, count) in [("compliant", compliant), ("non_compliant", non_compliant), ("unknown", unknown)] {
            let listed = server.get(&format!("/devices?compliance={name}"), &admin).await.expect(200);
            assert_eq!((name, &listed["total"]), (name, &json!(count)));
            assert_eq!((name, stats["by_compliance"][name].as_u64().unwrap_or(0)), (name, count));
        }
    };
    assert_eq!(verdict(0).await, ("compliant".into(), json!([])));
    let reasons = json!([
        "the disk is not encrypted (compliance.encryption_required)",
        "the passcode has 4 characters, 6 are required (compliance.passcode_min_length)"
    ]);
    assert_eq!(verdict(1).await, ("non_compliant".into(), reasons));
    assert_eq!(verdict(2).await, ("unknown".into(), json!(["disk encryption has not been reported"])));
    counts(1, 1, 1).await;

    put(&server, &admin, &rules, json!({"name": "Rules", "policy_data": {"compliance": {"passcode_min_length": 10}}}))
        .await;
    let (good, reasons) = verdict(0).await;
    assert_eq!((good.as_str(), reasons.as_array().unwrap().len()), ("non_compliant", 1));
    counts(0, 3, 0).await;
    let path = format!("/audit-logs?action=device.compliance.change&resource_id={}", devices[0]);
    let started = Instant::now();
    let entry = loop {
        let log = server.get(&path, &admin).await.expect(200);
        if log["data"][0]["details"]["to"] == "non_compliant" {
            break log["data"][0].clone();
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "nobody noted that a device fell out of compliance: {log}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(entry["details"]["from"], "compliant");
    assert_eq!(entry["details"]["reasons"], reasons);
    unassign(&server, &admin, &rules, json!({"default": true})).await;
    counts(0, 0, 3).await;
}

#[tokio::test]
async fn a_policy_in_use_is_not_deleted_but_replaced() {
    let server = Server::start().await;
    let admin = server.token().await;
    let mia = person(&server, &admin, "Mia").await;
    let (laptop, _) = device(&server, &admin, "m1", json!({"user_id": mia})).await;
    let sales = group(&server, &admin, "Sales", None, &[&mia]).await;
    let old = policy(&server, &admin, "Old", json!({"usb": {"allowed": false}})).await;
    let new = policy(&server, &admin, "New", json!({"usb": {"allowed": true}})).await;
    assign(&server, &admin, &old, json!({"user_ids": [mia], "group_ids": [sales], "default": true})).await;
    let refused = server.delete(&format!("/policies/{old}"), &admin).await.expect(409);
    let details = text(&refused["details"]);
    for use_ in ["the group \"Sales\"", "the user \"mia@acme.example\"", "the organization's default"] {
        assert!(details.contains(use_), "{details} does not name {use_}");
    }
    assert_eq!(usb(&server, &admin, &laptop).await, says(false, "Old", "user Mia"));
    server.delete(&format!("/policies/{old}?reassign_to={new}"), &admin).await.expect(204);
    assert_eq!(usb(&server, &admin, &laptop).await, says(true, "New", "user Mia"));
    assert_eq!(server.get(&format!("/groups/{sales}"), &admin).await.expect(200)["policy_id"], json!(new));
    server.get(&format!("/policies/{old}"), &admin).await.expect(404);
}
