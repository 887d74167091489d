//! People: who gets in, who does not any more, and who may decide it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Reply, Server};

const SECRET: &str = "a password of my own";

async fn log_in(server: &Server, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    server.send(server.request(Method::POST, "/auth/login").json(&body)).await
}

async fn accept(server: &Server, token: &Value, password: &str) -> Reply {
    let body = json!({"token": token, "password": password});
    server.send(server.request(Method::POST, "/auth/links/accept").json(&body)).await
}

/// A user of that role, named after the e-mail: the id and a token.
async fn sign_up(server: &Server, admin: &str, email: &str, role: &str) -> (String, String) {
    let body = json!({"name": email, "email": email, "role": role, "password": SECRET});
    let user = server.post("/users", admin, body).await.expect(201);
    let token = log_in(server, email, SECRET).await.expect(200)["token"].as_str().unwrap().to_owned();
    (user["id"].as_str().unwrap().into(), token)
}

async fn import(server: &Server, token: &str, query: &str, csv: &str) -> Reply {
    let request = server.request(Method::POST, &format!("/users/import{query}")).bearer_auth(token);
    server.send(request.header("content-type", "text/csv; charset=utf-8").body(csv.to_owned())).await
}

async fn actions(server: &Server, admin: &str, id: &str) -> Vec<String> {
    let entries = server.get(&format!("/audit-logs?resource_id={id}"), admin).await.expect(200);
    entries["data"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap().into()).collect()
}

#[tokio::test]
async fn a_link_lets_its_holder_choose_a_password_once() {
    let server = Server::start().await;
    let admin = server.token().await;
    let new = json!({"name": " Zoë\n", "email": "zoe@acme.example", "role": "user"});
    let made = server.post("/users", &admin, new).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/users/{id}");
    assert_eq!(
        (&made["status"], &made["name"], &made["mfa_enabled"]),
        (&json!("pending"), &json!(" Zoë\n"), &json!(false))
    );
    let invitation = &made["invitation"];
    let token = invitation["token"].as_str().unwrap();
    assert!(token.starts_with("zit_"));
    let port = server.base.rsplit(':').next().unwrap();
    assert_eq!(invitation["url"], format!("https://localhost:{port}/invite#{token}"));
    assert!(!server.get(&path, &admin).await.text.contains(token));

    let short = accept(&server, &invitation["token"], "short").await.expect(400);
    assert_eq!(short["details"], "password must have at least 12 characters");
    accept(&server, &invitation["token"], SECRET).await.expect(204);
    accept(&server, &invitation["token"], "another password").await.expect(401);
    let session = log_in(&server, "Zoe@ACME.example", SECRET).await.expect(200);
    assert_eq!(server.get(&path, &admin).await.expect(200)["status"], "active");

    let reset = async || server.post(&format!("{path}/reset-password"), &admin, json!({})).await.expect(200);
    let (first, second) = (reset().await, reset().await);
    assert!(second["url"].as_str().unwrap().contains("/reset#zrs_"));
    server.get("/auth/me", session["token"].as_str().unwrap()).await.expect(401);
    log_in(&server, "zoe@acme.example", SECRET).await.expect(401);
    accept(&server, &first["token"], "another password").await.expect(401);
    accept(&server, &second["token"], "another password").await.expect(204);
    log_in(&server, "zoe@acme.example", "another password").await.expect(200);
    let told = actions(&server, &admin, &id).await;
    assert_eq!(told.iter().filter(|action| *action == "user.update").count(), 4, "{told:?}");

    // An invitation that went to a wrong address is no good once the address is put right.
    let wrong = json!({"name": "Al", "email": "la@acme.example", "role": "user"});
    let wrong = server.post("/users", &admin, wrong).await.expect(201);
    let right = json!({"name": "Al", "email": "al@acme.example", "role": "user"});
    server.put(&format!("/users/{}", wrong["id"].as_str().unwrap()), &admin, right).await.expect(200);
    accept(&server, &wrong["invitation"]["token"], SECRET).await.expect(401);
    let anew =
        server.post(&format!("/users/{}/reset-password", wrong["id"].as_str().unwrap()), &admin, json!({})).await;
    assert!(anew.expect(200)["url"].as_str().unwrap().contains("/invite#zit_"));
}

