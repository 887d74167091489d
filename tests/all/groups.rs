//! Groups, as an administrator arranges them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::organizations::{found, text};
use crate::server::Server;

const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

async fn create(server: &Server, admin: &str, name: &str, parent: Option<&str>) -> String {
    text(&server.post("/groups", admin, json!({"name": name, "parent_id": parent})).await.expect(201)["id"])
}

async fn names(server: &Server, admin: &str, query: &str) -> (u64, String) {
    let page = server.get(&format!("/groups?{query}"), admin).await.expect(200);
    let names: Vec<String> = page["data"].as_array().unwrap().iter().map(|group| text(&group["name"])).collect();
    (page["total"].as_u64().unwrap(), names.join(" "))
}

#[tokio::test]
async fn groups_nest_without_cycles_and_no_deeper_than_they_can_be_followed() {
    let server = Server::start().await;
    let admin = server.token().await;
    let sales = create(&server, &admin, "Sales", None).await;
    let emea = create(&server, &admin, "EMEA", Some(&sales)).await;
    let north = create(&server, &admin, "north", Some(&emea)).await;
    let put = |id: &str, body: Value| {
        let path = format!("/groups/{id}");
        let (server, admin) = (&server, &admin);
        async move { server.put(&path, admin, body).await }
    };

    for (parent, path) in [(&north, "Sales → north → EMEA → Sales"), (&sales, "Sales → Sales")] {
        let refused = put(&sales, json!({"name": "Sales", "parent_id": parent})).await.expect(400);
        assert_eq!(refused["details"], format!("parent_id makes a cycle: {path}"));
    }
    let refused = put(&sales, json!({"name": "Sales", "parent_id": NOBODY})).await.expect(400);
    assert_eq!(refused["details"], "parent_id names no group");
    server.post("/groups", &admin, json!({"name": "SALES"})).await.expect(409);
    put(&north, json!({"name": "emea"})).await.expect(409);
    for wrong in [json!({"name": ""}), json!({"name": " "}), json!({"name": "x", "parent": null})] {
        server.post("/groups", &admin, wrong).await.expect(400);
    }

    // Thirty-two levels: three above, and twenty-nine below. Neither a new group nor a move makes one more.
    let mut last = north.clone();
    for level in 4..=32 {
        last = create(&server, &admin, &format!("level {level}"), Some(&last)).await;
    }
    let deeper = server.post("/groups", &admin, json!({"name": "level 33", "parent_id": last})).await.expect(400);
    assert!(text(&deeper["details"]).contains("more than 32"), "{deeper}");
    let top = create(&server, &admin, "Top", None).await;
    let moved = put(&sales, json!({"name": "Sales", "parent_id": top})).await.expect(400);
    assert!(text(&moved["details"]).contains("more than 32"), "{moved}");
    put(&emea, json!({"name": "EMEA", "parent_id": top})).await.expect(200);

    assert_eq!(names(&server, &admin, &format!("parent_id={top}")).await, (1, "EMEA".into()));
    assert_eq!(names(&server, &admin, &format!("parent_id={sales}")).await, (0, String::new()));
    assert_eq!(names(&server, &admin, "q=nOr").await, (1, "north".into()));
    assert_eq!(names(&server, &admin, "page_size=2&page=1").await, (33, "EMEA level 10".into()));
    assert_eq!(names(&server, &admin, "page_size=3&sort=created_at").await, (33, "Sales EMEA north".into()));
    assert_eq!(names(&server, &admin, "page_size=2&sort=-name").await, (33, "Top Sales".into()));

    let refused = server.delete(&format!("/groups/{top}"), &admin).await.expect(409);
    assert!(text(&refused["details"]).ends_with(": EMEA"), "{refused}");
    server.delete(&format!("/groups/{last}"), &admin).await.expect(204);
    server.delete(&format!("/groups/{last}"), &admin).await.expect(404);
    // The name is free again, and so is the level.
    create(&server, &admin, "Level 32", None).await;
}

