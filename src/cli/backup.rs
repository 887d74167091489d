//! `zero backup`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{DataDir, FAILED, Settings, WRONG_USAGE, fail, password, print};
use crate::app;
use crate::config::{Flags, Recipient};
use crate::store::backup::Protection;

/// Make a backup and prove that it restores
///
/// Works while the server runs, which gives the data of one moment through a socket in its data directory, and on a stopped
/// appliance. The backup holds all data, the appliance's keys and its certificates, but not its settings.
///
/// It is written beside FILE, read back, restored into a scratch folder there, counted against the source and its audit logs
/// verified. Only then it gets its name: a file of that name is a whole and proven backup. An existing file is never
/// replaced.
#[derive(Args)]
#[command(after_long_help = "\
Run it as the user that the appliance runs as, or as root. Whoever can read a backup that is not encrypted has all there is.

Exit codes: 0 made and proven, 1 there is none, 2 the command line or the configuration is wrong.

Examples:
  zero backup --data-dir /var/lib/zero /mnt/usb/zero.backup
  zero backup --data-dir /var/lib/zero --recipient age1... /mnt/usb/zero.backup.age
  zero backup --data-dir /var/lib/zero --passphrase-stdin zero.backup.age < passphrase.txt")]
pub(super) struct Backup {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// Where the backup goes; must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Encrypt it to this public key, as age-keygen makes it; otherwise to backup.recipient, where that is set
    #[arg(long, value_name = "age1...")]
    recipient: Option<String>,
    /// Encrypt it with a passphrase, the first line of standard input
    #[arg(long, conflicts_with = "recipient")]
    passphrase_stdin: bool,
}

impl Backup {
    pub fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir, ..Flags::default() };
        let config = match self.settings.load(flags) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let recipient = match self.recipient.as_deref().map(str::parse::<Recipient>) {
            Some(Err(why)) => return fail(WRONG_USAGE, &format_args!("--recipient: {why}")),
            Some(Ok(recipient)) => Some(recipient),
            None => config.backup.recipient.clone(),
        };
        let protection = match self.passphrase_stdin {
            true => match password::from_stdin() {
                Ok(passphrase) => Protection::Passphrase(passphrase),
                Err(why) => return fail(WRONG_USAGE, &why),
            },
            false => recipient.map_or(Protection::None, Protection::Recipient),
        };
        match app::back_up(config, &self.file, &protection) {
            Ok(made) => print(&format!(
                "{}: {} bytes, {} records, {} audit logs verified: proven\n",
                self.file.display(),
                made.bytes,
                made.contents.records(),
                made.contents.logs.len()
            )),
            Err(error) => fail(FAILED, &error),
        }
    }
}
