//! Who may call what: every route, tried by everybody, on what is theirs, on what is somebody else's, and on what is
//! another organization's.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use zero::domain::authz::{Permission, Permissions, Role};

use crate::organizations::{found, log_in, text};
use crate::server::{PASSWORD, Server};

/// What everybody is answered, stated once. A route that is not here fails the tests.
///
/// `needs` says what lets people in: `anyone`, `user` (being signed in), `device` (being one), or a permission. After a
/// `/` stands who else is let in: users for what is their `own`, a `device` for itself.
///
/// | answer | on what is one's own | on somebody else's | on another organization's |
/// |--------|----------------------|--------------------|---------------------------|
/// | ok     | let in               | let in             | 404                       |
/// | own!   | let in               | 403                | 404                       |
/// | own    | let in               | 404                | 404                       |
/// | 401    | 401                  | 401                | 401                       |
/// | 403    | 403                  | 403                | 403, as for any id at all |
///
/// The columns are those of [`CALLERS`]: the built-in roles, a device, an admin's API key, an enrolment token, nobody.
///
/// Whoever can see a thing is told that they may not change it (403); for whoever cannot, it does not exist (404).
/// Lists are `own` where they show no more than what is one's own.
const TABLE: &str = "
                                              needs                   supr admn audi desk user dev  key  tok  none

GET    /health                                anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
GET    /openapi.json                          anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
GET    /setup                                 anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
POST   /setup                                 anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
GET    /events                                devices.view/own        ok   ok   ok   ok   own  403  ok   403  401
GET    /stats                                 devices.view            ok   ok   ok   ok   403  403  ok   403  401
GET    /system                                system.admin            ok   403  403  403  403  403  403  403  401
GET    /system/ca                             anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
GET    /system/ca.pem                         anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
GET    /system/ca.der                         anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
GET    /system/ca.mobileconfig                anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
GET    /system/doctor                         system.admin            ok   403  403  403  403  403  403  403  401
GET    /system/settings                       system.admin            ok   403  403  403  403  403  403  403  401
PUT    /system/settings                       system.admin            ok   403  403  403  403  403  403  403  401
POST   /system/settings/confirm               system.admin            ok   403  403  403  403  403  403  403  401
GET    /system/tls                            system.admin            ok   403  403  403  403  403  403  403  401
POST   /system/backup                         system.admin            ok   403  403  403  403  403  403  403  401
GET    /system/backups                        system.admin            ok   403  403  403  403  403  403  403  401
GET    /system/update                         system.admin            ok   403  403  403  403  403  403  403  401
POST   /system/update                         system.admin            ok   403  403  403  403  403  403  403  401

POST   /auth/login                            anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
POST   /auth/refresh                          anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
POST   /auth/links/accept                     anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
POST   /auth/password/reset                   anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
POST   /auth/mfa/verify                       anyone                  ok   ok   ok   ok   ok   ok   ok   ok   ok
POST   /auth/mfa/totp                         user                    ok   ok   ok   ok   ok   403  403  403  401
POST   /auth/mfa/totp/confirm                 user                    ok   ok   ok   ok   ok   403  403  403  401
DELETE /auth/mfa/totp                         user                    ok   ok   ok   ok   ok   403  403  403  401
GET    /auth/me                               user                    ok   ok   ok   ok   ok   403  403  403  401
PUT    /auth/me                               user                    ok   ok   ok   ok   ok   403  403  403  401
POST   /auth/password                         user                    ok   ok   ok   ok   ok   403  403  403  401
POST   /auth/logout                           user                    ok   ok   ok   ok   ok   403  403  403  401
GET    /auth/sessions                         user                    ok   ok   ok   ok   ok   403  403  403  401
DELETE /auth/sessions/{id}                    user                    own  own  own  own  own  403  403  403  401

