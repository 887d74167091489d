//! `zero restore`

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::{DataDir, FAILED, Settings, WRONG_USAGE, fail, password, print, process};
use crate::app::{self, Wanted};
use crate::config::{Flags, LogConfig};
use crate::logging;
use crate::store::backup::Keys;

/// Make an appliance of a backup
///
/// Reads the whole backup, counts it and verifies its audit logs before anything is put in place. Refuses a directory that a
/// server works on, and one with data, unless --force is given: then what is there is kept beside, in "replaced-...".
///
/// People who were erased after the backup was made are erased again: by what the directory knows of them, by the file
/// erasures.log beside the backup (the appliance keeps one in its folders of backups), and by --erasures.
#[derive(Args)]
#[command(after_long_help = "\
Sessions that were ended after the backup was made come back with it, unless --end-sessions is given. Keys and certificates \
come with the backup, so that devices and browsers go on trusting the appliance, on another machine too. Settings do not: \
copy zero.toml. A restore that was cut short is finished by the same command; no server starts before.

Exit codes: 0 restored, 1 refused or failed, 2 the command line or the configuration is wrong.

Examples:
  zero restore --data-dir /var/lib/zero /mnt/usb/zero.backup
  zero restore --data-dir /var/lib/zero --force --end-sessions /mnt/usb/zero.backup
  zero restore --data-dir /var/lib/zero --identity key.txt /mnt/usb/zero.backup.age")]
pub(super) struct Restore {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Restore into a directory with data too, and keep that aside
    #[arg(long)]
    force: bool,
    /// End all sessions: everybody has to log in again
    #[arg(long)]
    end_sessions: bool,
    /// A further file of people who were erased since, as erasures.log
    #[arg(long, value_name = "FILE")]
    erasures: Option<PathBuf>,
    /// The secret key of the recipient that the backup is encrypted to, as age-keygen makes it
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_stdin")]
    identity: Option<PathBuf>,
    /// The backup's passphrase is the first line of standard input
    #[arg(long)]
    passphrase_stdin: bool,
}

impl Restore {
    pub fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir.clone(), ..Flags::default() };
        let config = match self.settings.load(flags) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let keys = match self.keys() {
            Ok(keys) => keys,
            Err(why) => return fail(WRONG_USAGE, &why),
        };
        let log = LogConfig { level: config.log.level.min(LevelFilter::WARN), ..config.log.clone() };
        let _log = match logging::init(&log) {
            Ok(guard) => guard,
            Err(error) => return fail(FAILED, &format_args!("cannot start the log: {error}")),
        };
        if let Err(error) = process::make_data_dir(&config.server.data_dir) {
            return fail(FAILED, &error);
        }
        let Self { file, force, end_sessions, erasures, .. } = self;
        let outcome = match app::restore(&config, &Wanted { file, keys, force, end_sessions, erasures }) {
            Ok(outcome) => outcome,
            Err(error) => return fail(FAILED, &error),
        };
        let (head, contents) = (&outcome.restored.head, &outcome.restored.contents);
        let mut text = format!(
            "restored into {}: the state of {}, {} records, {} audit logs verified\n",
            config.server.data_dir.display(),
            head.created_at,
            contents.records(),
            contents.logs.len()
        );
        // Writing to a string does not fail.
        let _ = writeln!(text, "people erased again: {}", outcome.aftermath.erased_again);
        let _ = writeln!(text, "sessions ended: {}", outcome.aftermath.sessions_ended);
        if let Some(aside) = outcome.aside {
            let _ = writeln!(text, "what was there before is kept in {}", aside.display());
        }
        print(&text)
    }

    fn keys(&self) -> Result<Keys, String> {
        if self.passphrase_stdin {
            return password::from_stdin().map(Keys::Passphrase);
        }
        let Some(path) = &self.identity else { return Ok(Keys::None) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Keys::identity(&text).map_err(|error| error.to_string())
    }
}