#[tokio::test]
async fn whoever_is_suspended_or_revoked_is_out_on_the_next_request() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, first) = sign_up(&server, &admin, "eve@acme.example", "auditor").await;
    let act = async |what: &str| server.post(&format!("/users/{id}/{what}"), &admin, json!({})).await.expect(200);
    assert_eq!(act("suspend").await["status"], "suspended");
    server.get("/auth/me", &first).await.expect(401);
    let refused = log_in(&server, "eve@acme.example", SECRET).await.expect(401);
    assert_eq!(refused["message"], "invalid credentials");
    assert_eq!(act("suspend").await["status"], "suspended");
    assert_eq!(act("resume").await["status"], "active");
    // Who comes back signs in anew.
    server.get("/auth/me", &first).await.expect(401);
    assert_eq!(act("suspend").await["status"], "suspended");
    let link = act("reset-password").await;
    accept(&server, &link["token"], SECRET).await.expect(401);
    assert_eq!(act("resume").await["status"], "pending");
    accept(&server, &link["token"], SECRET).await.expect(204);

    let second = log_in(&server, "eve@acme.example", SECRET).await.expect(200)["token"].clone();
    let second = second.as_str().unwrap();
    server.get("/users", second).await.expect(200);
    // Another role is another set of permissions, at once.
    let user = json!({"name": "Eve", "email": "eve@acme.example", "role": "user"});
    server.put(&format!("/users/{id}"), &admin, user).await.expect(200);
    server.get("/users", second).await.expect(403);
    assert_eq!(server.get(&format!("/users/{id}"), second).await.expect(200)["role"], "user");
    let others = server.get("/users?q=admin@", &admin).await.expect(200)["data"][0]["id"].clone();
    server.get(&format!("/users/{}", others.as_str().unwrap()), second).await.expect(404);

    assert_eq!(act("revoke-sessions").await["revoked"], 1);
    server.get("/auth/me", second).await.expect(401);
    assert_eq!(act("revoke-sessions").await["revoked"], 0);
    let told = actions(&server, &admin, &id).await;
    let count = |action: &str| told.iter().filter(|told| *told == action).count();
    assert_eq!((count("user.suspend"), count("user.resume")), (2, 2), "{told:?}");
    assert_eq!((count("user.role.change"), count("auth.session.revoked")), (1, 1), "{told:?}");
}

#[tokio::test]
async fn the_last_super_admin_stays() {
    let server = Server::start().await;
    let admin = server.token().await;
    let me = server.get("/auth/me", &admin).await.expect(200);
    let path = format!("/users/{}", me["id"].as_str().unwrap());
    let demoted = json!({"name": "Me", "email": me["email"], "role": "admin"});
    server.delete(&path, &admin).await.expect(409);
    server.put(&path, &admin, demoted.clone()).await.expect(409);
    server.post(&format!("{path}/suspend"), &admin, json!({})).await.expect(409);
    assert_eq!(server.get("/auth/me", &admin).await.expect(200)["role"], "super_admin");

    // One who is only invited cannot take over.
    let invited = json!({"name": "Two", "email": "two@acme.example", "role": "super_admin"});
    let invited = server.post("/users", &admin, invited).await.expect(201);
    server.delete(&path, &admin).await.expect(409);
    accept(&server, &invited["invitation"]["token"], SECRET).await.expect(204);
    let own = server.put(&path, &admin, demoted.clone()).await.expect(403);
    assert_eq!(own["details"], "you cannot change your own role");
    server.delete(&path, &admin).await.expect(204);
    server.get("/auth/me", &admin).await.expect(401);
    let two = log_in(&server, "two@acme.example", SECRET).await.expect(200)["token"].clone();
    let path = format!("/users/{}", invited["id"].as_str().unwrap());
    server.delete(&path, two.as_str().unwrap()).await.expect(409);
}

