//! `zero serve`

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::runtime::{Builder, Handle, Runtime};

use self::supervisor::Supervisor;
use super::{DataDir, FAILED, Settings, fail, process};
use crate::app::update::{self, Start};
use crate::app::{App, Ended, StartError, Started};
use crate::clock::SystemClock;
use crate::config::{Flags, Loaded, Source};
use crate::logging::{self, Guard};
use crate::turns;

mod signals;
mod supervisor;

/// Run the appliance
///
/// Listens on HTTPS and serves the API and the dashboard until it is told to stop. When it accepts connections it prints
/// one line, "ready https://HOST:PORT", on standard output; everything else goes to standard error. Until the appliance
/// has been set up, every start also shows a setup code, the fingerprint of the appliance's own certificate authority
/// and where that authority's certificate lies.
#[derive(Args)]
#[command(after_long_help = "\
SIGTERM and SIGINT let requests under way finish (server.drain_seconds); a second one ends the process at once. SIGHUP \
looks at the certificates at once (tls.cert_file, ACME); settings are read at start only. Under systemd it reports readiness and answers the watchdog.

Exit codes: 0 stopped as told, 1 failed, 2 the command line or the configuration is wrong.

Examples:
  zero serve
  zero serve --data-dir /var/lib/zero --listen 0.0.0.0:443
  ZERO_LOG_LEVEL=debug zero serve --config zero.toml --listen 127.0.0.1:0")]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// Address and port to listen on; port 0 picks a free one [env: ZERO_SERVER_LISTEN=] [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

/// Threads for work that blocks: files and password hashing, both of which have tighter bounds of their own.
const BLOCKING_THREADS: usize = 32;

/// Threads in the background, beside those for work that blocks: one that waits for the disk does not stop the other.
const BACKGROUND_THREADS: usize = 2;

/// How often memory that lies idle is looked for.
const TRIM: Duration = Duration::from_secs(2);

/// How long work that blocks may go on once everything else has ended.
const LAST_WORK: Duration = Duration::from_secs(5);

impl Serve {
    pub fn run(self) -> ExitCode {
        process::return_memory();
        let flags = Flags { data_dir: self.data_dir.data_dir, listen: self.listen };
        let settings = match self.settings.load(flags) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let config_file = self.settings.config;
        let log = match logging::init(&settings.config.log) {
            Ok(guard) => Arc::new(guard),
            Err(error) => return fail(FAILED, &format_args!("cannot start the log: {error}")),
        };
        let code = match run_logged(settings, config_file, &log) {
            Ok(()) => ExitCode::SUCCESS,
            Err((what, why)) => {
                log.fatal(what, &why);
                ExitCode::from(FAILED)
            }
        };
        log.flush();
        code
    }
}

/// What failed, and why.
type Failure = (&'static str, String);

fn run_logged(settings: Loaded, config_file: Option<PathBuf>, log: &Arc<Guard>) -> Result<(), Failure> {
    let config = &settings.config;
    process::make_data_dir(&config.server.data_dir).map_err(|error| ("cannot start", error))?;
    process::raise_open_files(config.server.connections);
    let failed = |error: StartError| ("cannot start", error.to_string());
    let mut start = update::begin(config, config_file).map_err(failed)?;
    let threadless = |error: io::Error| ("cannot start", format!("no threads to run on: {error}"));
    let (runtime, background) = (runtime().map_err(threadless)?, background().map_err(threadless)?);
    let ready_within = config.update.ready_within;
    let ended = runtime.block_on(serve(settings, &mut start, log, background.handle()));
    if let Ok(Ended::Updating(_)) = &ended {
        supervisor::wait_for(ready_within + supervisor::START);
    }
    let last = Instant::now() + LAST_WORK;
    for runtime in [runtime, background] {
        runtime.shutdown_timeout(last.saturating_duration_since(Instant::now()));
    }
    match ended? {
        Ended::Stopped => tracing::info!("stopped"),
        Ended::Updating(socket) => {
            tracing::info!("closed, for an update");
            log.flush();
            let error = start.again(&socket);
            return Err(("cannot update", format!("{error}. Start again: the update then goes on")));
        }
    }
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    // One thread would let a single slow computation stop everything, the watchdog included.
    let workers = available_parallelism().map_or(2, NonZeroUsize::get).max(2);
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("zero")
        .on_thread_start(turns::long)
        .on_thread_park(answer_in_short_turns)
        .enable_all()
        .build()
}

/// Only a thread that answers ever parks; those for work that blocks do not.
fn answer_in_short_turns() {
    thread_local!(static KNOWS: Cell<bool> = const { Cell::new(false) });
    if !KNOWS.replace(true) {
        turns::short();
    }
}

/// Threads for what no request waits for: deliveries, backups and their proof. They get what time requests leave.
fn background() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("zero-background")
        .on_thread_start(turns::last)
        .enable_all()
        .build()
}

