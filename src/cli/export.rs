//! `zero export`

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{DataDir, FAILED, Settings, fail, print};
use crate::app;
use crate::config::Flags;

/// Read what can be read of a damaged data file
///
/// For when there is no backup. Reads table by table, around pages that cannot be read, and writes a line of JSON for each
/// record: its table, its key in hexadecimal and its value. Nothing vouches for what it reads: a record can be damaged and
/// look whole. What could not be read is listed on standard output. The data file is not changed.
#[derive(Args)]
#[command(after_long_help = "\
The output holds everything that the data held, secrets included. It cannot be restored; it is for people to look things up.

Exit codes: 0 everything could be read, 1 something could not or nothing could, 2 the command line or the configuration is \
wrong.

Example:
  zero export --salvage --data-dir /var/lib/zero /mnt/usb/salvaged.ndjson")]
pub(super) struct Export {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// Read also what is damaged; there is no other export by this command
    #[arg(long, required = true)]
    salvage: bool,
    /// Where the lines go; must not exist
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

impl Export {
    pub fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir, ..Flags::default() };
        let config = match self.settings.load(flags) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let salvaged = match app::salvage(&config, &self.out) {
            Ok(salvaged) => salvaged,
            Err(error) => return fail(FAILED, &error),
        };
        let mut text = String::new();
        // Writing to a string does not fail.
        for (table, count) in &salvaged.records {
            let _ = writeln!(text, "{table}: {count} records");
        }
        if salvaged.garbled > 0 {
            let _ = writeln!(text, "records that could not be understood: {}", salvaged.garbled);
        }
        for lost in &salvaged.lost {
            let (after, before) = (lost.after.as_deref(), lost.before.as_deref());
            let (after, before) = (after.unwrap_or("the beginning"), before.unwrap_or("the end"));
            let _ =
                writeln!(text, "LOST in {}: whatever was between {after} and {before}: {}", lost.table, lost.reason);
        }
        match print(&text) {
            done if salvaged.lost.is_empty() && salvaged.garbled == 0 => done,
            _ => ExitCode::from(FAILED),
        }
    }
}