GET    /api-keys                              api_keys.edit           ok   ok   403  403  403  403  ok   403  401
POST   /api-keys                              api_keys.edit           ok   ok   403  403  403  403  ok   403  401
DELETE /api-keys/{id}                         api_keys.edit           ok   ok   403  403  403  403  ok   403  401

GET    /devices                               devices.view/own        ok   ok   ok   ok   own  403  ok   403  401
POST   /devices/enroll                        devices.enroll          ok   ok   403  ok   ok   403  ok   ok   401
POST   /devices/bulk                          devices.actions         ok   ok   403  ok   403  403  ok   403  401
GET    /devices/{id}                          devices.view/own/device ok   ok   ok   ok   own  own  ok   403  401
PATCH  /devices/{id}                          devices.edit/own        ok   ok   own! own! own  403  ok   403  401
DELETE /devices/{id}                          devices.delete          ok   ok   403  403  403  403  ok   403  401
PUT    /devices/{id}/status                   devices.actions/device  ok   ok   403  ok   403  own  ok   403  401
GET    /devices/{id}/policy                   devices.view/own/device ok   ok   ok   ok   own  own  ok   403  401
GET    /devices/{id}/commands                 devices.view/own        ok   ok   ok   ok   own  403  ok   403  401
POST   /devices/{id}/lock                     devices.actions/own     ok   ok   own! ok   own  403  ok   403  401
POST   /devices/{id}/unlock                   devices.actions         ok   ok   403  ok   403  403  ok   403  401
POST   /devices/{id}/wipe                     devices.delete/own      ok   ok   own! own! own  403  ok   403  401
POST   /devices/{id}/checkin                  device                  403  403  403  403  403  own  403  403  401
POST   /devices/{id}/certificate              device                  403  403  403  403  403  own  403  403  401
DELETE /devices/{id}/certificate              devices.actions         ok   ok   403  ok   403  403  ok   403  401
POST   /devices/{id}/commands/{cid}/result    device                  403  403  403  403  403  own  403  403  401
GET    /enrollment-tokens                     devices.view            ok   ok   ok   ok   403  403  ok   403  401
POST   /enrollment-tokens                     devices.edit            ok   ok   403  403  403  403  ok   403  401
DELETE /enrollment-tokens/{id}                devices.edit            ok   ok   403  403  403  403  ok   403  401

GET    /policies                              policies.view           ok   ok   ok   403  403  403  ok   403  401
POST   /policies                              policies.edit           ok   ok   403  403  403  403  ok   403  401
GET    /policies/{id}                         policies.view           ok   ok   ok   403  403  403  ok   403  401
PUT    /policies/{id}                         policies.edit           ok   ok   403  403  403  403  ok   403  401
DELETE /policies/{id}                         policies.edit           ok   ok   403  403  403  403  ok   403  401
GET    /policies/{id}/versions                policies.view           ok   ok   ok   403  403  403  ok   403  401
GET    /policies/{id}/versions/{version}      policies.view           ok   ok   ok   403  403  403  ok   403  401
POST   /policies/{id}/rollback                policies.edit           ok   ok   403  403  403  403  ok   403  401
POST   /policies/{id}/preview                 policies.view           ok   ok   ok   403  403  403  ok   403  401
POST   /policies/{id}/assign                  policies.assign         ok   ok   403  403  403  403  ok   403  401
POST   /policies/{id}/unassign                policies.assign         ok   ok   403  403  403  403  ok   403  401

