//! What administrators ask of devices: that it is exact, kept, and not lost by mistake.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Server;

async fn create(server: &Server, admin: &str, name: &str, data: Value) -> Value {
    let policy = server.post("/policies", admin, json!({"name": name, "policy_data": data})).await.expect(201);
    assert_eq!((&policy["version"], &policy["policy_data"]), (&json!(1), &data));
    policy
}

fn path(policy: &Value) -> String {
    format!("/policies/{}", policy["id"].as_str().unwrap())
}

fn details(refusal: &Value) -> &str {
    refusal["details"].as_str().unwrap()
}

#[tokio::test]
async fn a_wrong_setting_is_refused_and_named() {
    let server = Server::start().await;
    let admin = server.token().await;
    let refused = async |data: Value| {
        let body = json!({"name": "P", "policy_data": data});
        details(&server.post("/policies", &admin, body).await.expect(400)).to_owned()
    };
    let cases = [
        (json!({"usb": {"alowed": false}}), "policy_data.usb.alowed is not a known member"),
        (json!({"ubs": {}}), "policy_data.ubs is not a known member"),
        (json!({"usb": {"allowed": "no"}}), "policy_data.usb.allowed must be null or a boolean"),
        (json!({"dlp": {"clipboard_direction": "up"}}), "policy_data.dlp.clipboard_direction must be one of none,"),
        (
            json!({"compliance": {"passcode_min_length": 0}}),
            "policy_data.compliance.passcode_min_length must be at least 1",
        ),
        (json!({"container": {"cpu_limit": 0}}), "policy_data.container.cpu_limit must be at least 0.01"),
        (
            json!({"network": {"allowed_domains": ["a.example", "b c"]}, "usb": {"whitelist": ["x"]}}),
            "policy_data.network.allowed_domains[1] is not a domain; policy_data.usb.whitelist[0] is not vendor:product",
        ),
        (
            json!({"network": {"vpn_always_on": true}}),
            "policy_data.network.vpn_always_on contradicts policy_data.network.vpn_required: ",
        ),
    ];
    for (data, message) in cases {
        let details = refused(data).await;
        assert!(details.starts_with(message), "{details}");
    }
    let long: Vec<String> = (0..1000).map(|at| format!("{at:0>4}.{}.example", "x".repeat(60))).collect();
    let apps: Vec<String> = (0..1000).map(|at| format!("{at:0>4}{}", "x".repeat(240))).collect();
    let large = json!({"network": {"allowed_domains": long}, "applications": {"managed_apps": apps}});
    assert!(refused(large).await.contains("policy_data must be at most 256 KiB of JSON"));
    server.post("/policies", &admin, json!({"name": " ", "policy_data": {}})).await.expect(400);
    assert_eq!(server.get("/policies", &admin).await.expect(200)["total"], 0);
}

