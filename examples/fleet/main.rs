//! A simulated fleet: devices that enrol with a running appliance, check in and carry out commands.
//!
//! ```text
//! ZERO_FLEET_PASSWORD=... cargo run --release --example fleet -- --email admin@acme.example --devices 1000
//! ```

mod device;
mod dice;
mod line;
mod tally;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use device::{Habits, live};
use dice::Dice;
use line::Line;
use tally::Tally;

/// Simulate a fleet of devices against a running appliance
#[derive(Parser)]
#[command(name = "fleet")]
struct Options {
    /// Where the appliance listens
    #[arg(long, default_value = "https://localhost:8443")]
    url: String,

    /// Certificate authority to trust, PEM
    #[arg(long, value_name = "FILE", default_value = "./data/tls/ca.pem")]
    ca: PathBuf,

    /// Administrator who makes the enrolment token
    #[arg(long, required_unless_present = "enrollment_token", requires = "password")]
    email: Option<String>,

    /// The administrator's password; better in the environment, where other users cannot read it
    #[arg(long, env = "ZERO_FLEET_PASSWORD", hide_env_values = true)]
    password: Option<String>,

    /// Enrolment token to use instead of making one
    #[arg(long, value_name = "TOKEN", conflicts_with = "email")]
    enrollment_token: Option<String>,

    /// How many devices; the appliance's default address pool has room for 65534
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65534))]
    devices: u32,

    /// Seconds between two check-ins of a device, give or take a tenth
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    interval: u64,

    /// Seconds to go on once all have enrolled; 0: until Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    duration: u64,

    /// Connections open at a time. A check-in that waits holds one: with --wait, give more
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    /// Seconds that a check-in waits for a command (long poll)
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=30))]
    wait: u64,

    /// Share of requests whose connection is dropped before the answer, then repeated
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=100))]
    bad_line: u8,

    /// Share of commands that a device says have failed
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=100))]
    failures: u8,

    /// Makes the same devices and the same accidents again; by default another one every time
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let started = Instant::now();
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let tally = Arc::new(Tally::default());
    let line =
        Line::new(&options.url, &options.ca, options.connections, options.bad_line, options.wait, tally.clone())?;
    let line = Arc::new(line);
    let token = enrollment_token(&options, &line, seed).await?;
    println!("{} devices, seed {seed}, {}", options.devices, options.url);

    let habits = Arc::new(Habits {
        interval: Duration::from_secs(options.interval),
        wait: options.wait,
        failures: options.failures,
        token,
        // Past the limit of the one token, those that wait must not all ask again at once.
        enrolling: Semaphore::new(options.connections.into()),
    });
    let mut fleet = JoinSet::new();
    for number in 1..=options.devices {
        fleet.spawn(live(number, seed, line.clone(), habits.clone(), tally.clone()));
    }
    watch(&mut fleet, &tally, &options, started).await?;
    fleet.shutdown().await;
    println!("{}", tally.summary(started.elapsed()));
    Ok(())
}

/// Reports progress until the time is over, nobody is left, or Ctrl-C.
async fn watch(
    fleet: &mut JoinSet<()>,
    tally: &Tally,
    options: &Options,
    started: Instant,
) -> Result<(), Box<dyn Error>> {
    let mut progress = tokio::time::interval(Duration::from_secs(5));
    progress.tick().await;
    let mut end = None;
    let mut look = tokio::time::interval(Duration::from_millis(200));
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            interrupted = &mut interrupt => return Ok(interrupted?),
            ended = fleet.join_next() => match ended {
                Some(device) => device?,
                None => return Ok(()),
            },
            _ = progress.tick() => println!("{}", tally.progress(options.devices, started.elapsed())),
            _ = look.tick(), if options.duration > 0 => {
                if end.is_none() && tally.settled(options.devices) {
                    end = Some(Instant::now() + Duration::from_secs(options.duration));
                }
                if end.is_some_and(|end| Instant::now() >= end) {
                    return Ok(());
                }
            }
        }
    }
}

/// The token given, or a new one that is good for exactly this fleet.
async fn enrollment_token(options: &Options, line: &Line, seed: u64) -> Result<String, Box<dyn Error>> {
    line.reach().await?;
    if let Some(token) = &options.enrollment_token {
        return Ok(token.clone());
    }
    let mut dice = Dice::new(seed, 0);
    let login = json!({"email": options.email, "password": options.password});
    let login = line.post_well(&mut dice, "/auth/login", None, &login).await;
    let Some(session) = login.body["token"].as_str() else {
        return Err(match login.body["mfa_required"].as_bool() {
            Some(true) => "this account has a second factor: make a token and give --enrollment-token".into(),
            _ => format!("logging in: {} {}", login.status, login.body).into(),
        });
    };
    let new = json!({"name": format!("Simulated fleet {seed}"), "max_uses": options.devices, "expires_in_days": 1});
    let made = line.post_well(&mut dice, "/enrollment-tokens", Some(session), &new).await;
    let token = made.body["token"].as_str();
    token.map(str::to_owned).ok_or_else(|| format!("making an enrolment token: {} {}", made.status, made.body).into())
}