GET    /users                                 users.view              ok   ok   ok   ok   403  403  ok   403  401
POST   /users                                 users.edit              ok   ok   403  403  403  403  ok   403  401
POST   /users/import                          users.edit              ok   ok   403  403  403  403  ok   403  401
GET    /users/{id}                            users.view/own          ok   ok   ok   ok   own  403  ok   403  401
PUT    /users/{id}                            users.edit              ok   ok   403  403  403  403  ok   403  401
DELETE /users/{id}                            users.edit              ok   ok   403  403  403  403  ok   403  401
POST   /users/{id}/suspend                    users.edit              ok   ok   403  403  403  403  ok   403  401
POST   /users/{id}/resume                     users.edit              ok   ok   403  403  403  403  ok   403  401
POST   /users/{id}/reset-password             users.support           ok   ok   403  ok   403  403  ok   403  401
POST   /users/{id}/revoke-sessions            users.support           ok   ok   403  ok   403  403  ok   403  401
GET    /groups                                users.view              ok   ok   ok   ok   403  403  ok   403  401
POST   /groups                                users.edit              ok   ok   403  403  403  403  ok   403  401
GET    /groups/{id}                           users.view              ok   ok   ok   ok   403  403  ok   403  401
PUT    /groups/{id}                           users.edit              ok   ok   403  403  403  403  ok   403  401
DELETE /groups/{id}                           users.edit              ok   ok   403  403  403  403  ok   403  401
GET    /groups/{id}/members                   users.view              ok   ok   ok   ok   403  403  ok   403  401
PUT    /groups/{id}/members                   users.edit              ok   ok   403  403  403  403  ok   403  401
GET    /roles                                 users.view              ok   ok   ok   ok   403  403  ok   403  401
POST   /roles                                 roles.edit              ok   ok   403  403  403  403  ok   403  401
GET    /roles/{id}                            users.view              ok   ok   ok   ok   403  403  ok   403  401
PUT    /roles/{id}                            roles.edit              ok   ok   403  403  403  403  ok   403  401
DELETE /roles/{id}                            roles.edit              ok   ok   403  403  403  403  ok   403  401

GET    /organization                          user                    ok   ok   ok   ok   ok   403  403  403  401
PUT    /organization                          organization.edit       ok   ok   403  403  403  403  ok   403  401
POST   /organization/confirm                  organization.edit       ok   ok   403  403  403  403  ok   403  401
GET    /organizations                         organizations.admin     ok   403  403  403  403  403  403  403  401
POST   /organizations                         organizations.admin     ok   403  403  403  403  403  403  403  401
GET    /organizations/{id}                    organizations.admin     ok   403  403  403  403  403  403  403  401
PUT    /organizations/{id}                    organizations.admin     ok   403  403  403  403  403  403  403  401
DELETE /organizations/{id}                    organizations.admin     ok   403  403  403  403  403  403  403  401

GET    /webhooks                              webhooks.view           ok   ok   ok   403  403  403  ok   403  401
POST   /webhooks                              webhooks.edit           ok   ok   403  403  403  403  ok   403  401
GET    /webhooks/{id}                         webhooks.view           ok   ok   ok   403  403  403  ok   403  401
PUT    /webhooks/{id}                         webhooks.edit           ok   ok   403  403  403  403  ok   403  401
DELETE /webhooks/{id}                         webhooks.edit           ok   ok   403  403  403  403  ok   403  401
POST   /webhooks/{id}/test                    webhooks.edit           ok   ok   403  403  403  403  ok   403  401
POST   /webhooks/{id}/rotate-secret           webhooks.edit           ok   ok   403  403  403  403  ok   403  401
GET    /webhooks/{id}/deliveries              webhooks.view           ok   ok   ok   403  403  403  ok   403  401
POST   /webhooks/{id}/deliveries/{did}/redeliver webhooks.edit        ok   ok   403  403  403  403  ok   403  401

GET    /gdpr/export                           gdpr.admin/own          ok   ok   own  own  own  403  ok   403  401
DELETE /gdpr/delete                           gdpr.admin/own          ok   ok   own  own  own  403  ok   403  401
POST   /gdpr/restrict                         gdpr.admin/own          ok   ok   own  own  own  403  ok   403  401
POST   /gdpr/object                           gdpr.admin/own          ok   ok   own  own  own  403  ok   403  401
DELETE /gdpr/object/{purpose}                 gdpr.admin/own          ok   ok   own  own  own  403  ok   403  401
GET    /gdpr/erasures                         gdpr.admin              ok   ok   403  403  403  403  ok   403  401

