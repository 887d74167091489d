//! `zero init`

use std::process::ExitCode;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::{DataDir, FAILED, Settings, WRONG_USAGE, fail, password, print, process};
use crate::app::{self, FirstAdmin};
use crate::config::{Flags, LogConfig};
use crate::logging;

/// Set up an appliance without a browser
///
/// Makes the data directory with the first organization and its first administrator, as the setup page would, so that
/// the appliance needs no setup code when it starts. The password is the first line of standard input. A directory that
/// is set up already is refused and stays as it is. Run it as the user that the appliance will run as.
#[derive(Args)]
#[command(after_long_help = "Example:\n  zero init --data-dir /var/lib/zero --organization Acme \
                             --email admin@acme.example --password-stdin < password.txt")]
pub(super) struct Init {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// Name of the first organization
    #[arg(long, value_name = "NAME")]
    organization: String,
    /// E-mail address that the first administrator logs in with
    #[arg(long, value_name = "EMAIL")]
    email: String,
    /// Name of the first administrator
    #[arg(long, value_name = "NAME", default_value = "Administrator")]
    name: String,
    /// Read the administrator's password from standard input: one line of at most 1024 bytes. There is no other way to
    /// give it, since every user of the machine can read a command line
    #[arg(long, required = true)]
    password_stdin: bool,
}

impl Init {
    pub fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir, ..Flags::default() };
        let config = match self.settings.load(flags) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let password = match password::from_stdin() {
            Ok(password) => password,
            Err(why) => return fail(WRONG_USAGE, &why),
        };
        // Success is said on standard output; only trouble belongs in the log of a command that ends at once.
        let log = LogConfig { level: config.log.level.min(LevelFilter::WARN), ..config.log.clone() };
        let _log = match logging::init(&log) {
            Ok(guard) => guard,
            Err(error) => return fail(FAILED, &format_args!("cannot start the log: {error}")),
        };
        let data_dir = config.server.data_dir.clone();
        if let Err(error) = process::make_data_dir(&data_dir) {
            return fail(FAILED, &error);
        }
        let done = format!("{} is set up for {}\n", data_dir.display(), self.organization);
        let Self { organization, name, email, .. } = self;
        match app::initialise(config, FirstAdmin { organization, name, email, password }) {
            Ok(()) => print(&done),
            Err(error) => fail(FAILED, &format_args!("cannot set up {}: {error}", data_dir.display())),
        }
    }
}