#[tokio::test]
async fn every_version_is_kept_with_who_and_what_and_can_come_back() {
    let server = Server::start().await;
    let admin = server.token().await;
    let policy = create(&server, &admin, "Laptops", json!({"usb": {"allowed": true}})).await;
    let path = path(&policy);
    let second = json!({"name": "Laptops", "policy_data": {"usb": {"allowed": false, "whitelist": ["046d:c52b"]}}});
    let changed = server.put(&path, &admin, second.clone()).await.expect(200);
    assert_eq!(changed["version"], 2);
    // Saying the same again is no change.
    assert_eq!(server.put(&path, &admin, second).await.expect(200)["version"], 2);
    let body = json!({"name": "Notebooks", "policy_data": {"usb": {"allowed": false}}, "active": false});
    server.put(&path, &admin, body).await.expect(200);

    let versions = server.get(&format!("{path}/versions"), &admin).await.expect(200);
    assert_eq!(versions["total"], 3);
    let newest = &versions["data"][0];
    assert_eq!((&newest["version"], &newest["author"]["type"]), (&json!(3), &json!("user")));
    let expected = json!([
        {"path": "active", "before": true, "after": false},
        {"path": "name", "before": "Laptops", "after": "Notebooks"},
        {"path": "policy_data.usb.whitelist", "before": ["046d:c52b"], "after": null},
    ]);
    assert_eq!(newest["changes"], expected);
    let paged = server.get(&format!("{path}/versions?page=2&page_size=1"), &admin).await.expect(200);
    assert_eq!(paged["data"], json!([versions["data"][1]]), "the last of a page is compared with what comes after it");
    assert_eq!(paged["data"][0]["changes"][0]["path"], "policy_data.usb.allowed");
    assert_eq!(versions["data"][2]["changes"], json!([]));

    let rollback = format!("{path}/rollback");
    let back = server.post(&rollback, &admin, json!({"version": 1})).await.expect(200);
    assert_eq!((&back["version"], &back["name"]), (&json!(4), &json!("Laptops")));
    assert_eq!((&back["policy_data"], &back["active"]), (&policy["policy_data"], &json!(true)));
    let server = server.crash_and_restart().await;
    let kept = server.get(&format!("{path}/versions/4"), &admin).await.expect(200);
    assert_eq!((&kept["note"], &kept["policy_data"]), (&json!("rollback to 1"), &policy["policy_data"]));
    let none = server.post(&rollback, &admin, json!({"version": 9})).await.expect(400);
    assert_eq!(details(&none), "version names no version of this policy");
    server.get(&format!("{path}/versions/9"), &admin).await.expect(404);
    server.get(&format!("{path}/versions/x"), &admin).await.expect(404);

    let log = server.get("/audit-logs?resource_type=policy", &admin).await.expect(200);
    let log = log["data"].as_array().unwrap();
    let actions: Vec<&str> = log.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["policy.update", "policy.update", "policy.update", "policy.create"]);
    assert_eq!(log[1]["details"]["changes"], expected);
}

#[tokio::test]
async fn a_change_to_what_somebody_else_has_changed_since_is_refused() {
    let server = Server::start().await;
    let admin = server.token().await;
    let policy = create(&server, &admin, "P", json!({})).await;
    let path = path(&policy);
    let tag = server.get(&path, &admin).await.header("etag").to_owned();
    let send = |method: Method, path: &str| server.request(method, path).bearer_auth(&admin).header("If-Match", &tag);
    let body = json!({"name": "P", "policy_data": {"usb": {"allowed": false}}});
    server.send(send(Method::PUT, &path).json(&body)).await.expect(200);
    let other = json!({"name": "P", "policy_data": {}});
    server.send(send(Method::PUT, &path).json(&other)).await.expect(412);
    let rollback = send(Method::POST, &format!("{path}/rollback"));
    server.send(rollback.json(&json!({"version": 1}))).await.expect(412);
    server.send(send(Method::DELETE, &path)).await.expect(412);
    assert_eq!(server.get(&path, &admin).await.expect(200)["policy_data"], body["policy_data"]);
}

#[tokio::test]
async fn inheritance_never_runs_in_a_circle() {
    let server = Server::start().await;
    let admin = server.token().await;
    let put = async |policy: &Value, base: &Value| {
        let body = json!({"name": policy["name"], "policy_data": {}, "extends": base["id"]});
        server.put(&path(policy), &admin, body).await
    };
    let (base, team, person) = (
        create(&server, &admin, "Base", json!({})).await,
        create(&server, &admin, "Team", json!({})).await,
        create(&server, &admin, "Person", json!({})).await,
    );
    put(&team, &base).await.expect(200);
    put(&person, &team).await.expect(200);
    let refused = put(&base, &person).await.expect(400);
    assert_eq!(details(&refused), "extends makes a cycle: Base → Person → Team → Base");
    let refused = put(&base, &base).await.expect(400);
    assert_eq!(details(&refused), "extends makes a cycle: Base → Base");
    let refused = put(&base, &json!({"id": "01900000-0000-7000-8000-000000000000"})).await.expect(400);
    assert_eq!(details(&refused), "extends names no policy");

    // The way back is checked like the way there.
    put(&person, &Value::Null).await.expect(200);
    put(&team, &person).await.expect(200);
    let rollback = format!("{}/rollback", path(&person));
    let refused = server.post(&rollback, &admin, json!({"version": 2})).await.expect(400);
    assert_eq!(details(&refused), "extends makes a cycle: Person → Team → Person");

    let mut last = team;
    for number in 3..=16 {
        let body = json!({"name": format!("Layer {number}"), "policy_data": {}, "extends": last["id"]});
        last = server.post("/policies", &admin, body).await.expect(201);
    }
    let body = json!({"name": "Layer 17", "policy_data": {}, "extends": last["id"]});
    let refused = server.post("/policies", &admin, body).await.expect(400);
    assert_eq!(details(&refused), "extends makes a chain of more than 16 policies");
    let refused = put(&person, &base).await.expect(400);
    assert_eq!(details(&refused), "extends makes a chain of more than 16 policies");
}