GET    /audit-logs                            audit.view              ok   ok   ok   403  403  403  ok   403  401
GET    /audit-logs/export                     audit.export            ok   ok   ok   403  403  403  ok   403  401
GET    /audit-logs/verify                     audit.view              ok   ok   ok   403  403  403  ok   403  401
GET    /audit-logs/checkpoints                audit.view              ok   ok   ok   403  403  403  ok   403  401
POST   /audit-logs/checkpoints                audit.export            ok   ok   ok   403  403  403  ok   403  401
GET    /audit-logs/checkpoints/key            audit.view              ok   ok   ok   403  403  403  ok   403  401
";

/// The columns of answers, from the left.
const CALLERS: [&str; 9] =
    ["super_admin", "admin", "auditor", "help_desk", "user", "device", "API key", "enrolment token", "nobody"];
/// Those of them who are users, by their roles.
const ROLES: [Role; 5] = [Role::SuperAdmin, Role::Admin, Role::Auditor, Role::HelpDesk, Role::User];

struct Row {
    method: Method,
    path: &'static str,
    needs: &'static str,
    answers: Vec<&'static str>,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let lines = lines.filter(|words| words.get(1).is_some_and(|path| path.starts_with('/')));
    let row = |words: Vec<&'static str>| {
        let [method, path, needs, answers @ ..] = &words[..] else { panic!("{words:?} is no row") };
        assert_eq!(answers.len(), CALLERS.len(), "{words:?}");
        Row { method: method.parse().unwrap(), path, needs, answers: answers.to_vec() }
    };
    lines.map(row).collect()
}

impl Row {
    /// Only one's own, so that trying it is the end of the session.
    fn ends_a_session(&self) -> bool {
        ["/auth/logout", "/auth/sessions/{id}"].contains(&self.path)
    }

    fn permission(&self) -> Option<Permission> {
        Permission::parse(self.needs.split('/').next().unwrap())
    }

    /// A body that goes as far as it can without changing what later rows are tried on.
    fn body(&self, own_name: &str) -> Value {
        match (self.method.as_str(), self.path) {
            ("PUT", "/devices/{id}/status") => json!({"status": "online"}),
            ("POST", "/devices/{id}/certificate") => json!({"csr": "none"}),
            ("PATCH", "/devices/{id}") => json!({"device_name": own_name}),
            ("POST", "/devices/{id}/commands/{cid}/result") => json!({"status": "failed", "reason": "a test"}),
            ("PUT", "/groups/{id}") => json!({"name": "Too late"}),
            ("PUT", "/groups/{id}/members") => json!({"members": []}),
            ("PUT", "/users/{id}") => json!({"name": "x", "email": "late@acme.example", "role": "nothing"}),
            ("PUT", "/policies/{id}") => json!({"name": "Too late", "policy_data": {}}),
            ("POST", "/policies/{id}/rollback") => json!({"version": 99}),
            ("POST", "/policies/{id}/assign" | "/policies/{id}/unassign") => json!({"user_ids": [NOBODY]}),
            ("PUT", "/roles/{id}") => json!({"name": "Too late", "permissions": []}),
            _ => json!({}),
        }
    }
}

const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

/// Whose object goes into the path.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Whose {
    Own,
    SomebodyElses,
    AnotherOrganizations,
}

struct Caller {
    name: String,
    token: Option<String>,
    /// What is theirs, where anything is.
    device: String,
    command: String,
    user: Option<String>,
    session: Option<String>,
}

/// An id for each kind of thing in one organization, none of them a caller's.
struct Things {
    /// Who may make more of them.
    admin: String,
    device: String,
    command: String,
    user: String,
    session: String,
    group: String,
    role: String,
    policy: String,
    webhook: String,
    delivery: String,
    organization: String,
}

