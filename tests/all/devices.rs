//! A device's life, as an administrator and the device see it.

use serde_json::{Value, json};

use crate::server::Server;

async fn check_in(server: &Server, id: &str, token: &str) -> Vec<Value> {
    let answer = server.post(&format!("/devices/{id}/checkin"), token, json!({})).await.expect(200);
    answer["commands"].as_array().unwrap().clone()
}

async fn status(server: &Server, id: &str, token: &str) -> String {
    server.get(&format!("/devices/{id}"), token).await.expect(200)["status"].as_str().unwrap().into()
}

#[tokio::test]
async fn a_wipe_is_done_when_the_device_says_so_and_not_before() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "lost-laptop").await;
    assert_eq!(status(&server, &id, &admin).await, "pending");
    assert!(check_in(&server, &id, &token).await.is_empty());
    assert_eq!(status(&server, &id, &admin).await, "online");

    let wipe = server.post(&format!("/devices/{id}/wipe"), &admin, json!({})).await.expect(200);
    assert_eq!(wipe["status"], "pending");
    // The intent outlives the process, and an answer that was lost on the way is given again.
    let server = server.crash_and_restart().await;
    for _ in 0..2 {
        let commands = check_in(&server, &id, &token).await;
        assert_eq!(commands.len(), 1);
        assert_eq!((&commands[0]["id"], &commands[0]["status"]), (&wipe["id"], &json!("delivered")));
    }
    assert_eq!(status(&server, &id, &admin).await, "online");

    let result = format!("/devices/{id}/commands/{}/result", wipe["id"].as_str().unwrap());
    for _ in 0..2 {
        let done = server.post(&result, &token, json!({"status": "succeeded"})).await.expect(200);
        assert_eq!(done["status"], "succeeded");
    }
    server.post(&result, &token, json!({"status": "failed"})).await.expect(409);
    assert_eq!(status(&server, &id, &admin).await, "wiped");
    server.post(&format!("/devices/{id}/checkin"), &token, json!({})).await.expect(403);
    server.put(&format!("/devices/{id}/status"), &admin, json!({"status": "online"})).await.expect(409);

    let log = server.get(&format!("/audit-logs?action=device.wipe&resource_id={id}"), &admin).await.expect(200);
    let states: Vec<_> =
        log["data"].as_array().unwrap().iter().map(|entry| entry["details"]["state"].clone()).collect();
    assert_eq!(states, [json!("confirmed"), json!("requested")]);
}

#[tokio::test]
async fn a_deleted_device_cannot_come_back_without_its_wipe() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "SN-1").await;
    server.post(&format!("/devices/{id}/wipe"), &admin, json!({})).await.expect(200);
    server.delete(&format!("/devices/{id}"), &admin).await.expect(204);
    server.get(&format!("/devices/{id}"), &admin).await.expect(404);
    server.post(&format!("/devices/{id}/checkin"), &token, json!({})).await.expect(401);

    let (again, token) = server.enroll(&admin, "sn-1").await;
    let commands = check_in(&server, &again, &token).await;
    assert_eq!(commands.len(), 1);
    assert_eq!(commands[0]["type"], "wipe");
}

#[tokio::test]
async fn a_forced_wipe_says_that_it_was_forced_and_ends_the_credentials() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "stolen").await;
    let wipe = server.post(&format!("/devices/{id}/wipe"), &admin, json!({"force": true})).await.expect(200);
    assert_eq!(wipe["status"], "pending", "the device has not said anything");
    assert_eq!(status(&server, &id, &admin).await, "wiped");
    server.post(&format!("/devices/{id}/checkin"), &token, json!({})).await.expect(401);
    let log = server.get(&format!("/audit-logs?action=device.wipe&resource_id={id}"), &admin).await.expect(200);
    assert_eq!(log["data"][0]["details"]["state"], "forced");
}

#[tokio::test]
async fn a_waiting_device_hears_of_a_command_at_once() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "waiting").await;
    check_in(&server, &id, &token).await;
    let (checkin, lock) = (format!("/devices/{id}/checkin?wait=30"), format!("/devices/{id}/lock"));
    let started = std::time::Instant::now();
    let waiting = server.post(&checkin, &token, json!({}));
    let locking = server.post(&lock, &admin, json!({}));
    let (answer, command) = tokio::join!(waiting, locking);
    let (answer, command) = (answer.expect(200), command.expect(200));
    assert_eq!(answer["commands"][0]["id"], command["id"]);
    assert!(started.elapsed().as_secs() < 20, "the device waited out its time");
}

#[tokio::test]
async fn a_suspended_device_gets_its_commands_and_nothing_else() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "left-the-company").await;
    let (device, set) = (format!("/devices/{id}"), format!("/devices/{id}/status"));
    server.put(&set, &admin, json!({"status": "suspended"})).await.expect(200);
    server.get(&device, &token).await.expect(403);
    server.put(&set, &token, json!({"status": "online"})).await.expect(403);
    check_in(&server, &id, &token).await;
    assert_eq!(status(&server, &id, &admin).await, "suspended");
    server.put(&set, &admin, json!({"status": "online"})).await.expect(200);
    server.get(&device, &token).await.expect(200);
}

