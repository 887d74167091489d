//! `zero update`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{DataDir, FAILED, Settings, fail, print};
use crate::app::update;
use crate::config::Flags;
use crate::model::update::{UpdateResult, UpdateStep};

/// Update to a newer version, or stay as it is
///
/// Gives the running server a signed bundle. The server checks it, makes and proves a backup, starts the new version on a
/// copy of its data, and lets it take over when that works. If the new version does not become ready, the old one serves
/// again, with its data as they were, and this command says why.
#[derive(Args)]
#[command(after_long_help = "\
It needs no network: the bundle is a file, and the key to check it with is built in (or update.public_key). Everything is \
kept in \"update\" in the data directory; the installed binary stays, and goes on as the newer version at every start. Run it \
as the user that the appliance runs as, or as root.

Exit codes: 0 updated, 1 refused or undone, 2 the command line or the configuration is wrong.

Example:
  zero update --data-dir /var/lib/zero zero_0.2.0_amd64.update")]
pub(super) struct Update {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Update {
    pub fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir, ..Flags::default() };
        let config = match self.settings.load(flags) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let report = |step| {
            print(match step {
                UpdateStep::BackingUp => "checked; making a backup\n",
                UpdateStep::Rehearsing => "starting the new version on a copy of the data\n",
                UpdateStep::Switching => "the new version takes over\n",
            });
        };
        match update::update(&config, &self.file, report) {
            Err(error) => fail(FAILED, &error),
            Ok(outcome) => match outcome.result {
                UpdateResult::Updated => print(&format!("updated from {} to {}\n", outcome.from, outcome.to)),
                UpdateResult::Undone => fail(
                    FAILED,
                    &format_args!(
                        "undone: {}. Version {} serves, with its data as they were",
                        outcome.reason.as_deref().unwrap_or("nobody knows why"),
                        outcome.from
                    ),
                ),
            },
        }
    }
}
