//! The release binary on a folder of its own.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Fallible;
use crate::client::Call;
use crate::process::Server;

const EMAIL: &str = "admin@acme.example";
const PASSWORD: &str = "correct horse battery";

/// Limits that count every request but stop none of a run; a fleet that outgrows the default pool; devices that do not
/// turn offline half-way through a measurement.
const SETTINGS: [(&str, &str); 3] = [
    ("ZERO_LIMITS_AUTHENTICATED_PER_MINUTE", "10000000"),
    ("ZERO_DEVICES_ADDRESS_POOL", "10.0.0.0/8"),
    ("ZERO_DEVICES_OFFLINE_AFTER_SECONDS", "604800"),
];

pub struct Appliance {
    folder: TempDir,
    settings: Vec<(&'static str, &'static str)>,
    server: Option<Server>,
    token: String,
}

impl Appliance {
    /// An empty folder, set up with `zero init`, served, and logged in to.
    pub async fn set_up(settings: &[(&'static str, &'static str)]) -> Fallible<Self> {
        let folder = folder()?;
        let settings = SETTINGS.iter().chain(settings).copied().collect();
        let mut appliance = Self { folder, settings, server: None, token: String::new() };
        let mut init = appliance.command(&["init", "--organization", "Acme", "--email", EMAIL, "--password-stdin"])?;
        let mut init = init.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        writeln!(init.stdin.take().ok_or("standard input is piped")?, "{PASSWORD}")?;
        if !init.wait()?.success() {
            return Err("zero init failed".into());
        }
        appliance.start()?;
        appliance.log_in().await?;
        Ok(appliance)
    }

    pub async fn log_in(&mut self) -> Fallible<()> {
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let reply = self
            .client()?
            .connect()
            .await?
            .send(Call::new(Method::POST, "/api/v1/auth/login", "")?.body(&body))
            .await?;
        let reply: Value = serde_json::from_slice(&reply)?;
        self.token = reply["token"].as_str().ok_or("a login has a token")?.into();
        Ok(())
    }

    /// Stops it in order and starts it again; tells how long it took from the start to `ready`.
    pub fn restart(&mut self) -> Fallible<Duration> {
        self.server.take().ok_or("the server runs")?.stop()?;
        self.start()
    }

    pub fn server(&self) -> Fallible<&Server> {
        self.server.as_ref().ok_or_else(|| "the server runs".into())
    }

    pub fn client(&self) -> Fallible<&crate::client::Client> {
        Ok(&self.server()?.client)
    }

    /// The administrator's.
    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn get(&self, path: &str) -> Fallible<Call> {
        Call::new(Method::GET, path, &self.token)
    }

    /// Bytes of the data file.
    pub fn file_bytes(&self) -> Fallible<u64> {
        Ok(fs::metadata(self.data().join("zero.redb"))?.len())
    }

    fn start(&mut self) -> Fallible<Duration> {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"])?;
        let (server, took) = Server::start(&mut command, &self.ca())?;
        self.server = Some(server);
        Ok(took)
    }

    /// The certificate of its own authority.
    pub fn ca(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
    }

    pub fn backups(&self) -> PathBuf {
        self.data().join("backups")
    }

    /// Restores a backup into a folder that is empty; tells how long that took.
    pub fn restore(&self, file: &Path, folder: &Path) -> Fallible<Duration> {
        let mut command = self.command(&["restore"])?;
        let command = command.arg(file).env("ZERO_DATA_DIR", folder.join("data")).stdout(Stdio::null());
        let before = Instant::now();
        let status = command.status()?;
        if status.success() { Ok(before.elapsed()) } else { Err(format!("zero restore ended with {status}").into()) }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn command(&self, arguments: &[&str]) -> Fallible<Command> {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        let mut command = Command::new(program()?);
        command.args(arguments).env_clear().env("ZERO_DATA_DIR", self.data()).stderr(log);
        command.envs(self.settings.iter().copied());
        Ok(command)
    }
}

/// A folder on the disk of the build: a system's own folder for temporary files may be in memory, where a commit costs
/// nothing.
pub fn folder() -> Fallible<TempDir> {
    Ok(tempfile::Builder::new().prefix("load").tempdir_in(release()?)?)
}

/// The release binary.
pub fn program() -> Fallible<PathBuf> {
    Ok(release()?.join("zero"))
}

/// Where the release binaries are: this program is one folder deeper.
fn release() -> Fallible<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program is in target/release/examples")?;
    Ok(folder.to_owned())
}
