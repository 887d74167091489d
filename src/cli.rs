//! The commands, one file each.
//!
//! Exit codes: 0 done, 1 it failed, 2 the command line or the configuration is wrong.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Flags, Loaded, Mistakes};

mod audit;
mod backup;
mod check_config;
mod doctor;
mod export;
mod init;
mod install;
mod openapi;
mod password;
mod process;
mod recover_admin;
mod restore;
mod serve;
mod support_bundle;
mod update;
mod version;

/// Device management in one static binary.
///
/// "zero serve" on an empty machine is a working appliance: it listens on HTTPS, makes its own certificates and keeps
/// everything in one directory.
#[derive(Parser)]
#[command(name = "zero", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_long_help = "Example:\n  zero serve --data-dir /var/lib/zero")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Init(init::Init),
    RecoverAdmin(recover_admin::RecoverAdmin),
    Audit(audit::Audit),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Export(export::Export),
    Update(update::Update),
    Doctor(doctor::Doctor),
    SupportBundle(support_bundle::SupportBundle),
    CheckConfig(check_config::CheckConfig),
    Install(install::Install),
    Uninstall(install::Uninstall),
    Openapi(openapi::Openapi),
    Version(version::Version),
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::RecoverAdmin(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Update(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::SupportBundle(command) => command.run(),
        Command::CheckConfig(command) => command.run(),
        Command::Install(command) => command.run(),
        Command::Uninstall(command) => command.run(),
        Command::Openapi(command) => command.run(),
        Command::Version(command) => command.run(),
    }
}

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// Where the settings come from.
#[derive(Args)]
struct Settings {
    /// File with settings; see config/zero.toml for all of them. Without it: the environment and the defaults
    #[arg(long, value_name = "FILE", env = "ZERO_CONFIG")]
    config: Option<PathBuf>,
}

impl Settings {
    /// Reads the settings. Whoever works on the data is the version that keeps it, so that a newer one goes on here.
    fn read(&self, flags: Flags) -> Result<Loaded, Mistakes> {
        let environment = std::env::vars_os().collect::<Vec<(OsString, OsString)>>();
        // Before there are mistakes: a newer version can know more settings.
        crate::app::update::hand_over(&Config::glance(self.config.as_deref(), environment.clone(), flags.clone()));
        Config::load(self.config.as_deref(), environment, flags)?.with_changes()
    }

    /// Reads the settings, or tells what is wrong with them.
    fn load(&self, flags: Flags) -> Result<Loaded, ExitCode> {
        self.read(flags).map_err(|mistakes| fail(WRONG_USAGE, &mistakes))
    }
}

/// Where the appliance keeps its data.
#[derive(Args)]
struct DataDir {
    /// Directory of the appliance's data, made when it is missing [env: ZERO_DATA_DIR=] [default: ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

/// Says on standard error why the command ends, and gives its exit code.
fn fail(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "zero: {why}");
    ExitCode::from(code)
}

/// Writes a command's result to standard output. A reader that has seen enough (`zero openapi | head`) is no failure.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(FAILED, &format_args!("cannot write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("{name} has no example"));
            assert!(example.contains(&format!("zero {name}")), "{help}");
            assert!(command.get_long_about().is_some_and(|about| about.to_string().len() > 150), "{help}");
        }
    }

    #[test]
    fn flags_of_the_contract_are_understood() {
        for line in [
            "zero serve --config F --data-dir D --listen 127.0.0.1:0",
            "zero init --data-dir D --organization Acme --email a@example.com --password-stdin",
            "zero recover-admin --data-dir D --email a@example.com",
            "zero recover-admin --data-dir D --email a@example.com --password-stdin",
            "zero audit verify --data-dir D",
            "zero audit verify F --checkpoint C",
            "zero backup --data-dir D F",
            "zero backup --data-dir D --passphrase-stdin F",
            "zero restore --data-dir D F --force --end-sessions --erasures L --identity K",
            "zero export --salvage --data-dir D OUT",
            "zero update --data-dir D F",
            "zero doctor --data-dir D --json",
            "zero support-bundle --data-dir D F",
            "zero check-config --config F",
            "zero install",
            "zero install --root /image",
            "zero uninstall --purge",
            "zero openapi",
            "zero version",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "zero",
            "zero destroy",
            "zero recover-admin",
            "zero audit",
            "zero audit verify F --data-dir D",
            "zero audit verify F --key 00",
            "zero backup",
            "zero backup F --recipient R --passphrase-stdin",
            "zero export OUT",
            "zero update",
            "zero serve --port 1",
            "zero init --organization A --email a@example.com",
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).err().map(|error| error.exit_code()), Some(2), "{line}");
        }
    }
}
