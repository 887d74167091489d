//! An appliance that is to be alone makes no attempt to reach anybody, and says what it did not do.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::organizations::text;
use crate::server::Server;

const INSIDE: &str = "egress::inside_a_network_that_leads_nowhere";
/// Everything that an appliance connects to, by name and by address, and none of it on this machine.
const SETTINGS: &[(&str, &str)] = &[
    ("ZERO_SERVER_NAMES", "zero.example.com"),
    ("ZERO_TLS_MODE", "acme"),
    ("ZERO_TLS_ACME_DIRECTORY", "https://acme.example.com/directory"),
    ("ZERO_SYSLOG_SERVER", "192.0.2.9:6514"),
    ("ZERO_SMTP_HOST", "mail.example.com"),
    ("ZERO_SMTP_FROM", "zero@example.com"),
];
const RECEIVERS: [&str; 4] =
    ["https://192.0.2.1/hook", "http://10.1.2.3:9000/", "https://[2001:db8::1]/", "https://hooks.example.com/"];

/// Attempts to leave that the kernel has seen in this network: for want of a route it sends nothing, and counts. Packets
/// of UDP, which ask for names, count wherever they go.
fn attempts() -> u64 {
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    let in_table = |table: &str, wanted: &str| -> u64 {
        let text = read("/proc/self/net/snmp");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(table));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let place = names.split_whitespace().position(|name| name == wanted).unwrap();
        values.split_whitespace().nth(place).unwrap().parse().unwrap()
    };
    let of_ipv6: u64 = {
        let text = read("/proc/self/net/snmp6");
        let counted = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        counted("Ip6OutNoRoutes") + counted("Udp6OutDatagrams")
    };
    in_table("Ip:", "OutNoRoutes") + in_table("Udp:", "OutDatagrams") + of_ipv6
}

/// Runs the test below where the loopback interface is all there is.
#[test]
fn an_appliance_that_is_to_be_alone_serves_and_makes_no_attempt_to_leave() {
    let own = if rustix::process::geteuid().is_root() { "-n" } else { "-rn" };
    let run = "PATH=$PATH:/usr/sbin ip link set lo up && exec \"$@\"";
    let inside = Command::new("unshare")
        .args([own, "sh", "-c", run, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", INSIDE, "--ignored", "--nocapture"])
        .output()
        .expect("unshare, of util-linux");
    let said = String::from_utf8_lossy(&[inside.stdout, inside.stderr].concat()).into_owned();
    assert!(inside.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "runs in a network of its own, by the test above"]
async fn inside_a_network_that_leads_nowhere() {
    let mut server = Server::start_with(SETTINGS).await;
    let token = server.token().await;
    let mut webhooks = Vec::new();
    for url in RECEIVERS {
        let body = json!({"url": url, "events": ["device.enrolled"]});
        webhooks.push(text(&server.post("/webhooks", &token, body).await.expect(201)["id"]));
    }
    let invite = |email: &str| json!({"name": "Mia", "email": email, "role": "user"});
    server.post("/users", &token, invite("mia@acme.example")).await.expect(201);
    server.enroll(&token, "laptop").await;
    for webhook in &webhooks {
        when(&server, &token, &format!("/webhooks/{webhook}/deliveries"), |page| {
            page["data"][0]["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty())
        })
        .await;
    }
    assert!(attempts() >= RECEIVERS.len() as u64, "what leaves would not be noticed: {}", attempts());

    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let folder = std::mem::replace(&mut server.folder, TempDir::new().unwrap());
    let before = attempts();
    let server = Server::on(folder, [SETTINGS, &[("ZERO_NETWORK_EGRESS", "deny")]].concat()).await;
    let (device, _) = server.enroll(&token, "phone").await;
    server.get(&format!("/devices/{device}"), &token).await.expect(200);
    server.post("/users", &token, invite("eve@acme.example")).await.expect(201);
    let system = when(&server, &token, "/system", |system| {
        let denied = &system["egress_denied"];
        ["webhook", "mail", "syslog", "acme"].iter().all(|purpose| denied[purpose].as_u64() > Some(0))
            && denied["webhook"].as_u64() >= Some(RECEIVERS.len() as u64)
    })
    .await;

    // Whoever wants to know why finds it where they look.
    for (webhook, url) in webhooks.iter().zip(RECEIVERS) {
        let page = when(&server, &token, &format!("/webhooks/{webhook}/deliveries"), |page| {
            page["data"][0]["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty())
        })
        .await;
        let why = page["data"][0]["attempts"][0]["error"].as_str().unwrap();
        assert!(why.contains("network.egress denies") && why.contains("network.egress_exceptions"), "{url}: {why}");
    }
    let again = json!({"url": RECEIVERS[3], "events": ["*"]});
    let refused = server.post("/webhooks", &token, again).await.expect(400).to_string();
    assert!(refused.contains("network.egress_exceptions"), "{refused}");
    let tls = when(&server, &token, "/system/tls", |tls| tls["problem"].is_string()).await;
    assert!(tls["problem"].as_str().unwrap().contains("network.egress denies"), "{tls}");
    let log = server.log();
    for host in ["192.0.2.9", "mail.example.com", "acme.example.com", "hooks.example.com", "10.1.2.3"] {
        assert!(log.lines().any(|line| line.contains("network.egress denies this") && line.contains(host)), "{host}");
    }
    let report = server.get("/system/doctor", &token).await.expect(200);
    let found: Vec<_> = report["findings"].as_array().unwrap().iter().filter(|f| f["check"] == "egress").collect();
    assert_eq!(found.len(), 4, "mail, collector, ACME, and what was tried: {found:?}");
    assert!(found.iter().all(|finding| finding["severity"] == "warning"));
    let metrics = server.raw("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let webhooks_denied = "zero_egress_denied_total{purpose=\"webhook\"} ";
    assert!(metrics.contains(webhooks_denied), "{metrics}");
    assert_eq!(attempts(), before, "it has tried to leave, with {}", system["egress_denied"]);
}

async fn when(server: &Server, token: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let answer = server.get(path, token).await.expect(200);
        if wanted(&answer) {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{path} stays {answer:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Who is let out by a setting gets there, and nobody else does.
#[tokio::test]
async fn what_is_excepted_is_reached_while_all_else_is_denied() {
    let mut settings = vec![("ZERO_NETWORK_EGRESS", "deny"), ("ZERO_WEBHOOKS_ALLOW_LOOPBACK", "true")];
    settings.push(("ZERO_NETWORK_EGRESS_EXCEPTIONS", "192.0.2.0/24,hooks.example.com"));
    let server = Server::start_with(&settings).await;
    let token = server.token().await;
    let mut receiver = crate::receiver::Receiver::answering(204).await;
    let webhook = |url: &str| json!({"url": url, "events": ["device.enrolled"]});
    for url in [&receiver.url, "https://192.0.2.1/", "https://hooks.example.com/"] {
        server.post("/webhooks", &token, webhook(url)).await.expect(201);
    }
    for url in ["https://198.51.100.1/", "https://example.com/", "http://192.168.1.20/"] {
        let refused = server.post("/webhooks", &token, webhook(url)).await.expect(400).to_string();
        assert!(refused.contains("network.egress denies"), "{url}: {refused}");
    }
    server.enroll(&token, "laptop").await;
    assert_eq!(receiver.next().await.event(), "device.enrolled");
}
