//! Keys with which programs act for people.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use zero::clock::{Clock, ManualClock, Time};
use zero::config::Config;
use zero::domain::Services;
use zero::domain::api_keys::NewApiKey;
use zero::domain::authz::{Permission, Permissions, Role};
use zero::domain::op::{Op, Principal, UserPrincipal};
use zero::domain::setup::{NewAppliance, initialise};
use zero::error::Error;
use zero::ids::Ids;
use zero::model::role::RoleRef;
use zero::model::user::{User, UserStatus};
use zero::store::audit::AuditEvent;
use zero::store::write::{Audited, Stamp};
use zero::store::{Store, api_keys, users};

use crate::server::Server;

#[tokio::test]
async fn a_key_does_what_it_was_made_for_and_nothing_else_until_it_is_deleted() {
    let server = Server::start_with(&[("ZERO_STORE_HEARTBEAT_FLUSH_SECONDS", "1")]).await;
    let admin = server.token().await;
    let me = server.get("/auth/me", &admin).await.expect(200)["id"].clone();
    let may = json!(["devices.view", "devices.enroll", "devices.edit", "api_keys.edit"]);
    let made = server.post("/api-keys", &admin, json!({"name": "ci", "permissions": may})).await.expect(201);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("zak_") && key.len() == 4 + 43 && made["prefix"] == key[..8]);
    assert_eq!((&made["created_by"], &made["role"]), (&me, &Value::Null));
    let days = |view: &Value| {
        let time = |name: &str| Time::parse(view[name].as_str().unwrap()).unwrap();
        time("expires_at").since(time("created_at")).as_secs() / 86_400
    };
    assert_eq!(days(&made), 90);

    // It acts for its maker, within its permissions, and is no person.
    let (device, _) = server.enroll(key, "built-by-ci").await;
    assert_eq!(server.get(&format!("/devices/{device}"), key).await.expect(200)["user_id"], me);
    let token = server.post("/enrollment-tokens", key, json!({"name": "kiosks"})).await.expect(201);
    assert_eq!(token["created_by"], me);
    server.delete(&format!("/devices/{device}"), key).await.expect(403);
    let refused = server.get("/auth/me", key).await.expect(403);
    assert!(refused["details"].as_str().unwrap().contains("signed-in users"));

    // It makes no key that may do more than itself, and nobody a key that may do something unheard of.
    let make =
        |by: &str, body: Value| server.send(server.request(Method::POST, "/api-keys").bearer_auth(by).json(&body));
    make(key, json!({"name": "more", "permissions": ["devices.view", "devices.delete"]})).await.expect(403);
    make(key, json!({"name": "more", "role": "help_desk"})).await.expect(403);
    let lesser = json!({"name": "less", "permissions": ["devices.view"], "expires_in_days": 3650});
    assert_eq!(days(&make(key, lesser).await.expect(201)), 3650);
    let unknown = make(&admin, json!({"name": "x", "permissions": ["devices.view", "devices.eat"]})).await.expect(400);
    assert_eq!(unknown["errors"][0]["field"], "permissions[1]", "{unknown}");
    for wrong in [
        json!({"name": "x"}),
        json!({"name": "x", "role": "auditor", "permissions": ["devices.view"]}),
        json!({"name": "x", "permissions": []}),
        json!({"name": "x", "role": "nobody"}),
        json!({"name": "x", "role": "auditor", "expires_in_days": 0}),
        json!({"name": "x", "role": "auditor", "expires_in_days": 3651}),
    ] {
        make(&admin, wrong).await.expect(400);
    }

    // The log names the key; the list never shows it, and says when it was last used, also after a crash.
    let log = server.get("/audit-logs?action=device.enroll", &admin).await.expect(200);
    assert_eq!(log["data"][0]["actor"], json!({"type": "api_key", "id": made["id"], "name": "ci"}));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let server = server.crash_and_restart().await;
    let list = server.get("/api-keys", &admin).await.expect(200);
    let used: Vec<_> = list["data"].as_array().unwrap().iter().map(|key| key["last_used_at"].is_string()).collect();
    assert_eq!((&list["total"], used), (&json!(2), vec![false, true]));
    assert!(!list.to_string().contains(key));

    server.delete(&format!("/api-keys/{}", made["id"].as_str().unwrap()), &admin).await.expect(204);
    server.get("/devices", key).await.expect(401);
    let log = server.get("/audit-logs?action=api_key.", &admin).await.expect(200);
    let actions: Vec<_> = log["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["api_key.delete", "api_key.create", "api_key.create"]);
}