impl Things {
    async fn make(server: &Server, admin: &str) -> Self {
        let me = server.get("/auth/me", admin).await.expect(200);
        let role = server.post("/roles", admin, json!({"name": "nothing", "permissions": []})).await.expect(201);
        let organization = text(&me["organization_id"]);
        let email = format!("victim@{organization}.example");
        let victim = json!({"name": "Victim", "email": email, "role": "nothing"});
        let victim = text(&server.post("/users", admin, victim).await.expect(201)["id"]);
        let (device, command) = device_of(server, admin, &victim).await;
        let group = server.post("/groups", admin, json!({"name": "Sales"})).await.expect(201);
        let policy = server.post("/policies", admin, json!({"name": "Base", "policy_data": {}})).await.expect(201);
        // Nobody answers there.
        let webhook = json!({"url": "https://10.255.255.1/", "events": ["webhook.test"]});
        let webhook = text(&server.post("/webhooks", admin, webhook).await.expect(201)["id"]);
        let delivery = server.post(&format!("/webhooks/{webhook}/test"), admin, json!({})).await.expect(200);
        let session = &server.get("/auth/sessions", admin).await.expect(200)["data"][0];
        Self {
            admin: admin.into(),
            device: device.0,
            command,
            user: victim,
            session: text(&session["id"]),
            group: text(&group["id"]),
            role: text(&role["id"]),
            policy: text(&policy["id"]),
            webhook,
            delivery: text(&delivery["id"]),
            organization,
        }
    }
}

/// A device of the user's with a command that waits for it: its id and token, and the command's id.
async fn device_of(server: &Server, admin: &str, user: &str) -> ((String, String), String) {
    let device = server.enroll(admin, &format!("device of {user}")).await;
    let path = format!("/devices/{}", device.0);
    server
        .send(server.request(Method::PATCH, &path).bearer_auth(admin).json(&json!({"user_id": user})))
        .await
        .expect(200);
    let command = server.post(&format!("{path}/lock"), admin, json!({})).await.expect(200);
    (device, text(&command["id"]))
}

struct World {
    server: Server,
    root: String,
    ours: Things,
    foreign: Things,
}

impl World {
    async fn new() -> Self {
        let limits = [
            ("ZERO_LIMITS_AUTHENTICATED_PER_MINUTE", "1000000"),
            ("ZERO_LIMITS_UNAUTHENTICATED_PER_MINUTE", "1000000"),
        ];
        let server = Server::start_with(&limits).await;
        let root = server.token().await;
        let other = found(&server, &root, "Umbrella").await;
        let admin = log_in(&server, &text(&other["admin"]["email"])).await;
        let (ours, foreign) = (Things::make(&server, &root).await, Things::make(&server, &admin).await);
        Self { server, root, ours, foreign }
    }

    /// A new user with that role, signed in, with a device and a second session.
    async fn user(&self, role: &str) -> Caller {
        let email = format!("a-{}@acme.example", role.replace(' ', "-"));
        let new = json!({"name": role, "email": email, "role": role, "password": PASSWORD});
        let user = text(&self.server.post("/users", &self.root, new).await.expect(201)["id"]);
        let (token, spare) = tokio::join!(log_in(&self.server, &email), log_in(&self.server, &email));
        let session = &self.server.get("/auth/sessions", &spare).await.expect(200)["data"];
        let session = session.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
        let session = Some(text(&session["id"]));
        let (device, command) = device_of(&self.server, &self.root, &user).await;
        Caller { name: role.into(), token: Some(token), device: device.0, command, user: Some(user), session }
    }

