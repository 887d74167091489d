//! Roles that an organization makes of permissions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::organizations::{found, log_in, text};
use crate::server::Server;

#[tokio::test]
async fn nobody_makes_a_role_of_more_than_they_hold() {
    let server = Server::start().await;
    let root = server.token().await;
    let other = found(&server, &root, "Umbrella").await;
    let admin = log_in(&server, &text(&other["admin"]["email"])).await;

    let built_in = server.get("/roles", &admin).await.expect(200);
    let of =
        |name: &str| built_in["data"].as_array().unwrap().iter().find(|role| role["name"] == name).unwrap().clone();
    assert_eq!((&built_in["total"], &of("admin")["user_count"]), (&json!(5), &json!(1)));
    assert_eq!((&of("super_admin")["id"], &of("super_admin")["user_count"]), (&Value::Null, &json!(0)));
    assert_eq!(of("user")["permissions"], json!(["devices.enroll"]));

    let wrong = json!({"name": "Mover", "permissions": ["devices.view", "devices.fly"]});
    let refused = server.post("/roles", &admin, wrong).await.expect(400);
    assert_eq!(refused["errors"][0]["field"], "permissions[1]");
    let too_much = json!({"name": "Mover", "permissions": ["devices.view", "organizations.admin", "system.admin"]});
    let refused = server.post("/roles", &admin, too_much.clone()).await.expect(403);
    assert!(text(&refused["details"]).ends_with(": organizations.admin, system.admin"), "{refused}");

    let body =
        json!({"name": "Mover", "description": "Moves devices", "permissions": ["devices.view", "devices.edit"]});
    let made = server.post("/roles", &admin, body.clone()).await;
    let path = made.header("location").strip_prefix("/api/v1").unwrap().to_owned();
    let made = made.expect(201);
    assert_eq!((&made["built_in"], &made["user_count"]), (&json!(false), &json!(0)));
    server.put(&path, &admin, too_much).await.expect(403);
    for taken in ["mOver", "Admin", "super_admin"] {
        server.post("/roles", &admin, json!({"name": taken, "permissions": []})).await.expect(409);
    }
    let before = server.get(&path, &admin).await;
    let change = json!({"name": "Carrier", "permissions": ["devices.view", "audit.view"]});
    let changed = server.put(&path, &admin, change.clone()).await.expect(200);
    assert_eq!(changed["permissions"], json!(["devices.view", "audit.view"]));
    let stale = server.request(Method::PUT, &path).bearer_auth(&admin).header("if-match", before.header("etag"));
    server.send(stale.json(&change)).await.expect(412);
    assert_eq!(server.get("/roles?page=2&page_size=5", &admin).await.expect(200)["data"], json!([changed]));
    assert_eq!(server.get("/roles", &root).await.expect(200)["total"], 5, "other organizations do not see it");
    server.put("/roles/admin", &admin, body).await.expect(404);
    server.delete(&path, &admin).await.expect(204);
    server.delete(&path, &admin).await.expect(404);

    let log = server.get("/audit-logs?action=role.", &admin).await.expect(200);
    let details: Vec<&Value> = log["data"].as_array().unwrap().iter().map(|entry| &entry["details"]).collect();
    assert_eq!(details[0], &json!({"removed": ["devices.view", "audit.view"]}));
    let change = json!({"name": "Mover → Carrier", "description": "Moves devices → ",
        "added": ["audit.view"], "removed": ["devices.edit"]});
    assert_eq!((details.len(), details[1]), (3, &change));
}
