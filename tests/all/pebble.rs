//! A real ACME server, on ports of its own: pebble, with a name server that sends every name to this machine.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use crate::pki::write_key;
use crate::server::client;

pub struct Ports {
    pub directory: u16,
    management: u16,
    names: u16,
    pub http: u16,
}

impl Ports {
    /// Ports that were free a moment ago.
    pub fn pick() -> Self {
        let held: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |at: usize| held[at].local_addr().unwrap().port();
        Self { directory: port(0), management: port(1), names: port(2), http: port(3) }
    }
}

pub struct Pebble {
    processes: Vec<Child>,
    management: u16,
    ca: std::path::PathBuf,
}

/// The certificate that pebble itself is known by.
pub fn prepare(folder: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let path = folder.join("pebble.pem");
    std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    write_key(&folder.join("pebble.key"), &key.serialize_pem());
    path.to_str().unwrap().into()
}

impl Pebble {
    /// Looks for proof on these ports, and issues certificates of this many seconds.
    pub async fn start(folder: &TempDir, ports: &Ports, tls: u16, life: u32) -> Self {
        let own = |name: &str| folder.path().join(name);
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.directory),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": own("pebble.pem"), "privateKey": own("pebble.key"),
            "httpPort": ports.http, "tlsPort": tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": false, "certificateValidityPeriod": life,
        }});
        std::fs::write(own("pebble.json"), config.to_string()).unwrap();
        let names = format!("127.0.0.1:{}", ports.names);
        let start = |command: &mut Command| {
            command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap_or_else(|error| panic!("apt-get install pebble: {error}"))
        };
        let mut resolver = Command::new("pebble-challtestsrv");
        resolver.args(["-dns01", &names, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        resolver.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ""]);
        let resolver = start(&mut resolver);
        let mut server = Command::new("pebble");
        server.arg("-config").arg(own("pebble.json")).args(["-dnsserver", &names]);
        // Now and then it refuses a good nonce: three times in a row is a failure, and the next attempt minutes away.
        let calm = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0"), ("PEBBLE_WFE_NONCEREJECT", "0")];
        server.env_clear().envs(calm);
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pebble = Self { processes: vec![resolver, server], management: ports.management, ca: own("pebble.pem") };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", ports.directory)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "pebble does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pebble
    }

    /// The root of what it issues, made anew at each start.
    pub async fn root(&self) -> String {
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        client(&self.ca).get(url).send().await.unwrap().text().await.unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