#[tokio::test]
async fn nobody_acts_on_whoever_may_do_more() {
    let server = Server::start().await;
    let root = server.token().await;
    let above = server.get("/auth/me", &root).await.expect(200);
    let path = format!("/users/{}", above["id"].as_str().unwrap());
    let (admin_id, admin) = sign_up(&server, &root, "admin2@acme.example", "admin").await;
    let (_, help) = sign_up(&server, &root, "help@acme.example", "help_desk").await;

    let edit = json!({"name": "Root", "email": "mine@acme.example", "role": "user"});
    server.put(&path, &admin, edit).await.expect(403);
    server.delete(&path, &admin).await.expect(403);
    server.post(&format!("{path}/suspend"), &admin, json!({})).await.expect(403);
    for (token, target) in [(&admin, &path), (&help, &path), (&help, &format!("/users/{admin_id}"))] {
        server.post(&format!("{target}/reset-password"), token, json!({})).await.expect(403);
        server.post(&format!("{target}/revoke-sessions"), token, json!({})).await.expect(403);
    }
    let root_too = json!({"name": "R", "email": "r@acme.example", "role": "super_admin"});
    let refused = server.post("/users", &admin, root_too).await.expect(403);
    assert!(refused["details"].as_str().unwrap().contains("system.admin"));
    let csv = "name,email,groups,role\nR,r@acme.example,,super_admin\n";
    assert_eq!(import(&server, &admin, "", csv).await.expect(200)["failed"], 1);
    let promoted = json!({"name": "A", "email": "admin2@acme.example", "role": "super_admin"});
    server.put(&format!("/users/{admin_id}"), &admin, promoted).await.expect(403);

    // Support helps whoever may do less, and makes nobody.
    let (low, low_token) = sign_up(&server, &admin, "low@acme.example", "user").await;
    server.post(&format!("/users/{low}/reset-password"), &help, json!({})).await.expect(200);
    server.get("/auth/me", &low_token).await.expect(401);
    server.post("/users", &help, json!({"name": "X", "email": "x@acme.example", "role": "user"})).await.expect(403);
    import(&server, &help, "", "name,email,groups\n").await.expect(403);
    server.get("/auth/me", &root).await.expect(200);
}

