//! `zero check-config`

use std::process::ExitCode;

use clap::Args;

use super::{DataDir, Settings, print};
use crate::config::Flags;

/// Check the settings and show those in force
///
/// Reads the settings as "zero serve" would, from the file, the environment, and what was changed in the dashboard
/// (settings.toml in the data directory), and starts nothing. When they are right
/// it prints "ok" and all settings in force, with where each that is not a default came from; secrets appear as ***.
/// When they are not, it lists every mistake with its place and exits with 2.
#[derive(Args)]
#[command(after_long_help = "Example:\n  zero check-config --config /etc/zero/zero.toml")]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
}

impl CheckConfig {
    pub fn run(&self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir.clone(), ..Flags::default() };
        match self.settings.load(flags) {
            Ok(loaded) => print(&format!("ok\n\n{loaded}")),
            Err(code) => code,
        }
    }
}