#[tokio::test]
async fn lists_filter_sort_search_and_count() {
    let server = Server::start().await;
    let admin = server.token().await;
    let mut ids = Vec::new();
    for name in ["Bravo", "alpha", "Charlie", "Ärger"] {
        ids.push(server.enroll(&admin, name).await.0);
    }
    let list = async |query: &str| {
        let page = server.get(&format!("/devices?{query}"), &admin).await.expect(200);
        let names: Vec<String> =
            page["data"].as_array().unwrap().iter().map(|d| d["device_name"].as_str().unwrap().into()).collect();
        (page["total"].as_u64().unwrap(), names.join(" "))
    };
    assert_eq!(list("").await, (4, "Ärger Charlie alpha Bravo".into()));
    assert_eq!(list("sort=device_name").await, (4, "alpha Bravo Charlie Ärger".into()));
    assert_eq!(list("sort=created_at&page_size=2&page=2").await, (4, "Charlie Ärger".into()));
    assert_eq!(list("page=9").await, (4, String::new()));
    assert_eq!(list("q=%C3%A4RG").await, (1, "Ärger".into()));
    assert_eq!(list("status=pending&platform=linux&q=a").await.0, 3);
    assert_eq!(list("status=online").await.0, 0);
    for wrong in ["status=lost", "page=0", "page_size=101", "sort=colour", "user_id=me", "stauts=online"] {
        server.get(&format!("/devices?{wrong}"), &admin).await.expect(400);
    }
    let body = json!({"action": "suspend", "ids": [ids[0], ids[1], "01900000-0000-7000-8000-000000000000"]});
    let done = server.post("/devices/bulk", &admin, body).await.expect(200);
    assert_eq!((&done["succeeded"], &done["failed"]), (&json!(2), &json!(1)));
    assert_eq!(list("status=suspended").await.0, 2);
}

#[tokio::test]
async fn an_enrolment_token_counts_its_uses_even_when_an_answer_is_lost() {
    let server = Server::start().await;
    let admin = server.token().await;
    let made = server.post("/enrollment-tokens", &admin, json!({"name": "kiosks", "max_uses": 1})).await.expect(201);
    assert!(made["qr_svg"].as_str().unwrap().contains("<svg"));
    let token = made["token"].as_str().unwrap();
    let body = json!({"device_name": "kiosk", "platform": "android", "agent_version": "2"});
    let enroll = || {
        let request = server.request(reqwest::Method::POST, "/devices/enroll").bearer_auth(token);
        request.header("Idempotency-Key", "first-kiosk")
    };
    let first = server.send(enroll().json(&body)).await;
    let again = server.send(enroll().json(&body)).await;
    assert_eq!((again.status.as_u16(), &again.text), (201, &first.text), "the first answer is given again");
    server
        .send(enroll().json(&json!({"device_name": "other", "platform": "ios", "agent_version": "2"})))
        .await
        .expect(409);
    server.post("/devices/enroll", token, body).await.expect(401);
    let token = made["id"].as_str().unwrap();
    server.delete(&format!("/enrollment-tokens/{token}"), &admin).await.expect(204);
}

#[tokio::test]
async fn a_lost_update_is_refused_and_a_heartbeat_is_none() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "shared").await;
    check_in(&server, &id, &token).await;
    let path = format!("/devices/{id}");
    let read = server.get(&path, &admin).await;
    let tag = read.header("etag").to_owned();
    let held = server.request(reqwest::Method::GET, &path).bearer_auth(&admin).header("If-None-Match", &tag);
    assert_eq!(server.send(held).await.status, 304);
    let patch = |tag: &str, name: &str| {
        let request = server.request(reqwest::Method::PATCH, &path).bearer_auth(&admin).header("If-Match", tag);
        request.json(&json!({"device_name": name, "tags": ["a"]}))
    };
    check_in(&server, &id, &token).await;
    server.send(patch(&tag, "mine")).await.expect(200);
    server.send(patch(&tag, "theirs")).await.expect(412);
    assert_eq!(server.get(&path, &admin).await.expect(200)["device_name"], "mine");
}

#[tokio::test]
async fn a_check_in_with_an_idempotency_key_still_hears_what_waits_now() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "keyed").await;
    let check_in = async || {
        let request = server.request(reqwest::Method::POST, &format!("/devices/{id}/checkin")).bearer_auth(&token);
        server.send(request.header("Idempotency-Key", "one").json(&json!({"os_version": "12"}))).await.expect(200)
    };
    assert_eq!(check_in().await["commands"], json!([]));
    server.post(&format!("/devices/{id}/lock"), &admin, json!({})).await.expect(200);
    assert_eq!(check_in().await["commands"][0]["type"], "lock");
}

#[tokio::test]
async fn what_was_just_read_shows_its_change_in_the_very_next_answer() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, _) = server.enroll(&admin, "before").await;
    let path = format!("/devices/{id}");
    let names = async || {
        let page = server.get("/devices", &admin).await.expect(200);
        page["data"].as_array().unwrap().iter().map(|device| device["device_name"].clone()).collect::<Vec<_>>()
    };
    server.get(&path, &admin).await.expect(200);
    assert_eq!(names().await, ["before"]);
    let rename = server.request(reqwest::Method::PATCH, &path).bearer_auth(&admin);
    server.send(rename.json(&json!({"device_name": "after"}))).await.expect(200);
    assert_eq!(names().await, ["after"]);
    assert_eq!(server.get(&path, &admin).await.expect(200)["device_name"], "after");
    server.delete(&path, &admin).await.expect(204);
    server.get(&path, &admin).await.expect(404);
    assert!(names().await.is_empty());
}
