//! How the appliance is: what monitoring, the doctor and the dashboard are told of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::organizations::{found, log_in, text};
use crate::server::{Server, init, zero};

/// What `/metrics` answers to a request with these headers.
fn metrics(server: &Server, headers: &str) -> String {
    server.raw(&format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The value of a sample, by its name and labels as they are written.
fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().unwrap()
}

/// Runs Prometheus' own checker on what it is given; `tests/run` sees to it that there is one.
pub fn promtool(arguments: &[&str], input: &str) {
    let tool = std::env::var("PROMTOOL").ok().filter(|tool| !tool.is_empty()).unwrap_or_else(|| "promtool".into());
    let started =
        Command::new(tool).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return eprintln!("not checked, there is no promtool here: {error}"),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{input}");
}

#[tokio::test]
async fn monitoring_on_the_machine_reads_figures_that_prometheus_understands() {
    let server = Server::start().await;
    let token = server.token().await;
    let (id, _) = server.enroll(&token, "one").await;
    for _ in 0..3 {
        server.get(&format!("/devices/{id}"), &token).await.expect(200);
    }
    server.get("/nothing", &token).await.expect(404);
    server.post("/system/backup", &token, json!({})).await.expect(200);
    let answer = metrics(&server, "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let page = body(&answer);
    let labels = "method=\"GET\",route=\"/devices/{id}\"";
    assert_eq!(sample(page, &format!("zero_http_requests_total{{{labels},status=\"200\"}}")), 3.0);
    assert_eq!(sample(page, &format!("zero_http_request_duration_seconds_count{{{labels}}}")), 3.0);
    assert_eq!(sample(page, "zero_http_requests_total{method=\"other\",route=\"none\",status=\"404\"}"), 1.0);
    assert_eq!(sample(page, "zero_devices{status=\"pending\"}"), 1.0);
    assert!(sample(page, "zero_commit_batch_size_count") > 1.0);
    assert!(sample(page, "zero_store_written_bytes_total") > 1000.0);
    assert!(sample(page, "zero_backup_age_seconds") < 60.0);
    assert!(sample(page, "process_resident_memory_bytes") > 1e6);
    promtool(&["check", "metrics"], page);
}

#[tokio::test]
async fn figures_are_for_the_machine_itself_and_for_whoever_administers_it() {
    let server = Server::start().await;
    let token = server.token().await;
    let with = |token: &str| metrics(&server, &format!("authorization: Bearer {token}\r\n"));
    assert!(with(&token).starts_with("HTTP/1.1 200"));
    assert!(with("nonsense").starts_with("HTTP/1.1 401"));
    // A proxy on the same machine speaks for the whole world.
    for header in ["x-forwarded-for: 192.0.2.1\r\n", "forwarded: for=192.0.2.1\r\n", "x-real-ip: 192.0.2.1\r\n"] {
        assert!(metrics(&server, header).starts_with("HTTP/1.1 401"), "{header}");
    }
    found(&server, &token, "Other").await;
    let admin = log_in(&server, "admin@other.example").await;
    assert!(with(&admin).starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn the_dashboard_is_told_how_the_appliance_is() {
    let server = Server::start().await;
    let token = server.token().await;
    let system = server.get("/system", &token).await.expect(200);
    assert_eq!(system["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(system["backup"]["last_proven_at"], Value::Null);
    assert_eq!(system["database"]["ailment"], Value::Null);
    assert!(system["disk"]["total_bytes"].as_u64().unwrap() > system["disk"]["free_bytes"].as_u64().unwrap());
    let made = server.post("/system/backup", &token, json!({})).await.expect(200);
    let system = server.get("/system", &token).await.expect(200);
    assert_eq!(system["backup"]["last_proven_at"], made["created_at"]);
    let tls = server.get("/system/tls", &token).await.expect(200);
    assert!(tls["certificate"]["names"].as_array().unwrap().iter().any(|name| name == "localhost"), "{tls}");
}

fn doctor(data: &std::path::Path) -> (i32, Value) {
    let output = zero(&["doctor", "--json", "--data-dir", data.to_str().unwrap()])
        .env("ZERO_SERVER_LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

/// The findings of one check.
fn finding<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).collect()
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_with_what_is_well_running_or_stopped() {
    let mut server = Server::start().await;
    let token = server.token().await;
    let data = server.folder.path().join("data");
    let (code, report) = doctor(&data);
    assert_eq!(code, 1, "there is no backup yet: {report}");
    assert_eq!(finding(&report, "backup")[0]["severity"], "warning");
    server.post("/system/backup", &token, json!({})).await.expect(200);
    let (code, report) = doctor(&data);
    assert_eq!(code, 0, "{report}");
    assert_eq!(finding(&report, "server")[0]["severity"], "ok");
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let before = fs::read(data.join("zero.redb")).unwrap();
    let (code, report) = doctor(&data);
    assert_eq!(code, 0, "{report}");
    assert_eq!(finding(&report, "audit")[0]["severity"], "ok");
    assert!(fs::read(data.join("zero.redb")).unwrap() == before, "the doctor changed the data");
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let (code, report) = doctor(&data);
    assert_eq!((code, &report["severity"]), (2, &json!("error")), "there is no appliance: {report}");
    assert!(!data.exists(), "it made the directory");
    assert!(init(&data).status.success());

    let file = data.join("zero.redb");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, report) = doctor(&data);
    assert_eq!(code, 2);
    assert!(text(&finding(&report, "permissions")[0]["remedy"]).contains("chmod go="), "{report}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let good = fs::read(&file).unwrap();
    let mut damaged = good.clone();
    let middle = good.len() / 2;
    damaged[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    for bytes in [&damaged[..], &good[..good.len() / 2]] {
        fs::write(&file, bytes).unwrap();
        let (code, report) = doctor(&data);
        let found = finding(&report, "database");
        if code == 2 {
            assert!(text(&found[0]["remedy"]).contains("zero restore"), "{report}");
        }
        assert!(fs::read(&file).unwrap() == bytes, "the doctor changed the data");
    }
    fs::write(&file, &good).unwrap();

    fs::write(data.join("restoring"), "").unwrap();
    let (code, report) = doctor(&data);
    assert_eq!(code, 2);
    assert!(text(&finding(&report, "data")[0]["remedy"]).contains("zero restore"), "{report}");
    fs::remove_file(data.join("restoring")).unwrap();

    let wrong = zero(&["doctor", "--data-dir", data.to_str().unwrap()]).env("ZERO_LOG_LEVEL", "loud").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("ZERO_LOG_LEVEL"));
}

#[test]
fn the_alerts_and_the_dashboard_name_figures_that_there_are() {
    let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let rules = packaging.join("prometheus/zero.rules.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()], "");
    let source = fs::read_to_string("src/http/metrics.rs").unwrap();
    let dashboard = fs::read_to_string(packaging.join("grafana/zero.json")).unwrap();
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    assert_eq!(parsed["panels"].as_array().unwrap().len(), 10);
    for text in [&dashboard, &fs::read_to_string(rules).unwrap()] {
        for name in
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|name| name.starts_with("zero_"))
        {
            let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            assert!(source.contains(&format!("\"{}\"", of_histogram.unwrap_or(name))), "{name}");
        }
    }
}

#[tokio::test]
async fn a_support_bundle_tells_of_the_appliance_and_of_nobody() {
    const SETTINGS: &[(&str, &str)] = &[
        ("ZERO_SERVER_NAMES", "canary-host.example"),
        ("ZERO_SMTP_HOST", "localhost"),
        ("ZERO_SMTP_TLS", "none"),
        ("ZERO_SMTP_FROM", "canary@canary.example"),
        ("ZERO_SMTP_USERNAME", "canary-user"),
        ("ZERO_SMTP_PASSWORD", "canary-password"),
        ("ZERO_BACKUP_SECOND_FOLDER", "/mnt/canary-share"),
        ("ZERO_SERVER_LISTEN", "127.0.0.1:0"),
    ];
    let mut server = Server::start_with(SETTINGS).await;
    let token = server.token().await;
    let user = json!({"name": "Canary Person", "email": "canary@acme.example", "role": "user"});
    server.post("/users", &token, user).await.expect(201);
    server.enroll(&token, "canary-device").await;
    let data = server.folder.path().join("data");
    let elsewhere = TempDir::with_prefix("canary").unwrap();
    for (index, is_running) in [true, false].into_iter().enumerate() {
        if !is_running {
            server.process.kill().unwrap();
            server.process.wait().unwrap();
            fs::write(data.join("restoring"), "").unwrap();
            fs::set_permissions(data.join("tls/ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
        }
        // The folder's own name is not to be in it either.
        let link = elsewhere.path().join(format!("data{index}"));
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let file = server.folder.path().join(format!("{index}.json"));
        let made = zero(&["support-bundle", "--data-dir", link.to_str().unwrap(), file.to_str().unwrap()])
            .envs(SETTINGS.iter().copied())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.to_lowercase().contains("canary"), "{text}");
        assert!(!text.contains(&token) && !text.contains("acme.example"), "{text}");
        let bundle: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(bundle["settings"]["smtp"]["password"], "set");
        assert_eq!(bundle["status"].is_object(), is_running);
        assert_eq!(bundle["metrics"].is_string(), is_running);
        assert!(bundle["doctor"].as_array().unwrap().len() > 5);
    }
}
