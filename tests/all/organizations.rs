//! Organizations beside each other on one appliance: made, changed, deleted, and blind to one another.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{PASSWORD, Server};

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).into()
}

/// Makes an organization, with `admin@<name>.example` as its admin.
pub async fn found(server: &Server, root: &str, name: &str) -> Value {
    let email = format!("admin@{}.example", name.to_lowercase());
    let admin = json!({"name": "First Admin", "email": email, "password": PASSWORD});
    server.post("/organizations", root, json!({"name": name, "admin": admin})).await.expect(201)
}

pub async fn log_in(server: &Server, email: &str) -> String {
    let body = json!({"email": email, "password": PASSWORD});
    text(&server.send(server.request(Method::POST, "/auth/login").json(&body)).await.expect(200)["token"])
}

#[tokio::test]
async fn an_organization_is_its_admins_and_its_tier_is_the_appliances() {
    let server = Server::start().await;
    let root = server.token().await;
    let wrong = json!({"name": "Umbrella", "admin": {"name": " ", "email": "nowhere", "password": "short"}});
    let refused = server.post("/organizations", &root, wrong).await.expect(400);
    let fields: Vec<&Value> = refused["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["admin.name", "admin.email", "admin.password"]);
    let other = found(&server, &root, "Umbrella").await;
    assert_eq!((&other["tier"], &other["admin"]["status"]), (&json!("standard"), &json!("active")));
    let path = format!("/organizations/{}", text(&other["id"]));
    let again = json!({"name": "Copy", "admin": {"name": "A", "email": "ADMIN@umbrella.example"}});
    server.post("/organizations", &root, again).await.expect(409);

    let pending = json!({"name": "Initech", "admin": {"name": "A", "email": "a@initech.example"}});
    let pending = server.post("/organizations", &root, pending).await.expect(201);
    assert_eq!(pending["admin"]["status"], "pending");
    let accept = json!({"token": pending["admin"]["invitation"]["token"], "password": PASSWORD});
    server.send(server.request(Method::POST, "/auth/links/accept").json(&accept)).await.expect(204);
    log_in(&server, "a@initech.example").await;

    let admin = log_in(&server, &text(&other["admin"]["email"])).await;
    let own = server.get("/organization", &admin).await;
    let tag = own.header("etag").to_owned();
    assert_eq!(own.expect(200)["id"], other["id"]);
    server.put("/organization", &admin, json!({"name": "Umbrella", "tier": "enterprise"})).await.expect(400);
    server.put("/organization", &admin, json!({"name": "Umbrella", "settings": {"colour": 1}})).await.expect(400);
    for (method, path) in [(Method::GET, "/organizations"), (Method::PUT, &path), (Method::DELETE, &path)] {
        let request = server.request(method, path).bearer_auth(&admin).json(&json!({"tier": "enterprise"}));
        server.send(request).await.expect(403);
    }
    let renamed = server.put("/organization", &admin, json!({"name": "Umbrella SE", "settings": {}})).await.expect(200);
    assert_eq!(renamed["name"], "Umbrella SE");
    let stale = server.request(Method::PUT, "/organization").bearer_auth(&admin).header("if-match", tag);
    server.send(stale.json(&json!({"name": "Too late"}))).await.expect(412);

    // A tier changes the limit of the very next request.
    assert_eq!(server.get("/auth/me", &admin).await.header("x-ratelimit-limit"), "1000");
    server.put(&path, &root, json!({"tier": "enterprise"})).await.expect(200);
    assert_eq!(server.get("/auth/me", &admin).await.header("x-ratelimit-limit"), "10000");
    server.enroll(&admin, "laptop").await;
    let all = server.get("/organizations", &root).await.expect(200);
    assert_eq!((&all["total"], &all["data"][1]["name"]), (&json!(3), &json!("Umbrella SE")));
    assert_eq!((&all["data"][1]["user_count"], &all["data"][1]["device_count"]), (&json!(1), &json!(1)));
    for log in [&admin, &root] {
        let log = server.get("/audit-logs?action=organization.update&page_size=1", log).await.expect(200);
        assert_eq!(log["data"][0]["details"], json!({"tier": "standard → enterprise"}), "both sides see it");
    }
}

#[tokio::test]
async fn a_deleted_organization_is_gone_for_good_and_every_key_to_it_with_it() {
    let server = Server::start().await;
    let root = server.token().await;
    let own = text(&server.get("/organization", &root).await.expect(200)["id"]);
    let other = found(&server, &root, "Umbrella").await;
    let (id, email) = (text(&other["id"]), text(&other["admin"]["email"]));
    let path = format!("/organizations/{id}");
    let session = log_in(&server, &email).await;
    let (device, device_token) = server.enroll(&session, "laptop").await;
    let token = server.post("/enrollment-tokens", &session, json!({"name": "kiosks"})).await.expect(201);
    server.post("/groups", &session, json!({"name": "Sales", "members": [other["admin"]["id"]]})).await.expect(201);
    let invited = json!({"name": "Invited", "email": "invited@umbrella.example", "role": "user"});
    let invited = server.post("/users", &session, invited).await.expect(201);
    server.delete(&format!("/organizations/{own}"), &root).await.expect(409);

    // The device waits for a command; the deletion ends its wait.
    let checkin = format!("/devices/{device}/checkin");
    server.post(&checkin, &device_token, json!({})).await.expect(200);
    let waiting = format!("{checkin}?wait=30");
    let started = std::time::Instant::now();
    let deleting = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        server.delete(&path, &root).await.expect(204)
    };
    let (waited, _) = tokio::join!(server.post(&waiting, &device_token, json!({})), deleting);
    waited.expect(401);
    assert!(started.elapsed().as_secs() < 20, "the device waited out its time");

    server.delete(&path, &root).await.expect(404);
    server.get("/auth/me", &session).await.expect(401);
    server.post(&checkin, &device_token, json!({})).await.expect(401);
    let body = json!({"device_name": "late", "platform": "linux", "agent_version": "1"});
    server.post("/devices/enroll", &text(&token["token"]), body).await.expect(401);
    let accept = json!({"token": invited["invitation"]["token"], "password": PASSWORD});
    server.send(server.request(Method::POST, "/auth/links/accept").json(&accept)).await.expect(401);
    let server = server.crash_and_restart().await;
    let log_in = json!({"email": email, "password": PASSWORD});
    server.send(server.request(Method::POST, "/auth/login").json(&log_in)).await.expect(401);
    assert_eq!(server.get("/organizations", &root).await.expect(200)["total"], 1);
    let log = server.get("/audit-logs?action=organization.delete", &root).await.expect(200);
    let details = &log["data"][0]["details"];
    assert_eq!((&log["data"][0]["resource"]["id"], &log["total"]), (&json!(id), &json!(1)));
    assert_eq!((&details["users"], &details["devices"], &details["groups"]), (&json!(2), &json!(1), &json!(1)));
    // The e-mail is free again.
    let again = found(&server, &root, "Umbrella").await;
    assert_ne!(again["id"], json!(id));
}