#[tokio::test]
async fn an_import_names_broken_lines_and_keeps_its_promises() {
    let server = Server::start().await;
    let admin = server.token().await;
    let csv = "\u{feff}email,name,groups\r\n\
        ann@acme.example,\"Ann \"\"A\"\" Ant, Dr.\",\"Sales, Field\"\r\n\
        not-an-address,Bob,\r\n\
        cy@acme.example,\"Cy,Sales\r\n\
        ANN@acme.example,Other Ann,Sales\r\n\
        Admin@Acme.example,Taken,\r\n\
        dee@acme.example,Dee,sales\r\n";
    let statuses = |answer: &Value| -> Vec<(u64, String)> {
        let results = answer["results"].as_array().unwrap().iter();
        results.map(|line| (line["line"].as_u64().unwrap(), line["status"].as_str().unwrap().to_owned())).collect()
    };
    let expected = |good: &str| -> Vec<(u64, String)> {
        [(2, good), (3, "failed"), (4, "failed"), (5, "failed"), (6, "failed"), (7, good)]
            .map(|(n, s)| (n, s.into()))
            .into()
    };
    for query in ["?dry_run=true", "?atomic=true", "?dry_run=true&atomic=true"] {
        let answer = import(&server, &admin, query, csv).await.expect(200);
        assert_eq!(statuses(&answer), expected("valid"), "{query}");
        assert_eq!((&answer["created"], &answer["failed"]), (&json!(0), &json!(4)));
        assert_eq!(server.get("/users", &admin).await.expect(200)["total"], 1, "{query}");
        assert_eq!(server.get("/audit-logs?action=group.create", &admin).await.expect(200)["total"], 0);
    }
    let answer = import(&server, &admin, "", csv).await.expect(200);
    assert_eq!(statuses(&answer), expected("created"));
    let error = |place: usize| answer["results"][place]["error"].as_str().unwrap();
    assert_eq!(error(1), "email is not an e-mail address");
    assert!(error(2).contains("quote"));
    assert_eq!(error(3), "email is that of line 2 already");
    assert!(error(4).contains("taken"));
    // The groups were made once, whatever case a line writes them in.
    let made = server.get("/audit-logs?action=group.create", &admin).await.expect(200);
    assert_eq!(made["total"], 2);
    let ann = answer["results"][0]["id"].as_str().unwrap();
    let ann = server.get(&format!("/users/{ann}"), &admin).await.expect(200);
    assert_eq!((&ann["name"], &ann["status"]), (&json!("Ann \"A\" Ant, Dr."), &json!("pending")));
    assert_eq!(ann["groups"].as_array().unwrap().len(), 2);
    let sales = made["data"].as_array().unwrap().iter().find(|entry| entry["resource"]["name"] == "Sales").unwrap();
    let sales = sales["resource"]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/users?group_id={sales}"), &admin).await.expect(200)["total"], 2);
    accept(&server, &answer["results"][0]["invitation"]["token"], SECRET).await.expect(204);

    // By id and by name into groups; one that there is not is named.
    let dee = format!("/users/{}", answer["results"][5]["id"].as_str().unwrap());
    let put = |groups: Value| {
        server.put(&dee, &admin, json!({"name": "Dee", "email": "dee@acme.example", "role": "user", "groups": groups}))
    };
    assert_eq!(put(json!(["field", sales])).await.expect(200)["groups"].as_array().unwrap().len(), 2);
    let unknown = put(json!(["Sales", "Nowhere"])).await.expect(400);
    assert_eq!(unknown["errors"][0]["field"], "groups[1]");
    assert_eq!(put(json!([])).await.expect(200)["groups"], json!([]));
    let good = "name,email,groups\nEd,ed@acme.example,\"New\"\n";
    assert_eq!(import(&server, &admin, "?atomic=true", good).await.expect(200)["created"], 1);
    import(&server, &admin, "", "name;email;groups\n").await.expect(400);
    server.post("/users/import", &admin, json!({})).await.expect(415);
    // What memory knows is what the tables say.
    let before = server.get("/users?sort=name", &admin).await.expect(200);
    let server = server.crash_and_restart().await;
    assert_eq!(server.get("/users?sort=name", &admin).await.expect(200), before);
}

