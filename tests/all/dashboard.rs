//! The dashboard's files, and the session that a browser keeps in a cookie.

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::server::{EMAIL, PASSWORD, Reply, Server};

const COOKIE: &str = "__Host-zero-session=";

/// What a page of the appliance sends.
fn from_page(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request.header("x-zero-session", "cookie").header("sec-fetch-site", "same-origin")
}

/// The cookie that an answer sets, as it is sent back.
fn cookie(reply: &Reply) -> String {
    let line = reply.header("set-cookie");
    assert!(line.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{line}");
    line.split(';').next().unwrap().to_owned()
}

fn refresh(server: &Server, cookie: &str) -> reqwest::RequestBuilder {
    from_page(server.request(Method::POST, "/auth/refresh")).header(header::COOKIE, cookie).json(&json!({}))
}

/// A script that got into the page could otherwise carry the session away, for 30 days.
#[tokio::test]
async fn a_browser_s_refresh_token_is_in_a_cookie_and_in_no_body() {
    let server = Server::start().await;
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let login = server.send(from_page(server.request(Method::POST, "/auth/login")).json(&body)).await;
    let first = cookie(&login);
    assert_eq!(login.expect(200)["refresh_token"], Value::Null);

    let renewed = server.send(refresh(&server, &first)).await;
    let second = cookie(&renewed);
    let renewed = renewed.expect(200);
    assert_eq!(renewed["refresh_token"], Value::Null);
    assert!(second.starts_with(COOKIE) && second != first);
    let token = renewed["token"].as_str().unwrap();
    assert!(!server.get("/auth/me", token).await.expect(200)["permissions"].as_array().unwrap().is_empty());

    let logout = from_page(server.request(Method::POST, "/auth/logout")).bearer_auth(token);
    let logout = server.send(logout).await;
    assert_eq!((logout.status.as_u16(), cookie(&logout).as_str()), (204, COOKIE));
    server.send(refresh(&server, &second)).await.expect(401);
}

/// A page elsewhere could otherwise act in the name of whoever visits it.
#[tokio::test]
async fn the_cookie_counts_only_from_a_page_of_the_appliance_that_asks_for_it() {
    let server = Server::start().await;
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let held = cookie(&server.send(from_page(server.request(Method::POST, "/auth/login")).json(&body)).await);

    let plain = server.request(Method::POST, "/auth/refresh").header(header::COOKIE, &held).json(&json!({}));
    assert_eq!(server.send(plain).await.expect(400)["details"], "refresh_token is required");
    let request = || server.request(Method::POST, "/auth/refresh").header(header::COOKIE, &held).json(&json!({}));
    let elsewhere = request().header("x-zero-session", "cookie").header("sec-fetch-site", "cross-site");
    server.send(elsewhere).await.expect(403);
    let elsewhere = request().header("x-zero-session", "cookie").header("origin", "https://elsewhere.example");
    server.send(elsewhere).await.expect(403);
    let misspelt = request().header("x-zero-session", "body");
    server.send(misspelt).await.expect(400);
    server.send(refresh(&server, &held)).await.expect(200);
}

/// The appliance has a page before it is set up, and a mistyped path of the API is no page.
#[tokio::test]
async fn the_dashboard_is_there_and_the_api_s_errors_stay_what_they_are() {
    let server = Server::start().await;
    let page = server.raw("GET /devices HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{page}");
    let unknown =
        server.raw("GET /api/v1/nowhere HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("application/json"), "{unknown}");
}
