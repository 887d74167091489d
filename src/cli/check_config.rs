//! `zero check-config`

use std::process::ExitCode;

use clap::Args;

use super::{Settings, print};
use crate::config::Flags;

/// Check the settings and show those in force
///
/// Reads the settings as "zero serve" would, from the file and the environment, and starts nothing. When they are right
/// it prints "ok" and all settings in force, with where each that is not a default came from; secrets appear as ***.
/// When they are not, it lists every mistake with its place and exits with 2.
#[derive(Args)]
#[command(after_long_help = "Example:\n  zero check-config --config /etc/zero/zero.toml")]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: Settings,
}

impl CheckConfig {
    pub fn run(&self) -> ExitCode {
        match self.settings.load(Flags::default()) {
            Ok(loaded) => print(&format!("ok\n\n{loaded}")),
            Err(code) => code,
        }
    }
}
