//! `zero support-bundle`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{DataDir, FAILED, Settings, doctor, fail, print};
use crate::app;
use crate::config::Flags;

/// Write down what somebody who helps needs to know
///
/// One file of JSON: versions, settings, what the doctor finds, and, while the server runs, its state and its metrics. No
/// secret and no name is in it: of settings that are text it says only whether they are set, and names, paths and addresses
/// are taken out of messages. Look through it before you send it.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes: 0 written, 1 it failed, 2 the command line is wrong.

Example:
  zero support-bundle --data-dir /var/lib/zero support.json")]
pub(super) struct SupportBundle {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// Where it goes; must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl SupportBundle {
    pub fn run(self) -> ExitCode {
        let flags = || Flags { data_dir: self.data_dir.data_dir.clone(), ..Flags::default() };
        let findings = doctor::findings(&self.settings, flags());
        let loaded = self.settings.read(flags()).ok();
        let bundle = app::bundle(loaded.as_ref(), &findings);
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
        let written = written.and_then(|mut file| file.write_all(format!("{bundle:#}\n").as_bytes()));
        match written {
            Ok(()) => print(&format!("{}: look through it before you send it\n", self.file.display())),
            Err(error) => fail(FAILED, &format_args!("{}: {error}", self.file.display())),
        }
    }
}
