//! A machine, or the image of one, and files in it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An error is a sentence for whoever runs the command.
pub(super) type Step<T> = Result<T, String>;

pub(super) struct Place {
    root: PathBuf,
}

impl Place {
    /// Refuses a machine that is not ours to change: without being root, or where a package has done the same.
    pub fn new(root: &Path, package: &str) -> Step<Self> {
        let root = root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
        let place = Self { root };
        if place.is_machine() && !rustix::process::geteuid().is_root() {
            return Err("this changes the machine: run it with sudo".into());
        }
        if place.has(package) {
            return Err("zero is installed as a package here: use apt for it".into());
        }
        Ok(place)
    }

    /// Not an image.
    pub fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    pub fn runs_systemd(&self) -> bool {
        self.is_machine() && Path::new("/run/systemd/system").is_dir()
    }

    /// As systemd's own commands take it.
    pub fn root_option(&self) -> String {
        format!("--root={}", self.root.display())
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub fn has(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    /// Puts a file there, whole or not at all.
    pub fn write(&self, file: &str, contents: &str, mode: u32) -> Step<()> {
        self.replace(file, &mut contents.as_bytes(), mode)
    }

    /// Lets a group read a file: the one of that name there, which has another number in an image than on this machine.
    pub fn give_to_group(&self, group: &str, file: &str) -> Step<()> {
        let groups = self.path("etc/group");
        let listed = fs::read_to_string(&groups).map_err(|error| format!("{}: {error}", groups.display()))?;
        let number = listed.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
        });
        let number = number.ok_or_else(|| format!("{} has no group {group}", groups.display()))?;
        let path = self.path(file);
        std::os::unix::fs::chown(&path, None, Some(number)).map_err(|error| {
            format!("{} cannot be given to the group {group}: {error}; run this with sudo", path.display())
        })
    }

    /// The same with this file's contents, which others may run.
    pub fn copy(&self, from: &Path, file: &str) -> Step<()> {
        if from.canonicalize().ok() == self.path(file).canonicalize().ok() {
            return Ok(());
        }
        let mut from = File::open(from).map_err(|error| format!("{}: {error}", from.display()))?;
        self.replace(file, &mut from, 0o755)
    }

    fn replace(&self, file: &str, contents: &mut impl io::Read, mode: u32) -> Step<()> {
        let path = self.path(file);
        let mut put = || {
            let folder = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder)?;
            let new = path.with_extension("new");
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
            opened.set_permissions(Permissions::from_mode(mode))?;
            io::copy(contents, &mut opened)?;
            opened.flush()?;
            opened.sync_all()?;
            // A running binary cannot be written to, but another can take its name.
            fs::rename(&new, &path)
        };
        put().map_err(|error| format!("{}: {error}", path.display()))
    }

    pub fn remove(&self, file: &str) -> Step<()> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("/{file}: {error}")),
            _ => Ok(()),
        }
    }

    pub fn remove_folder(&self, folder: &str) -> Step<()> {
        let path = self.path(folder);
        let Err(error) = fs::remove_dir_all(&path) else { return Ok(()) };
        let is_empty = || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            // A disk of its own is mounted there: it stays, empty.
            io::ErrorKind::ResourceBusy if is_empty() => Ok(()),
            io::ErrorKind::ResourceBusy => Err(format!("/{folder}: a disk is mounted in it: unmount that, then again")),
            _ => Err(format!("/{folder}: {error}")),
        }
    }
}
