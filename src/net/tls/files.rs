//! Certificates and keys on disk: written whole or not at all, keys for the owner only.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::TlsError;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Readable {
    ByOwner,
    ByAll,
}

/// Larger than any certificate or key; a larger file is not one.
const LARGEST: u64 = 64 * 1024;

pub(super) fn make_directory(path: &Path) -> Result<(), TlsError> {
    fs::create_dir_all(path).map_err(|source| TlsError::Io { file: path.into(), source })?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync_directory(parent).map_err(|source| TlsError::Io { file: parent.into(), source })?;
    }
    Ok(())
}

/// The text of `path`, or `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, TlsError> {
    let failed = |source| TlsError::Io { file: path.into(), source };
    match File::open(path) {
        Ok(file) => read_bounded(file).map(Some).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Who may read a key besides its owner.
#[derive(Clone, Copy)]
pub(super) enum Sharing {
    /// Nobody: the appliance made it for itself.
    None,
    /// A group, in which the appliance's own user is.
    Group,
}

/// Like [`read`], but refuses a file that more people may read than `sharing` lets.
pub(super) fn read_key(path: &Path, sharing: Sharing) -> Result<Option<String>, TlsError> {
    let failed = |source| TlsError::Io { file: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    let (refused, remedy) = match sharing {
        Sharing::None => (0o077, "chmod 600"),
        Sharing::Group => (0o027, "chmod 640"),
    };
    if mode & refused != 0 {
        return Err(TlsError::KeyExposed { file: path.into(), mode, remedy });
    }
    read_bounded(file).map(Some).map_err(failed)
}

fn read_bounded(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    // What is not text is damaged, and will be found so by whoever parses it.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts `contents` at `path`, durably. After a crash there is either the old file or the new one.
pub(super) fn write(path: &Path, contents: &str, readable: Readable) -> Result<(), TlsError> {
    write_whole(path, contents, readable).map_err(|source| TlsError::Io { file: path.into(), source })
}

fn write_whole(path: &Path, contents: &str, readable: Readable) -> io::Result<()> {
    let mode = match readable {
        Readable::ByOwner => 0o600,
        Readable::ByAll => 0o644,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    // The process's umask may have taken away what a certificate's readers need.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
