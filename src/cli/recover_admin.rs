//! `zero recover-admin`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::{FAILED, Settings, WRONG_USAGE, fail, password, print};
use crate::app;
use crate::config::{Flags, LogConfig};
use crate::logging;

/// Let a super admin in again who has lost the password or the phone
///
/// Works on the machine itself, on a stopped appliance: who can read the data directory can recover it. Gives the super
/// admin a new password, takes the second factor away, makes a suspended account active again and ends all its sessions.
/// The audit log says that it was done. It makes nobody a super admin, unless there is no active one left: then whoever
/// has the e-mail address becomes one. A wrong address changes nothing, and tells which ones are right.
///
/// The new password is random and the only thing on standard output, or with --password-stdin the first line of standard
/// input. API keys that the super admin made stay as they are: look through them afterwards.
#[derive(Args)]
#[command(after_long_help = "\
Run it as the user that the appliance runs as. While a server runs on the directory it refuses: stop that first.

Exit codes: 0 done, 1 refused or failed, 2 the command line or the configuration is wrong.

Examples:
  zero recover-admin --data-dir /var/lib/zero --email admin@acme.example
  zero recover-admin --data-dir /var/lib/zero --email admin@acme.example --password-stdin < password.txt")]
pub(super) struct RecoverAdmin {
    #[command(flatten)]
    settings: Settings,
    /// Directory of the appliance's data [env: ZERO_DATA_DIR=] [default: ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// E-mail address that the super admin logs in with
    #[arg(long, value_name = "EMAIL")]
    email: String,
    /// Read the new password from standard input, one line of at most 1024 bytes, instead of making one up
    #[arg(long)]
    password_stdin: bool,
}

impl RecoverAdmin {
    pub fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir, ..Flags::default() };
        let config = match self.settings.load(flags) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let password = match self.password_stdin.then(password::from_stdin).transpose() {
            Ok(password) => password,
            Err(why) => return fail(WRONG_USAGE, &why),
        };
        let log = LogConfig { level: config.log.level.min(LevelFilter::WARN), ..config.log.clone() };
        let _log = match logging::init(&log) {
            Ok(guard) => guard,
            Err(error) => return fail(FAILED, &format_args!("cannot start the log: {error}")),
        };
        let recovered = match app::recover_admin(config, self.email.clone(), password) {
            Ok(recovered) => recovered,
            Err(error) => return fail(FAILED, &format_args!("nothing was changed: {error}")),
        };
        let _ = writeln!(
            io::stderr(),
            "{} can log in as super admin with the new password, without a second factor; sessions ended: {}; API keys \
             that still act for them: {}",
            self.email,
            recovered.sessions_ended,
            recovered.api_keys
        );
        recovered.password.map_or(ExitCode::SUCCESS, |password| print(&format!("{password}\n")))
    }
}
