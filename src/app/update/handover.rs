//! How one version hands over to another: by becoming it, in the same process.
//!
//! The installed binary is the first to run, always. It goes on as the version in the data directory when that is newer
//! and signed, so whoever can write there and nowhere else still cannot have anything run that was not signed.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::bundle::{self, BINARY, compare};
use super::state::Places;
use crate::config::Config;

const VARIABLE: &str = "ZERO_HANDOVER";
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What one version tells the next.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handover {
    /// As which version it runs; none when it is to find out.
    pub version: Option<String>,
    /// The installed binary.
    pub installed: Option<PathBuf>,
    /// The listening socket, where clients go on waiting meanwhile.
    pub listener: Option<RawFd>,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    #[default]
    Serves,
    /// Starts on the last copy of the data, to take over once it is ready.
    Tried,
    /// Starts on a copy for show: once it is ready it ends.
    Rehearses,
}

impl Handover {
    /// What this process was told; the default for one that was started by hand.
    pub fn received() -> Self {
        let text = env::var(VARIABLE).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// As which version this process runs.
    pub fn running(&self) -> &str {
        self.version.as_deref().unwrap_or(OWN_VERSION)
    }

    pub fn installed(&self) -> io::Result<PathBuf> {
        self.installed.clone().map_or_else(env::current_exe, Ok)
    }

    /// The socket, for whoever takes it first.
    pub fn take_listener(&self) -> Option<std::net::TcpListener> {
        // SAFETY: whoever handed it over left it open for this process, where nothing else knows of it.
        let owned = self.listener.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })?;
        // Where there is no such socket, a new one is bound.
        fcntl_setfd(&owned, FdFlags::CLOEXEC).ok()?;
        Some(owned.into())
    }

    /// For a process that is started on the side.
    pub fn give(&self, command: &mut Command) -> io::Result<()> {
        command.env(VARIABLE, serde_json::to_string(self)?);
        Ok(())
    }

    /// Becomes `binary`, with the arguments of this process and with `listener`. Comes back only where that fails.
    pub fn become_it(mut self, binary: &Path, listener: Option<&OwnedFd>) -> io::Error {
        let mut command = Command::new(binary);
        let mut arguments = env::args_os();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments);
        self.listener = listener.map(AsRawFd::as_raw_fd);
        let ready = listener.map_or(Ok(()), |fd| fcntl_setfd(fd, FdFlags::empty()).map_err(io::Error::from));
        if let Err(error) = ready.and_then(|()| self.give(&mut command)) {
            return error;
        }
        let error = command.exec();
        if let Some(fd) = listener {
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        error
    }
}

/// Goes on as the version in the data directory, where there is a newer one. Every command does, so that what reads and
/// writes the data is of the version that keeps it.
pub fn hand_over(config: &Config) {
    let received = Handover::received();
    if received.version.is_some() {
        return;
    }
    let places = Places::new(&config.server.data_dir);
    // Whoever may not look in there may do nothing with it either.
    let Ok(state) = places.read() else { return };
    let Some(version) = places.pick(&state).filter(|version| compare(version, OWN_VERSION).is_gt()) else { return };
    let error = match binary_of(&places, &version, config) {
        Ok(binary) => {
            let installed = received.installed().ok();
            let listener = received.take_listener().map(OwnedFd::from);
            let handover = Handover { version: Some(version.clone()), installed, ..Handover::default() };
            handover.become_it(&binary, listener.as_ref()).to_string()
        }
        Err(why) => why,
    };
    eprintln!("zero: version {version} in {} cannot be run: {error}", places.folder().display());
}

/// The binary of a version, which is exactly what was signed.
pub fn binary_of(places: &Places, version: &str, config: &Config) -> Result<PathBuf, String> {
    let folder = places.version(version);
    let path = folder.join(BINARY);
    let (manifest, binary) = bundle::verify(&folder, &path, config.update.key()).map_err(|error| error.to_string())?;
    if manifest.version != version {
        return Err(format!("it is version {} by what was signed", manifest.version));
    }
    let owner = binary.metadata().map_err(|error| error.to_string())?.uid();
    if rustix::process::geteuid().is_root() && owner != 0 {
        // Its owner could put something else in its place until it runs, and would then be root.
        return in_memory(&folder, &path, config).map_err(|error| error.to_string());
    }
    Ok(path)
}

/// A copy of the binary that nobody can change any more.
fn in_memory(folder: &Path, path: &Path, config: &Config) -> io::Result<PathBuf> {
    let memory = memfd_create("zero", MemfdFlags::ALLOW_SEALING)?;
    io::copy(&mut File::open(path)?, &mut File::from(memory.try_clone()?))?;
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    let copied = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    bundle::verify(folder, &copied, config.update.key()).map_err(io::Error::other)?;
    // It has to be open when it is run.
    std::mem::forget(memory);
    Ok(copied)
}
