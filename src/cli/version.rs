//! `zero version`

use std::env::consts::{ARCH, OS};
use std::process::ExitCode;

use clap::Args;

use super::print;

/// Print which build this is
///
/// Prints the version, the processor and system that this binary is built for and, when the build was told of it
/// (ZERO_COMMIT), the commit it was built from: what a report of a problem should say.
#[derive(Args)]
#[command(after_long_help = "Example:\n  zero version")]
pub(super) struct Version {}

impl Version {
    pub fn run(&self) -> ExitCode {
        let linkage = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
        let mut text = format!("zero {}\ntarget {ARCH}-{OS} ({linkage})\n", env!("CARGO_PKG_VERSION"));
        if let Some(commit) = option_env!("ZERO_COMMIT") {
            text.push_str(&format!("commit {commit}\n"));
        }
        print(&text)
    }
}
