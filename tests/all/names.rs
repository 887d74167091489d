//! A name is any text of up to 200 characters, and comes back exactly.

use reqwest::Method;
use serde_json::{Value, json};

use crate::organizations::text;
use crate::server::{PASSWORD, Server};

fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "<script>alert(1)</script>",
        "\u{202e}مرحبا بالعالم",
        "👩‍💻🏳️‍🌈",
        "e\u{301}\u{323}\u{308}, not é",
        "  leading and trailing  ",
        "two\nlines\r\n\tand a tab",
        "nul\u{0}inside",
        "\"quotes\", 'more' & \\ {{braces}} ${x} %00 ../..",
        "=1+1;DROP TABLE users--",
    ]
    .map(Into::into)
    .to_vec();
    names.push("𝔘".repeat(200));
    names
}

/// Makes what `body` says, gives it each name again where it can be changed, and reads each back.
async fn assert_kept(server: &Server, admin: &str, collection: &str, field: &str, body: impl Fn(usize, &str) -> Value) {
    for (at, name) in names().iter().enumerate() {
        let made = server.post(collection, admin, body(at, name)).await.expect(201);
        assert_eq!(made[field], json!(name), "{collection}");
        let collection = collection.trim_end_matches("/enroll");
        let list = server.get(&format!("{collection}?page_size=100"), admin).await;
        assert_eq!(list.header("content-type"), "application/json", "no browser takes it for a page");
        let list = list.expect(200);
        let listed = list["data"].as_array().unwrap().iter().find(|one| one["id"] == made["id"]).unwrap();
        assert_eq!(listed[field], json!(name), "{collection}");
    }
    for wrong in ["", " \n\t", &"x".repeat(201)] {
        let refused = server.post(collection, admin, body(99, wrong)).await.expect(400);
        let is_named = refused["errors"].as_array().unwrap().iter().any(|error| error["field"] == field);
        assert!(is_named, "{collection}: {refused}");
    }
}

#[tokio::test]
async fn whatever_people_call_things_comes_back_exactly() {
    let server = Server::start().await;
    let admin = server.token().await;
    assert_kept(
        &server,
        &admin,
        "/devices/enroll",
        "device_name",
        |_, name| json!({"device_name": name, "platform": "linux", "agent_version": "1"}),
    )
    .await;
    assert_kept(
        &server,
        &admin,
        "/users",
        "name",
        |at, name| json!({"name": name, "email": format!("user{at}@acme.example"), "role": "user"}),
    )
    .await;
    assert_kept(&server, &admin, "/groups", "name", |_, name| json!({"name": name})).await;
    assert_kept(&server, &admin, "/roles", "name", |_, name| json!({"name": name, "permissions": []})).await;
    assert_kept(&server, &admin, "/policies", "name", |_, name| json!({"name": name, "policy_data": {}})).await;
    assert_kept(&server, &admin, "/api-keys", "name", |_, name| json!({"name": name, "role": "user"})).await;
    assert_kept(&server, &admin, "/enrollment-tokens", "name", |_, name| json!({"name": name})).await;
    assert_kept(
        &server,
        &admin,
        "/organizations",
        "name",
        |at, name| json!({"name": name, "admin": {"name": name, "email": format!("admin{at}@elsewhere.example")}}),
    )
    .await;

    // Changed names, tags, and the names that the audit log keeps.
    let (device, _) = server.enroll(&admin, "laptop").await;
    let path = format!("/devices/{device}");
    for name in names() {
        let tag: String = name.chars().take(64).collect();
        let change = server.request(Method::PATCH, &path).bearer_auth(&admin);
        let change = change.json(&json!({"device_name": name, "tags": [tag]}));
        let changed = server.send(change).await.expect(200);
        assert_eq!((&changed["device_name"], &changed["tags"]), (&json!(name), &json!([tag])));
        for path in ["/auth/me", "/organization"] {
            assert_eq!(server.put(path, &admin, json!({"name": name})).await.expect(200)["name"], json!(name));
        }
        let log = server.get("/audit-logs?page_size=1", &admin).await.expect(200);
        assert_eq!(log["data"][0]["resource"]["name"], json!(name));
    }
    for path in ["/auth/me", "/organization"] {
        server.put(path, &admin, json!({"name": " "})).await.expect(400);
    }
    // Found by any part, and still the same after a crash.
    let server = server.crash_and_restart().await;
    for (at, name) in names().iter().enumerate() {
        for path in ["/users", "/groups", "/policies", "/devices"] {
            let query = server.request(Method::GET, path).bearer_auth(&admin).query(&[("q", name)]);
            let found = server.send(query).await.expect(200);
            assert!(found["total"].as_u64().unwrap() >= 1, "{path}: name {at} is not found");
        }
    }
    let again = json!({"email": crate::server::EMAIL, "password": PASSWORD});
    let login = server.send(server.request(Method::POST, "/auth/login").json(&again)).await.expect(200);
    assert_eq!(text(&login["user"]["name"]), *names().last().unwrap());
}