#[tokio::test]
async fn what_others_lie_over_is_not_deleted_from_under_them() {
    let server = Server::start().await;
    let admin = server.token().await;
    let base = create(&server, &admin, "Base", json!({})).await;
    let other = create(&server, &admin, "Other base", json!({})).await;
    let body = json!({"name": "Team", "policy_data": {}, "extends": base["id"]});
    let team = server.post("/policies", &admin, body).await.expect(201);
    let refused = server.delete(&path(&base), &admin).await.expect(409);
    assert!(details(&refused).contains("extended by the policy \"Team\""), "{refused}");
    let reassign = |to: &Value| format!("{}?reassign_to={}", path(&base), to["id"].as_str().unwrap());
    let refused = server.delete(&reassign(&base), &admin).await.expect(400);
    assert_eq!(details(&refused), "reassign_to names no other policy");
    let refused = server.delete(&reassign(&team), &admin).await.expect(400);
    assert_eq!(details(&refused), "reassign_to makes a cycle: Team → Team");

    server.delete(&reassign(&other), &admin).await.expect(204);
    server.get(&path(&base), &admin).await.expect(404);
    server.get(&format!("{}/versions", path(&base)), &admin).await.expect(404);
    let moved = server.get(&path(&team), &admin).await.expect(200);
    assert_eq!((&moved["extends"], &moved["version"]), (&other["id"], &json!(2)));
    server.delete(&path(&team), &admin).await.expect(204);
    server.delete(&path(&other), &admin).await.expect(204);
    assert_eq!(server.get("/policies", &admin).await.expect(200)["total"], 0);
    create(&server, &admin, "Base", json!({})).await;
}

