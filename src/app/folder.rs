//! The data directory: who works on it, and what lies in it.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid, chownat, openat};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;

use super::{StartError, failed};
use crate::error::with_remedy;

/// Everything the appliance knows.
pub(super) const DATA_FILE: &str = crate::store::backup::DATA_FILE;
/// Whoever works on the data holds it locked.
pub(super) const LOCK_FILE: &str = "zero.lock";
/// Is there while a restore puts its files in place.
pub(super) const RESTORING: &str = "restoring";

/// Two servers on one folder would each believe to be the only one. The lock goes with the process.
pub(super) fn lock(data_dir: &Path) -> Result<File, StartError> {
    let file = take(data_dir)?;
    if data_dir.join(RESTORING).exists() {
        return Err(failed(format_args!(
            "a restore into {} was cut short, and what lies there is not whole: run zero restore with the same file again",
            data_dir.display()
        )));
    }
    Ok(file)
}

/// The lock, whatever state the folder is in.
pub(super) fn take(data_dir: &Path) -> Result<File, StartError> {
    std::fs::create_dir_all(data_dir).map_err(|error| failed(format_args!("{}: {error}", data_dir.display())))?;
    let path = data_dir.join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| failed(format_args!("cannot open {}: {}", path.display(), with_remedy(&error))))?;
    give_to_owner(data_dir, &path).map_err(|error| failed(format_args!("{}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed(format_args!(
            "another zero is running on {}: stop it first, or choose another folder with --data-dir",
            data_dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(format_args!("cannot lock {}: {error}", path.display()))),
    }
}

/// Gives what root has made in the data directory to the directory's owner: that is whom the appliance runs as, and it could
/// not read it otherwise. `made` lies right in the directory.
pub(super) fn give_to_owner(data_dir: &Path, made: &Path) -> io::Result<()> {
    let directory = File::open(data_dir)?;
    let owner = directory.metadata()?;
    if !geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let name = made.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    give(directory.as_fd(), name, Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()))
}

/// By open directories and without following links: the owner may rename what is in the directory meanwhile, and must not
/// be given anything elsewhere.
fn give(directory: BorrowedFd<'_>, name: impl Arg + Copy, user: Uid, group: Gid) -> io::Result<()> {
    chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let inner = match openat(directory, name, flags, Mode::empty()) {
        Ok(inner) => inner,
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            give(inner.as_fd(), entry.file_name(), user, group)?;
        }
    }
    Ok(())
}

/// Makes sure that no server starts on the folder while it is read; makes no file there. `None` where a server runs.
pub(super) fn lock_to_read(data_dir: &Path) -> Result<Option<Reading>, StartError> {
    let Ok(file) = File::open(data_dir.join(LOCK_FILE)) else { return Ok(Some(Reading(None))) };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(Reading(Some(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(format_args!("cannot lock {}: {error}", data_dir.display()))),
    }
}

/// Keeps servers from the folder.
pub(super) struct Reading(#[expect(dead_code, reason = "the lock goes with it")] Option<File>);