    /// In the order of [`CALLERS`].
    async fn callers(&self) -> Vec<Caller> {
        let mut callers = join_all(ROLES.iter().map(|role| self.user(role.as_str()))).await;
        let (device, command) = device_of(&self.server, &self.root, &self.ours.user).await;
        let key = json!({"name": "script", "role": "admin"});
        let key = text(&self.server.post("/api-keys", &self.root, key).await.expect(201)["key"]);
        let token = self.server.post("/enrollment-tokens", &self.root, json!({"name": "kiosks"})).await.expect(201);
        let tokens = [Some(device.1), Some(key), Some(text(&token["token"])), None];
        for (name, token) in CALLERS[ROLES.len()..].iter().zip(tokens) {
            let (device, command) = (device.0.clone(), command.clone());
            callers.push(Caller { name: (*name).into(), token, device, command, user: None, session: None });
        }
        callers
    }

    /// The path with the ids of what is meant; `None` where there is no such thing.
    async fn path(&self, row: &Row, whose: Whose, caller: &Caller) -> Option<String> {
        let things = if whose == Whose::AnotherOrganizations { &self.foreign } else { &self.ours };
        let (resource, rest) = row.path.split_once("/{id}").unwrap_or((row.path, ""));
        if resource == row.path {
            // Nobody is erased on the way.
            let path =
                row.path.replace("{purpose}", "analytics").replace("/gdpr/delete", "/gdpr/delete?user_id=nobody");
            return (whose == Whose::SomebodyElses).then_some(path);
        }
        let fresh = async |body: Value| {
            let made = self.server.request(Method::POST, resource).bearer_auth(&things.admin).json(&body).send();
            let made: Value = made.await.unwrap().json().await.unwrap();
            text(&made["id"])
        };
        let id = match (resource, whose) {
            ("/devices", Whose::Own) => caller.device.clone(),
            ("/users", Whose::Own) => caller.user.clone()?,
            ("/auth/sessions", Whose::Own) => caller.session.clone()?,
            (_, Whose::Own) => return None,
            ("/devices", _) => things.device.clone(),
            ("/users", _) => things.user.clone(),
            ("/auth/sessions", _) => things.session.clone(),
            ("/groups", _) => things.group.clone(),
            ("/roles", _) => things.role.clone(),
            ("/policies", _) => things.policy.clone(),
            ("/webhooks", _) => things.webhook.clone(),
            // What is gone once it has been tried is made each time.
            ("/api-keys", _) => fresh(json!({"name": "old", "permissions": ["devices.enroll"]})).await,
            ("/enrollment-tokens", _) => fresh(json!({"name": "old"})).await,
            // All organizations belong to those who run the appliance.
            ("/organizations", Whose::SomebodyElses) => self.foreign.organization.clone(),
            ("/organizations", _) => return None,
            _ => panic!("say which id goes into {}", row.path),
        };
        let command = if whose == Whose::Own { &caller.command } else { &things.command };
        let rest = rest.replace("{cid}", command).replace("{did}", &things.delivery).replace("{version}", "1");
        Some(format!("{resource}/{id}{rest}"))
    }