#[tokio::test]
async fn policies_are_found_by_name_and_have_one_each() {
    let server = Server::start().await;
    let admin = server.token().await;
    for name in ["Bravo", "alpha", "Über"] {
        create(&server, &admin, name, json!({})).await;
    }
    let taken = server.post("/policies", &admin, json!({"name": "ÜBER", "policy_data": {}})).await.expect(409);
    assert_eq!(details(&taken), "there is a policy \"ÜBER\" already");
    let body = json!({"name": "Delta", "policy_data": {}, "active": false});
    server.post("/policies", &admin, body).await.expect(201);
    let list = async |query: &str| {
        let page = server.get(&format!("/policies?{query}"), &admin).await.expect(200);
        let names = page["data"].as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap().to_owned());
        (page["total"].as_u64().unwrap(), names.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(list("").await, (4, "Delta Über alpha Bravo".into()));
    assert_eq!(list("sort=name").await, (4, "alpha Bravo Delta Über".into()));
    assert_eq!(list("sort=-name&page_size=1&page=2").await, (4, "Delta".into()));
    assert_eq!(list("q=%C3%BCb").await, (1, "Über".into()));
    assert_eq!(list("active=false").await, (1, "Delta".into()));
    server.get("/policies?sort=colour", &admin).await.expect(400);
}

#[tokio::test]
async fn a_preview_counts_for_everybody_and_names_devices_to_those_who_may_see_them() {
    let server = Server::start().await;
    let admin = server.token().await;
    server.enroll(&admin, "secret laptop").await;
    let policy = create(&server, &admin, "No USB", json!({"usb": {"allowed": false}})).await;
    let preview = format!("{}/preview", path(&policy));
    let key = json!({"name": "planner", "permissions": ["policies.view"]});
    let key = server.post("/api-keys", &admin, key).await.expect(201)["key"].as_str().unwrap().to_owned();
    let proposal = json!({"assign": {"default": true}});
    let shown = server.post(&preview, &admin, proposal.clone()).await.expect(200);
    assert_eq!(shown["devices"]["data"][0]["device_name"], "secret laptop");
    let counted = server.post(&preview, &key, proposal).await;
    assert!(!counted.text.contains("secret laptop"), "{}", counted.text);
    let counted = counted.expect(200);
    assert_eq!((&counted["changed_devices"], &counted["devices"]["data"]), (&json!(1), &json!([])));
}

/// What each says by itself may hold, and not together.
#[tokio::test]
async fn policies_that_lie_over_each_other_do_not_contradict() {
    let server = Server::start().await;
    let admin = server.token().await;
    let put = async |policy: &Value, data: Value, extends: Value| {
        let body = json!({"name": policy["name"], "policy_data": data, "extends": extends});
        server.put(&path(policy), &admin, body).await
    };
    let base = create(&server, &admin, "Base", json!({"usb": {"allowed": false}})).await;
    let middle = json!({"name": "Middle", "policy_data": {}, "extends": base["id"]});
    let middle = server.post("/policies", &admin, middle).await.expect(201);
    let audit = json!({"usb": {"audit_only": true}});
    let over = json!({"name": "Top", "policy_data": audit, "extends": middle["id"]});
    let refused = server.post("/policies", &admin, over.clone()).await.expect(400);
    let told = "policy_data.usb.audit_only contradicts policy_data.usb.allowed: \
        what is only noted is not prevented in \"Top\" over \"Middle\" over \"Base\"";
    assert_eq!(details(&refused), told);
    let top = create(&server, &admin, "Top", audit.clone()).await;
    let refused = put(&top, audit.clone(), middle["id"].clone()).await.expect(400);
    assert_eq!(details(&refused), told);
    // What it says itself decides.
    let both = json!({"usb": {"audit_only": true, "allowed": true}});
    put(&top, both, middle["id"].clone()).await.expect(200);
    put(&base, json!({}), Value::Null).await.expect(200);
    put(&top, audit, middle["id"].clone()).await.expect(200);

    // A base may not be changed so that what extends it contradicts itself, nor back.
    let refused = put(&base, json!({"usb": {"allowed": false}}), Value::Null).await.expect(400);
    let told = "policy_data.usb.audit_only of the policy \"Top\", which extends this one, \
        contradicts policy_data.usb.allowed: what is only noted is not prevented";
    assert_eq!(details(&refused), told);
    let refused = server.post(&format!("{}/rollback", path(&base)), &admin, json!({"version": 1})).await.expect(400);
    assert_eq!(details(&refused), told);
    // Nor may another one take its place.
    let other = create(&server, &admin, "Other", json!({"usb": {"allowed": false}})).await;
    let reassign = format!("{}?reassign_to={}", path(&base), other["id"].as_str().unwrap());
    let refused = server.delete(&reassign, &admin).await.expect(400);
    assert_eq!(details(&refused), told);

    // With a base, what is not set may come from there; if it does not, it is off.
    let vpn = json!({"network": {"vpn_always_on": true}});
    let refused = put(&middle, vpn.clone(), base["id"].clone()).await.expect(400);
    assert!(details(&refused).starts_with("policy_data.network.vpn_always_on contradicts"), "{refused}");
    put(&base, json!({"network": {"vpn_required": true}}), Value::Null).await.expect(200);
    put(&middle, vpn, base["id"].clone()).await.expect(200);
}
