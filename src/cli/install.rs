//! `zero install` and `zero uninstall`

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use self::place::{Place, Step};
use super::{FAILED, fail, print};

mod place;

const UNIT: &str = include_str!("../../packaging/systemd/zero.service");
const USER: &str = include_str!("../../packaging/systemd/zero.sysusers");
const SETTINGS: &str = include_str!("../../packaging/zero.toml");

const BINARY: &str = "usr/bin/zero";
const UNIT_FILE: &str = "etc/systemd/system/zero.service";
const USER_FILE: &str = "etc/sysusers.d/zero.conf";
const SETTINGS_FILE: &str = "etc/zero/zero.toml";
const DATA: &str = "var/lib/zero";
/// Says that the binary is a package's.
const PACKAGE: &str = "var/lib/dpkg/info/zero.list";

/// Install the appliance as a service of this machine
///
/// Copies this binary to /usr/bin/zero, makes a user of its own, a hardened systemd unit and /etc/zero/zero.toml (port
/// 443), and starts it; its data are kept in /var/lib/zero. Run again with a newer binary it upgrades in place: settings
/// and data stay as they are.
#[derive(Args)]
#[command(after_long_help = "Example:\n  sudo ./zero install")]
pub(super) struct Install {
    /// Put everything below this directory and start nothing: for images of machines
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Remove the service, and leave its data
///
/// Stops the service and removes what "zero install" has put on this machine. Settings and data, in /etc/zero and
/// /var/lib/zero, stay for the next installation unless they are purged; a purge cannot be undone.
#[derive(Args)]
#[command(after_long_help = "Example:\n  sudo zero uninstall")]
pub(super) struct Uninstall {
    /// Remove settings, data and the user as well
    #[arg(long)]
    purge: bool,
    /// Remove from below this directory, and stop nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl Install {
    pub fn run(self) -> ExitCode {
        match self.install() {
            Ok(told) => print(&told),
            Err(why) => fail(FAILED, &why),
        }
    }

    fn install(&self) -> Step<String> {
        let place = Place::new(&self.root, PACKAGE)?;
        let is_upgrade = place.has(UNIT_FILE);
        let own = std::env::current_exe().map_err(|error| format!("cannot find this binary: {error}"))?;
        place.copy(&own, BINARY)?;
        place.write(USER_FILE, USER, 0o644)?;
        place.write(UNIT_FILE, UNIT, 0o644)?;
        run(Command::new("systemd-sysusers").arg(place.root_option()).arg("zero.conf"))?;
        if !place.has(SETTINGS_FILE) {
            place.write(SETTINGS_FILE, SETTINGS, 0o640)?;
            place.give_to_group("zero", SETTINGS_FILE)?;
        }
        run(systemctl(&place).args(["enable", "--quiet", "zero.service"]))?;
        if !place.runs_systemd() {
            return Ok("Installed. It starts with the machine's systemd.\n".into());
        }
        run(Command::new("systemctl").arg("daemon-reload"))?;
        // Comes back when the appliance is ready.
        run(Command::new("systemctl").args(["restart", "zero.service"]))
            .map_err(|why| format!("{why}\nThe journal says why: sudo journalctl -u zero -n 20"))?;
        Ok(match is_upgrade {
            true => format!("Upgraded to {}. The appliance runs.\n", env!("CARGO_PKG_VERSION")),
            false => "\
Installed. The appliance runs, on port 443 (/etc/zero/zero.toml).

  Address, setup code and fingerprint   sudo journalctl -u zero -o cat | grep -A8 'not been set up'
  State                                 systemctl status zero
"
            .into(),
        })
    }
}

impl Uninstall {
    pub fn run(self) -> ExitCode {
        match self.uninstall() {
            Ok(told) => print(&told),
            Err(why) => fail(FAILED, &why),
        }
    }

    fn uninstall(&self) -> Step<String> {
        let place = Place::new(&self.root, PACKAGE)?;
        if place.has(UNIT_FILE) {
            run(systemctl(&place).args(["disable", "--quiet", "zero.service"]))?;
            if place.runs_systemd() {
                run(Command::new("systemctl").args(["stop", "zero.service"]))?;
            }
        }
        for file in [UNIT_FILE, USER_FILE, BINARY] {
            place.remove(file)?;
        }
        if place.runs_systemd() {
            run(Command::new("systemctl").arg("daemon-reload"))?;
        }
        if !self.purge {
            return Ok("Removed. Settings and data are still there: /etc/zero, /var/lib/zero.\n".into());
        }
        place.remove_folder("etc/zero")?;
        place.remove_folder(DATA)?;
        if place.is_machine() && run(Command::new("getent").args(["passwd", "zero"])).is_ok() {
            run(Command::new("userdel").arg("zero"))?;
        }
        Ok("Removed, with all settings and data.\n".into())
    }
}

fn systemctl(place: &Place) -> Command {
    let mut command = Command::new("systemctl");
    if !place.is_machine() {
        command.arg(place.root_option());
    }
    command
}

/// Runs a command to its end; the error has its own words.
fn run(command: &mut Command) -> Step<()> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command.output().map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} has failed ({}): {}", output.status, said.trim()))
}