/// An appliance in this process, on a clock that only the test moves, with an administrator beside the super admin.
struct Appliance {
    services: Services,
    admin: User,
    now: Time,
    _folder: TempDir,
}

impl Appliance {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (config, now) = (Config::default(), Time::from_unix(1_800_000_000));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
        let ids = Arc::new(Ids::new(clock.clone()));
        let store = Store::open(&folder.path().join("zero.redb"), &config.store, ids.clone(), now).unwrap();
        let text = String::from;
        let (organization, name, password) = (text("Acme"), text("Ada"), text("correct horse battery"));
        let new = NewAppliance { organization, name, email: text("ada@acme.example"), password };
        let root = initialise(&store, new, now).await.unwrap().user;
        let role = RoleRef::BuiltIn(Role::Admin);
        let admin = User { id: ids.next(), email: text("bob@acme.example"), role, ..root };
        let services = Services::new(store, config, ids, clock, Box::new(|_, _, _, _| Err(Error::Stale)));
        let appliance = Self { services, admin, now, _folder: folder };
        appliance.put(appliance.admin.clone()).await;
        appliance
    }

    async fn put(&self, user: User) {
        let change = move |tx: &mut zero::store::write::Tx| {
            users::put(tx, user.clone())?;
            let event = AuditEvent::new("user.update").of(user.organization_id).on("user", user.id, &user.name);
            Ok(Audited::new((), event))
        };
        self.services.store.write(Stamp::system(self.now), change).await.unwrap();
    }

    fn op(&self) -> Op {
        let user = &self.admin;
        let principal = Principal::User(UserPrincipal {
            id: user.id,
            organization_id: user.organization_id,
            name: user.name.as_str().into(),
            session_id: uuid().into(),
            permissions: Role::Admin.permissions(),
            must_enroll_mfa: false,
        });
        Op {
            principal,
            request_id: uuid().into(),
            peer: [127, 0, 0, 1].into(),
            entrance: 0,
            now: self.now,
            idempotency: None,
        }
    }

    async fn key(&self, permissions: Permissions) -> Result<String, Error> {
        let permissions = Some(permissions);
        let new = NewApiKey { name: "key".into(), role: None, permissions, expires_in_days: None };
        Ok(self.services.create_api_key(&self.op(), new).await?.key)
    }
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

#[tokio::test]
async fn a_key_ends_with_its_time_and_shrinks_and_ends_with_its_maker() {
    let appliance = Appliance::new().await;
    let (services, now) = (&appliance.services, appliance.now);
    let day = Duration::from_secs(86_400);
    assert!(matches!(appliance.key(Permissions::ALL).await, Err(Error::Forbidden(_))), "more than its maker may");
    let wanted = Permissions::of(&[Permission::DevicesView, Permission::DevicesDelete]);
    let key = appliance.key(wanted).await.unwrap();
    let may = |at| services.identify(&key, at).map(|principal| principal.permissions());
    assert_eq!(may(now.plus(90 * day - Duration::from_secs(1))), Ok(wanted));
    assert!(may(now.plus(90 * day)).is_err());

    let admin = &appliance.admin;
    appliance.put(User { role: RoleRef::BuiltIn(Role::Auditor), ..admin.clone() }).await;
    assert_eq!(may(now), Ok(Permissions::of(&[Permission::DevicesView])));
    appliance.put(User { status: UserStatus::Suspended, ..admin.clone() }).await;
    assert!(may(now).is_err());
    appliance.put(admin.clone()).await;
    assert_eq!(may(now), Ok(wanted));

    let (organization, user) = (admin.organization_id, admin.clone());
    let delete = move |tx: &mut zero::store::write::Tx| {
        let count = api_keys::delete_of(tx, organization, user.id)?;
        users::delete(tx, &user)?;
        Ok(Audited::new(count, AuditEvent::new("user.delete").of(organization)))
    };
    assert_eq!(services.store.write(Stamp::system(now), delete).await, Ok(1));
    assert!(may(now).is_err());
}

#[tokio::test]
async fn an_organization_has_a_bounded_number_of_keys() {
    let appliance = Appliance::new().await;
    let keys = (0..1_010).map(|_| appliance.key(Permissions::of(&[Permission::DevicesView])));
    let made = futures_util::future::join_all(keys).await;
    assert_eq!(made.iter().filter(|key| key.is_ok()).count(), 1_000);
    assert!(made.iter().flat_map(|key| key.as_ref().err()).all(|error| matches!(error, Error::Conflict(_))));
}
