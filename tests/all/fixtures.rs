//! The data file of every release, which every later version opens: see CONTRIBUTING.md for how one is made.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Server;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What people would miss, by list: what neither time nor a later version changes of it. Keys and tokens end some day.
async fn contents(server: &Server, token: &str) -> Value {
    const LISTS: &[(&str, &[&str])] = &[
        ("/devices", &["id", "device_name", "platform", "serial_number", "user_id", "tags"]),
        ("/users", &["id", "name", "email", "role", "status"]),
        ("/groups", &["id", "name"]),
        ("/policies", &["id", "name", "policy_data"]),
        ("/roles", &["id", "name", "permissions"]),
        ("/webhooks", &["id", "url", "events"]),
    ];
    let mut all = serde_json::Map::new();
    for (list, members) in LISTS {
        let page = server.get(&format!("{list}?page_size=100"), token).await.expect(200);
        // Roles that are built in are a version's own.
        let rows = page["data"].as_array().unwrap().iter().filter(|row| !row["id"].is_null());
        let kept = |row: &Value| members.iter().map(|member| (member.to_string(), row[member].clone())).collect();
        let mut rows: Vec<serde_json::Map<String, Value>> = rows.map(kept).collect();
        rows.sort_by_key(|row| row["id"].to_string());
        all.insert(list.to_string(), json!(rows));
    }
    let devices = server.get("/devices?page_size=100", token).await.expect(200)["data"].as_array().unwrap().clone();
    for device in devices {
        let policy =
            server.get(&format!("/devices/{}/policy", device["id"].as_str().unwrap()), token).await.expect(200);
        all.insert(format!("policy of {}", device["device_name"]), policy["settings"].clone());
    }
    all.into()
}

#[tokio::test]
async fn a_data_file_of_every_release_is_opened_with_everything_in_it() {
    let mut opened = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let packed = entry.unwrap().path();
        let Some(version) = packed.file_name().unwrap().to_str().unwrap().strip_suffix(".redb.lz4") else { continue };
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join("data")).unwrap();
        let file = lz4_flex::block::decompress_size_prepended(&fs::read(&packed).unwrap()).unwrap();
        fs::write(home.path().join("data/zero.redb"), file).unwrap();
        let server = Server::on(home, Vec::new()).await;
        let token = server.token().await;
        let expected: Value =
            serde_json::from_str(&fs::read_to_string(folder().join(format!("{version}.json"))).unwrap()).unwrap();
        assert_eq!(contents(&server, &token).await, expected, "{version}");
        let proof = server.get("/audit-logs/verify", &token).await.expect(200);
        assert_eq!(proof["valid"], true, "{version}: {proof}");
        opened += 1;
    }
    assert!(opened > 0, "there is no file of any release");
}

/// Not a test: makes the file of this version, for later ones.
#[tokio::test]
#[ignore = "makes the fixture of a release"]
async fn make_the_data_file_of_this_release() {
    let mut server = Server::start().await;
    let token = server.token().await;
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let user = json!({"name": "Mia", "email": "mia@acme.example", "role": "user"});
    let mia = id(&server.post("/users", &token, user).await.expect(201));
    let group = json!({"name": "Marketing", "members": [mia]});
    let group = id(&server.post("/groups", &token, group).await.expect(201));
    let role = json!({"name": "Night watch", "permissions": ["devices.view"]});
    server.post("/roles", &token, role).await.expect(201);
    for name in ["Everybody", "No USB"] {
        let data = json!({"usb": {"allowed": name == "Everybody"}});
        let policy =
            id(&server.post("/policies", &token, json!({"name": name, "policy_data": data})).await.expect(201));
        let to = if name == "Everybody" { json!({"default": true}) } else { json!({"group_ids": [group]}) };
        server.post(&format!("/policies/{policy}/assign"), &token, to).await.expect(200);
    }
    server
        .post("/webhooks", &token, json!({"url": "http://192.168.1.20:9000/", "events": ["device.*"]}))
        .await
        .expect(201);
    server.post("/api-keys", &token, json!({"name": "Script", "role": "auditor"})).await.expect(201);
    server.post("/enrollment-tokens", &token, json!({"name": "Warehouse"})).await.expect(201);
    for name in ["laptop", "kiosk", "phone"] {
        let (device, key) = server.enroll(&token, name).await;
        server.post(&format!("/devices/{device}/checkin"), &key, json!({})).await.expect(200);
        let change = json!({"tags": [name], "user_id": mia});
        server
            .send(
                server.request(reqwest::Method::PATCH, &format!("/devices/{device}")).bearer_auth(&token).json(&change),
            )
            .await
            .expect(200);
    }
    let (gone, _) = server.enroll(&token, "gone").await;
    server.delete(&format!("/devices/{gone}"), &token).await.expect(204);
    let contents = contents(&server, &token).await;
    server.signal("TERM");
    assert!(server.process.wait().unwrap().success());
    let file = fs::read(server.folder.path().join("data/zero.redb")).unwrap();
    fs::create_dir_all(folder()).unwrap();
    let name = |ending: &str| folder().join(format!("{}.{ending}", env!("CARGO_PKG_VERSION")));
    fs::write(name("redb.lz4"), lz4_flex::block::compress_prepend_size(&file)).unwrap();
    fs::write(name("json"), serde_json::to_string_pretty(&contents).unwrap() + "\n").unwrap();
}