#[tokio::test]
async fn an_e_mail_is_one_persons_however_it_is_written_and_edits_do_not_overwrite_each_other() {
    let server = Server::start().await;
    let admin = server.token().await;
    let make =
        |name: &str, email: &str| server.post("/users", &admin, json!({"name": name, "email": email, "role": "user"}));
    let first = make("Bea", "ren\u{e9}@acme.example").await.expect(201);
    for same in ["REN\u{c9}@acme.example", "rene\u{301}@Acme.Example", "\u{ff52}en\u{e9}@acme.example"] {
        make("Other", same).await.expect(409);
    }
    make("abe", "abe@acme.example").await.expect(201);
    make("", "nobody@acme.example").await.expect(400);
    make("   ", "nobody@acme.example").await.expect(400);
    let path = format!("/users/{}", first["id"].as_str().unwrap());
    let read = server.get(&path, &admin).await;
    let tag = read.header("etag").to_owned();
    let put = |email: &str, role: &str| {
        let body = json!({"name": "Bea", "email": email, "role": role});
        let request = server.request(Method::PUT, &path).bearer_auth(&admin).header("if-match", &tag);
        server.send(request.json(&body))
    };
    assert_eq!(put("abe@acme.example", "user").await.status, 409);
    let unknown = put("bea@acme.example", "nothing").await.expect(400);
    assert_eq!(unknown["details"], "role names no role: \"nothing\"");
    put("REN\u{c9}@acme.example", "help_desk").await.expect(200);
    put("bea@acme.example", "user").await.expect(412);
    let held = server.request(Method::GET, &path).bearer_auth(&admin);
    let now = server.get(&path, &admin).await.header("etag").to_owned();
    assert_eq!(server.send(held.header("if-none-match", now)).await.status, 304);

    let names = async |query: &str| {
        let page = server.get(&format!("/users?{query}"), &admin).await.expect(200);
        let names: Vec<String> =
            page["data"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().into()).collect();
        (page["total"].as_u64().unwrap(), names.join(" "))
    };
    assert_eq!(names("").await, (3, "abe Bea Administrator".into()));
    assert_eq!(names("sort=name").await, (3, "abe Administrator Bea".into()));
    assert_eq!(names("sort=-email&page_size=1&page=2").await, (3, "Administrator".into()));
    assert_eq!(names("page=9").await, (3, String::new()));
    assert_eq!(names("role=help_desk&status=pending").await, (1, "Bea".into()));
    assert_eq!(names("q=RENE%CC%81").await, (1, "Bea".into()));
    assert_eq!(names("status=suspended").await, (0, String::new()));
    server.get("/users?role=nothing", &admin).await.expect(400);
}

#[tokio::test]
async fn a_deleted_user_leaves_nothing_behind() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = sign_up(&server, &admin, "gone@acme.example", "user").await;
    let path = format!("/users/{id}");
    let (device, device_token) = server.enroll(&token, "laptop").await;
    server.post(&format!("/devices/{device}/wipe"), &admin, json!({})).await.expect(200);
    let grant = server.post("/enrollment-tokens", &admin, json!({"name": "hers", "user_id": id})).await.expect(201);
    let link = server.post(&format!("{path}/reset-password"), &admin, json!({})).await.expect(200);
    assert_eq!(server.get(&path, &admin).await.expect(200)["device_count"], 1);

    server.delete(&path, &admin).await.expect(204);
    server.delete(&path, &admin).await.expect(404);
    let server = server.crash_and_restart().await;
    server.get(&path, &admin).await.expect(404);
    server.get("/auth/me", &token).await.expect(401);
    log_in(&server, "gone@acme.example", SECRET).await.expect(401);
    accept(&server, &link["token"], SECRET).await.expect(401);
    server.get(&format!("/devices/{device}"), &admin).await.expect(404);
    server.get(&format!("/devices/{device}"), &device_token).await.expect(401);
    assert_eq!(server.get("/enrollment-tokens", &admin).await.expect(200)["total"], 0);
    let enroll = json!({"device_name": "x", "platform": "linux", "agent_version": "1"});
    server.post("/devices/enroll", grant["token"].as_str().unwrap(), enroll).await.expect(401);
    assert_eq!(actions(&server, &admin, &id).await[0], "user.delete");
    assert_eq!(actions(&server, &admin, &device).await[0], "device.unenroll");
    // A wipe that was not confirmed waits for the device, and the address is free for somebody else.
    let (again, again_token) = server.enroll(&admin, "laptop").await;
    let request = server.request(Method::POST, &format!("/devices/{again}/checkin")).bearer_auth(&again_token);
    let check_in = server.send(request.json(&json!({}))).await.expect(200);
    assert_eq!(check_in["commands"][0]["type"], "wipe");
    sign_up(&server, &admin, "gone@acme.example", "user").await;
}