async fn serve(settings: Loaded, start: &mut Start, log: &Arc<Guard>, background: &Handle) -> Result<Ended, Failure> {
    // Before anything else, so that a signal during a long start counts too.
    let stop = signals::listen(log.clone())
        .map_err(|error| ("cannot start", format!("signals cannot be received: {error}")))?;
    let failed = |what| move |error: StartError| (what, error.to_string());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data_dir = %settings.config.server.data_dir.display(), "starting");

    for (setting, source) in settings.origins.iter().filter(|(_, source)| matches!(source, Source::Changed { .. })) {
        tracing::info!(setting, file = %source, "was changed while the appliance ran, and wins over the file of settings");
    }

    let app = tokio::select! {
        app = App::start(settings, Arc::new(SystemClock::new()), start) => app,
        () = stop.clone().asked() => return Ok(Ended::Stopped),
    };
    let app = match app {
        Ok(app) => app,
        Err(error) => {
            if let Some(tried) = &start.tried {
                log.flush();
                tried.give_up(&format!("it does not start: {error}"));
            }
            return Err(failed("cannot start")(error));
        }
    };
    if start.is_rehearsal() {
        // It has shown that it would serve.
        app.close();
        return Ok(Ended::Stopped);
    }
    announce(app.started(), log);

    let supervisor = Supervisor::new(app.health());
    supervisor.ready();
    if start.took_over() {
        supervisor.watch_again();
    }
    let look = app.look_at_certificates();
    let (hangups, told) = (stop.clone(), stop.clone());
    let stopping = async {
        stop.asked().await;
        supervisor.stopping();
    };
    tokio::select! {
        ended = app.run_until(stopping, background) => match ended.map_err(failed("stopped after a failure"))? {
            // Whoever wants it to stop does not want another version of it either.
            Ended::Updating(_) if told.is_asked() => Ok(Ended::Stopped),
            ended => Ok(ended),
        },
        never = supervisor.watch(log) => match never {},
        never = trim_memory() => match never {},
        never = async {
            loop {
                hangups.hangup().await;
                look();
            }
        } => never,
    }
}

async fn trim_memory() -> Infallible {
    loop {
        tokio::time::sleep(TRIM).await;
        // Should the thread panic, the next one tries again.
        let _ = tokio::task::spawn_blocking(process::trim_memory).await;
    }
}

/// Tells programs on standard output, and people on standard error, that the appliance can be used.
fn announce(started: &Started, log: &Guard) {
    tracing::info!(
        url = started.url,
        ca = %started.ca_path.display(),
        ca_sha256 = started.ca_fingerprint,
        "ready"
    );
    let told = writeln!(io::stdout(), "ready {}", started.listens).and_then(|()| io::stdout().flush());
    if let Err(error) = told {
        tracing::warn!(%error, "cannot write the ready line to standard output");
    }
    if let Some(welcome) = welcome(started) {
        // Not through the log, which is kept and forwarded: a setup code is a secret.
        log.flush();
        let _ = io::stderr().write_all(welcome.as_bytes());
    }
}

/// What a person needs to set the appliance up; none when it is.
fn welcome(started: &Started) -> Option<String> {
    let code = started.setup_code.as_ref()?;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "
  This appliance has not been set up yet.

  Open        {url}
  Setup code  {code}
              (good for 60 minutes and for one use; a restart shows a new one)

  The browser will warn until it trusts this appliance's own certificate authority:
  Certificate {ca}
  SHA-256     {fingerprint}

",
        url = started.url,
        ca = started.ca_path.display(),
        fingerprint = started.ca_fingerprint,
    );
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_tells_all_that_setting_up_takes_and_later_ones_nothing() {
        let mut started = Started {
            listens: "https://localhost:8443".into(),
            url: "https://localhost:8443".into(),
            setup_code: Some("ABCD-EFGH".into()),
            ca_fingerprint: "AB:CD".into(),
            ca_path: "/data/tls/ca.pem".into(),
        };
        let text = welcome(&started).expect("an appliance without an administrator says how to set it up");
        for part in ["https://localhost:8443", "ABCD-EFGH", "60 minutes", "one use", "AB:CD", "/data/tls/ca.pem"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        started.setup_code = None;
        assert_eq!(welcome(&started), None);
    }
}