#[tokio::test]
async fn a_change_of_members_is_made_whole_or_not_at_all() {
    let server = Server::start().await;
    let admin = server.token().await;
    let me = text(&server.get("/auth/me", &admin).await.expect(200)["id"]);
    let stranger = text(&found(&server, &admin, "Umbrella").await["admin"]["id"]);
    let group = create(&server, &admin, "Sales", None).await;
    let (path, members) = (format!("/groups/{group}"), format!("/groups/{group}/members"));

    let wrong = json!({"members": [me, stranger, NOBODY, me]});
    let refused = server.put(&members, &admin, wrong.clone()).await.expect(400);
    let fields: Vec<&Value> = refused["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["members[1]", "members[2]", "members[3]"]);
    let renamed = json!({"name": "Renamed", "members": wrong["members"]});
    server.put(&path, &admin, renamed).await.expect(400);
    let unchanged = server.get(&path, &admin).await;
    let before = unchanged.header("etag").to_owned();
    let unchanged = unchanged.expect(200);
    assert_eq!((&unchanged["name"], &unchanged["members"]), (&json!("Sales"), &json!([])));
    let many: Vec<String> = (0..10_000).map(|n| format!("01900000-0000-7000-8000-{n:012}")).collect();
    let refused = server.put(&members, &admin, json!({"members": many})).await.expect(400);
    assert_eq!(refused["errors"].as_array().unwrap().len(), 20, "a body of that size is read, and answered briefly");

    let joined = server.put(&members, &admin, json!({"members": [me]})).await.expect(200);
    assert_eq!((&joined["members"], &joined["member_count"]), (&json!([me]), &json!(1)));
    let stale = server.request(Method::PUT, &path).bearer_auth(&admin).header("if-match", &before);
    server.send(stale.json(&json!({"name": "Too late"}))).await.expect(412);
    let stale = server.request(Method::DELETE, &path).bearer_auth(&admin).header("if-match", &before);
    server.send(stale).await.expect(412);
    let fresh = server.get(&path, &admin).await;
    let same = server.request(Method::GET, &path).bearer_auth(&admin).header("if-none-match", fresh.header("etag"));
    assert_eq!(server.send(same).await.status, 304);
    // What is left out stays; what is the same is no change, and no entry.
    server.put(&path, &admin, json!({"name": "Renamed"})).await.expect(200);
    server.put(&path, &admin, json!({"name": "Renamed", "members": [me]})).await.expect(200);

    let server = server.crash_and_restart().await;
    let kept = server.get(&path, &admin).await.expect(200);
    assert_eq!((&kept["name"], &kept["members"]), (&json!("Renamed"), &json!([me])));
    let people = server.get(&members, &admin).await.expect(200);
    assert_eq!((&people["total"], &people["data"][0]["groups"]), (&json!(1), &json!([group])));
    server.put(&members, &admin, json!({"members": []})).await.expect(200);
    server.put(&members, &admin, json!({"members": [me]})).await.expect(200);
    server.delete(&path, &admin).await.expect(204);
    assert_eq!(server.get("/auth/me", &admin).await.expect(200)["groups"], json!([]));

    let log = server.get(&format!("/audit-logs?resource_id={group}"), &admin).await.expect(200);
    let entries: Vec<(String, &Value)> =
        log["data"].as_array().unwrap().iter().map(|entry| (text(&entry["action"]), &entry["details"])).collect();
    let actions: Vec<&str> = entries.iter().map(|(action, _)| action.as_str()).collect();
    let update = "group.update";
    assert_eq!(actions, ["group.delete", update, update, update, update, "group.create"]);
    assert_eq!(entries[0].1["members_removed"], 1);
    assert_eq!((&entries[2].1["members_removed"], &entries[2].1["removed"]), (&json!(1), &json!([me])));
    assert_eq!(entries[3].1, &json!({"name": "Sales → Renamed"}));
    assert_eq!(entries[4].1, &json!({"members_added": 1, "added": [me]}));
}
