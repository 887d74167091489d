//! `zero init`

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::ExitCode;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::{DataDir, FAILED, Settings, WRONG_USAGE, fail, print, process};
use crate::app::{self, FirstAdmin};
use crate::config::{Flags, LogConfig, Secret};
use crate::logging;

/// Longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 1024;

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
        if io::stdin().is_terminal() {
            let _ = writeln!(io::stderr(), "Type the password (it will be visible), then Enter:");
        }
        let password = match read_password(io::stdin().lock()) {
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

/// The first line, without its end.
fn read_password(input: impl Read) -> Result<Secret, String> {
    let mut line = Vec::new();
    // Two more, for the line's end.
    let read = BufReader::new(input.take(MAX_PASSWORD + 2)).read_until(b'\n', &mut line);
    read.map_err(|error| format!("cannot read the password from standard input: {error}"))?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    }
    if line.is_empty() {
        return Err("there is no password on standard input".into());
    }
    if line.len() as u64 > MAX_PASSWORD {
        return Err(format!("the password is longer than {MAX_PASSWORD} bytes"));
    }
    String::from_utf8(line).map(Secret::new).map_err(|_| "the password is not UTF-8 text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<String, String> {
        read_password(input).map(|password| password.expose().to_owned())
    }

    #[test]
    fn a_password_is_the_first_line_as_it_was_typed() {
        for input in ["  pass word ", "  pass word \n", "  pass word \r\n", "  pass word \nmore\n"] {
            assert_eq!(read(input.as_bytes()).as_deref(), Ok("  pass word "), "{input:?}");
        }
    }

    #[test]
    fn a_password_that_would_be_cut_or_changed_is_refused() {
        let longest = "x".repeat(1024);
        assert_eq!(read(format!("{longest}\r\n").as_bytes()).as_deref(), Ok(longest.as_str()));
        let too_long = "x".repeat(1025);
        for input in [too_long.as_bytes(), format!("{too_long}\n").as_bytes(), b"", b"\n", b"\xFF\n"] {
            assert!(read(input).is_err(), "{input:?}");
        }
    }
}
