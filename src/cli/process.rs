//! What a process sets up for itself before it touches data or accepts connections.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// Makes the data directory, and whatever this process creates from now on, readable by its owner only.
///
/// # Errors
/// What is wrong with the path, as a sentence.
pub(super) fn make_data_dir(path: &Path) -> Result<(), String> {
    umask(Mode::RWXG | Mode::RWXO);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| close(path)).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; choose another with --data-dir, or let this user write there",
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "; a file is in its place",
            _ => "",
        };
        format!("cannot make the data directory {}: {error}{hint}", path.display())
    })
}

/// A directory that was made for the appliance and is still empty, as a container's volume, is closed to other users.
/// Others may look into one with something in it on purpose: that is only said.
fn close(path: &Path) -> io::Result<()> {
    let mode = path.metadata()?.mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let is_empty = fs::read_dir(path)?.next().is_none();
    let closed = is_empty && fs::set_permissions(path, Permissions::from_mode(0o700)).is_ok();
    let mode = format!("{:o}", mode & 0o7777);
    if closed {
        tracing::info!(path = %path.display(), was = mode, "closed the empty data directory to other users");
    } else {
        tracing::warn!(path = %path.display(), mode, "other users can look into the data directory; chmod 700 it");
    }
    Ok(())
}

/// Bytes from which on a block of memory is returned to the system as soon as it is free.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 1 << 20;

/// Makes this process return memory that it no longer needs. Comes before there are other threads.
///
/// Left to itself, glibc takes the largest block ever freed as the size from which on blocks are returned: once a
/// password has been hashed, every thread that hashes another keeps its 19 MiB for ever.
pub(super) fn return_memory() {
    #[cfg(target_env = "gnu")]
    for option in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: it only sets a number of the allocator, and there is no other thread. Failing leaves the default.
        let _ = unsafe { libc::mallopt(option, LARGE_BLOCK) };
    }
}

/// Bytes of memory that may lie idle in the heap.
const IDLE_MEMORY: u64 = 4 << 20;

/// Gives back the pages that are free by now, also those between others in use, when there are many of them. That takes
/// milliseconds in a large heap; looking whether it is worth it takes none.
///
/// A burst of enrolments leaves gaps all over the heap, which glibc keeps for the next one.
pub(super) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    if held().is_none_or(|held| held > used() + IDLE_MEMORY) {
        // SAFETY: it only returns free pages, under the allocator's own locks.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// Bytes of memory that the process holds and no other shares: the heap and the stacks.
#[cfg(target_env = "gnu")]
fn held() -> Option<u64> {
    let sizes = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = sizes.split_ascii_whitespace().skip(1).map_while(|pages| pages.parse::<u64>().ok());
    Some(pages.next()?.saturating_sub(pages.next()?) * rustix::param::page_size() as u64)
}

/// Bytes that are allocated.
#[cfg(target_env = "gnu")]
fn used() -> u64 {
    // SAFETY: it only counts, under the allocator's own locks.
    let heap = unsafe { libc::mallinfo2() };
    (heap.uordblks + heap.hblkhd) as u64
}

/// Open files beside connections: the data file, the log, the runtime, outgoing connections.
const OTHER_FILES: u64 = 128;

/// Lets this process open as many files as the system allows it, and warns when `connections` do not fit.
pub(super) fn raise_open_files(connections: u32) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let needed = u64::from(connections) + OTHER_FILES;
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < needed) {
        tracing::warn!(allowed, needed, "too few open files are allowed for server.connections; raise the hard limit");
    }
}