    /// What the caller is answered: `ok` where they are let in, whatever comes of it.
    async fn answer(&self, row: &Row, path: &str, caller: &Caller) -> String {
        let mut request = self.server.request(row.method.clone(), path);
        if let Some(token) = &caller.token {
            request = request.bearer_auth(token);
        }
        if row.method != Method::GET {
            request = request.json(&row.body(&caller.name));
        }
        if row.method == Method::PUT || row.method == Method::DELETE && row.path != "/auth/sessions/{id}" {
            // Refused, but only to whoever would be let change it.
            request = request.header("if-match", "\"999.0\"");
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        match status {
            200..=204 | 304 | 400 | 409 | 412 | 415 => "ok".into(),
            // Let in, but somebody else's is under way.
            429 if row.path == "/audit-logs/verify" => "ok".into(),
            // Let in, but nobody has objected.
            404 if row.path == "/gdpr/object/{purpose}" => "ok".into(),
            _ => status.to_string(),
        }
    }

    async fn mistakes(&self, row: &Row, whose: Whose, caller: &Caller, expected: &str) -> Option<String> {
        let path = self.path(row, whose, caller).await?;
        let answer = self.answer(row, &path, caller).await;
        let of = if row.path.contains("{id}") { format!(" of {whose:?}") } else { String::new() };
        (answer != expected)
            .then(|| format!("{} {}{of}: {} is answered {answer}, not {expected}", row.method, row.path, caller.name))
    }
}

#[test]
fn the_table_is_complete() {
    let document = zero::app::openapi();
    let mut routes = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        routes.extend(methods.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let rows: Vec<String> = rows().iter().map(|row| format!("{} {}", row.method, row.path)).collect();
    let known: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(known.len(), rows.len(), "a route has two rows");
    let missing: Vec<&String> = routes.difference(&known).collect();
    assert!(missing.is_empty(), "say in the table who may call {missing:?}");
    let gone: Vec<&String> = known.difference(&routes).collect();
    assert!(gone.is_empty(), "the table has rows for what is no route: {gone:?}");
}

#[tokio::test]
async fn everybody_is_let_in_where_the_table_says_and_nowhere_else() {
    let world = World::new().await;
    let callers = world.callers().await;
    let (ends, rows): (Vec<Row>, Vec<Row>) = rows().into_iter().partition(Row::ends_a_session);
    let mut mistakes = Vec::new();
    for row in rows.iter().chain(ends.iter().rev()) {
        let tries = callers.iter().zip(&row.answers).flat_map(|(caller, answer)| {
            let (elses, foreign) = match *answer {
                "ok" => ("ok", "404"),
                "own!" => ("403", "404"),
                "own" if row.path.contains("{id}") => ("404", "404"),
                "own" => ("ok", "404"),
                same => (same, same),
            };
            let mut tries = vec![(Whose::SomebodyElses, elses), (Whose::AnotherOrganizations, foreign)];
            tries.extend(answer.starts_with("own").then_some((Whose::Own, "ok")));
            tries.into_iter().map(|(whose, expected)| world.mistakes(row, whose, caller, expected))
        });
        mistakes.extend(join_all(tries).await.into_iter().flatten());
    }
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));
    // Lists of one's own show nothing else.
    let user = callers.iter().find(|caller| caller.name == "user").unwrap();
    let token = log_in(&world.server, "a-user@acme.example").await;
    let devices = world.server.get("/devices", &token).await.expect(200);
    assert_eq!((&devices["total"], &devices["data"][0]["id"]), (&json!(1), &json!(user.device)));
}

/// A role of all permissions but one is refused exactly where that one is needed.
#[tokio::test]
async fn every_permission_opens_what_it_says_and_nothing_else() {
    let world = World::new().await;
    let body = |permissions: Permissions| json!({"name": "almost all", "permissions": permissions});
    let role = world.server.post("/roles", &world.root, body(Permissions::ALL)).await.expect(201);
    let role = format!("/roles/{}", text(&role["id"]));
    let caller = world.user("almost all").await;
    let rows: Vec<Row> = rows().into_iter().filter(|row| !row.ends_a_session()).collect();
    let mut mistakes = Vec::new();
    for lacking in Permission::ALL {
        let permissions = Permissions::ALL - Permissions::of(&[*lacking]);
        world.server.put(&role, &world.root, body(permissions)).await.expect(200);
        let tries = rows.iter().map(|row| {
            let is_own = row.needs.contains("/own");
            let expected = match row.permission() {
                _ if row.needs == "device" => "403",
                // Without the permission a list shows what is one's own, and what is not does not exist.
                Some(permission) if permission == *lacking && is_own && !row.path.contains("{id}") => "ok",
                Some(permission) if permission == *lacking && is_own && permission.as_str().ends_with(".view") => "404",
                Some(permission) if permission == *lacking => "403",
                _ => "ok",
            };
            world.mistakes(row, Whose::SomebodyElses, &caller, expected)
        });
        let found = join_all(tries).await.into_iter().flatten();
        mistakes.extend(found.map(|mistake| format!("without {lacking}: {mistake}")));
    }
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));
}