/// Every route with an id in its path is called with another organization's, and every list is read.
#[tokio::test]
async fn what_belongs_to_another_organization_does_not_exist() {
    let server = Server::start().await;
    let root = server.token().await;
    let me = server.get("/auth/me", &root).await.expect(200);
    let (device, device_token) = server.enroll(&root, "laptop").await;
    let lock = server.post(&format!("/devices/{device}/lock"), &root, json!({})).await.expect(200);
    let token = server.post("/enrollment-tokens", &root, json!({"name": "kiosks"})).await.expect(201);
    let group = server.post("/groups", &root, json!({"name": "Sales"})).await.expect(201);
    let role = server.post("/roles", &root, json!({"name": "Mover", "permissions": []})).await.expect(201);
    let session = &server.get("/auth/sessions", &root).await.expect(200)["data"][0];
    let policy = server.post("/policies", &root, json!({"name": "Base", "policy_data": {}})).await.expect(201);
    let key = server.post("/api-keys", &root, json!({"name": "script", "role": "user"})).await.expect(201);
    let hook = json!({"url": "https://192.0.2.7/", "events": ["user.deleted"]});
    let hook = server.post("/webhooks", &root, hook).await.expect(201);
    let test = server.post(&format!("/webhooks/{}/test", text(&hook["id"])), &root, json!({})).await.expect(202);
    let id_of = |path: &str| match path {
        path if path.starts_with("/devices/") => Some(json!(device)),
        path if path.starts_with("/groups/") => Some(group["id"].clone()),
        path if path.starts_with("/roles/") => Some(role["id"].clone()),
        path if path.starts_with("/users/") => Some(me["id"].clone()),
        path if path.starts_with("/policies/") => Some(policy["id"].clone()),
        path if path.starts_with("/api-keys/") => Some(key["id"].clone()),
        path if path.starts_with("/enrollment-tokens/") => Some(token["id"].clone()),
        path if path.starts_with("/webhooks/") => Some(hook["id"].clone()),
        path if path.starts_with("/auth/sessions/") => Some(session["id"].clone()),
        // For those who run the appliance, for whom all organizations exist.
        path if path.starts_with("/organizations/") => None,
        // For oneself; `user_id` is tried beside the other rights.
        path if path.starts_with("/gdpr/") => None,
        _ => panic!("say which id goes into {path}"),
    };
    let body_of = |method: &Method, path: &str| match (method.as_str(), path) {
        ("PUT", "/devices/{id}/status") => json!({"status": "online"}),
        ("POST", "/devices/{id}/commands/{cid}/result") => json!({"status": "succeeded"}),
        ("PUT", "/groups/{id}") => json!({"name": "Stolen"}),
        ("PUT", "/groups/{id}/members") => json!({"members": []}),
        ("PUT", "/users/{id}") => json!({"name": "x", "email": "x@umbrella.example", "role": "user"}),
        ("PUT", "/policies/{id}") => json!({"name": "Stolen", "policy_data": {}}),
        ("POST", "/policies/{id}/rollback") => json!({"version": 1}),
        ("POST", "/policies/{id}/assign" | "/policies/{id}/unassign") => json!({"default": true}),
        ("PUT", "/roles/{id}") => json!({"name": "Stolen", "permissions": []}),
        ("POST", "/devices/{id}/certificate") => json!({"csr": "none"}),
        _ => json!({}),
    };
    let ours = [&json!(device), &lock["id"], &token["id"], &group["id"], &role["id"], &me["id"], &session["id"]];
    let ours = [&ours[..], &[&policy["id"], &key["id"], &hook["id"], &test["id"]]].concat();

    let other = found(&server, &root, "Umbrella").await;
    let admin = log_in(&server, &text(&other["admin"]["email"])).await;
    let (_, foreign_device) = server.enroll(&admin, "spy").await;
    let document = server.send(server.request(Method::GET, "/openapi.json")).await.expect(200);
    let (mut walked, mut read) = (0, 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            if !path.contains('{') {
                if method == Method::GET {
                    let reply = server.get(path, &admin).await;
                    // Who founded the organization stands in its log.
                    let is_founder = |id: &Value| path == "/audit-logs" && *id == me["id"];
                    let shown = ours.iter().find(|id| reply.text.contains(&text(id)) && !is_founder(id));
                    assert!(shown.is_none(), "{path} shows {shown:?}: {}", reply.text);
                    read += 1;
                }
                continue;
            }
            let Some(id) = id_of(path) else { continue };
            let concrete = path.replace("{id}", &text(&id)).replace("{cid}", &text(&lock["id"]));
            let concrete = concrete.replace("{version}", "1").replace("{did}", &text(&test["id"]));
            // Devices report for themselves, so that a foreign one is who tries that.
            let is_renewal = path.ends_with("/certificate") && method == Method::POST;
            let is_devices = path.ends_with("/checkin") || path.ends_with("/result") || is_renewal;
            let by = if is_devices { &foreign_device } else { &admin };
            let request = server.request(method.clone(), &concrete).bearer_auth(by);
            let reply = server.send(request.json(&body_of(&method, path))).await;
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text);
            walked += 1;
        }
    }
    assert!(walked >= 20 && read >= 10, "only {walked} routes and {read} lists were tried");

    // Nor can it be named from inside.
    for (path, body) in [
        ("/groups", json!({"name": "x", "parent_id": group["id"]})),
        ("/groups", json!({"name": "x", "members": [me["id"]]})),
        ("/enrollment-tokens", json!({"name": "x", "user_id": me["id"]})),
        ("/enrollment-tokens", json!({"name": "x", "policy_id": policy["id"]})),
        ("/enrollment-tokens", json!({"name": "x", "group_id": group["id"]})),
        ("/policies", json!({"name": "x", "policy_data": {}, "extends": policy["id"]})),
    ] {
        server.post(path, &admin, body).await.expect(400);
    }
    let bulk = server.post("/devices/bulk", &admin, json!({"action": "suspend", "ids": [device]})).await.expect(200);
    assert_eq!((&bulk["succeeded"], &bulk["failed"]), (&json!(0), &json!(1)));
    for filter in [format!("/devices?user_id={}", text(&me["id"])), format!("/groups?parent_id={}", text(&group["id"]))]
    {
        assert_eq!(server.get(&filter, &admin).await.expect(200)["total"], 0);
    }
    let own = server.post("/policies", &admin, json!({"name": "Own", "policy_data": {}})).await.expect(201);
    let assign = format!("/policies/{}/assign", text(&own["id"]));
    for targets in [
        json!({"device_ids": [device], "default": true}),
        json!({"user_ids": [other["admin"]["id"], me["id"]]}),
        json!({"group_ids": [group["id"]]}),
    ] {
        let refused = server.post(&assign, &admin, targets).await.expect(400);
        assert!(text(&refused["details"]).contains("names no"), "{refused}");
    }
    let unassigned = server.get(&format!("/policies/{}", text(&own["id"])), &admin).await.expect(200);
    assert_eq!(unassigned["device_count"], 0, "a list that is partly foreign changes nothing at all");
    // All of it is as it was.
    let unchanged = server.get(&format!("/devices/{device}"), &device_token).await.expect(200);
    assert_eq!(unchanged["status"], "pending");
    assert_eq!(server.get(&format!("/groups/{}", text(&group["id"])), &root).await.expect(200), group);
    assert_eq!(server.get(&format!("/roles/{}", text(&role["id"])), &root).await.expect(200), role);
    server.get("/auth/me", &root).await.expect(200);
}
