//! Looks at an existing file before it is opened for writing.
//!
//! redb alone would initialize an empty file, recover a damaged one in place, and trust whatever a file that was
//! closed properly contains. So redb first opens a view of the file: it reads through to the file and keeps what redb
//! writes in memory. There redb recovers and verifies; only when that has succeeded may it open the file itself.

use std::path::Path;
use std::sync::atomic::Ordering;

use redb::{ReadableDatabase, StorageBackend};

use super::error::{guarded, unopened};
use super::view::View;
use super::{OpenError, Options, Snapshot, builder};

/// Memory for pages while looking, in bytes. Verification walks through every page in turn and comes back to none.
const CACHE_BYTES: usize = 1 << 20;

/// `accept` sees the contents as they will be once the file is open.
pub(super) fn examine(
    path: &Path,
    file: impl StorageBackend,
    options: Options,
    accept: impl FnOnce(&Snapshot) -> Result<(), String>,
) -> Result<(), OpenError> {
    let unreadable = |source| OpenError::Io { action: "read", path: path.into(), source };
    let length = file.len().map_err(unreadable)?;
    if length == 0 {
        return Err(OpenError::Empty { path: path.into() });
    }
    let mut header = vec![0; HEADER_BYTES.min(length as usize)];
    file.read(0, &mut header).map_err(unreadable)?;
    check_header(path, &header, length)?;

    let view = View::new(file, length);
    let end_of_view = view.end();
    let mut database = guarded(|| {
        let mut builder = builder(CACHE_BYTES);
        builder.set_check_integrity_on_open(length <= options.verify_up_to_bytes);
        builder.create_with_backend(view)
    })
    .map_err(|error| unopened(path, error))?;
    let snapshot = guarded(|| database.begin_read()).map(Snapshot::new);
    let snapshot = snapshot.map_err(|error| damaged(path, error))?;
    let accepted = accept(&snapshot).map_err(|reason| OpenError::Refused { path: path.into(), reason });
    drop(snapshot);
    // redb commits when it closes, which in a damaged file that was not verified can abort the process. It does not
    // after its file has failed, which reading the header again now shows it.
    end_of_view.store(true, Ordering::Relaxed);
    let _ = guarded(|| database.check_integrity());
    accepted
}

fn damaged(path: &Path, detail: impl ToString) -> OpenError {
    OpenError::Damaged { path: path.into(), detail: detail.to_string() }
}

// The first bytes of the file, from redb's docs/design.md ("Database file format"); integers are little-endian.
const HEADER_BYTES: usize = 320;
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
const PAGE_SIZE: usize = 12;
const REGION_HEADER_PAGES: usize = 16;
const REGION_MAX_PAGES: usize = 20;
const FULL_REGIONS: usize = 24;
const TRAILING_PAGES: usize = 28;

const PAGE_BYTES: u64 = 4096;
const PAGES_PER_REGION: u64 = 1 << 20;

/// What no checksum covers and redb takes on trust.
fn check_header(path: &Path, header: &[u8], length: u64) -> Result<(), OpenError> {
    if !header.starts_with(MAGIC) {
        return Err(OpenError::NotADatabase { path: path.into() });
    }
    if header.len() < HEADER_BYTES {
        return Err(damaged(path, "it is cut off within its header"));
    }
    let number =
        |at: usize| u64::from(u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    if number(PAGE_SIZE) != PAGE_BYTES
        || number(REGION_HEADER_PAGES) != 0
        || number(REGION_MAX_PAGES) != PAGES_PER_REGION
    {
        return Err(damaged(path, "its header is not one that zero writes"));
    }
    // The file grows before its header says so, and shrinks after.
    let pages = 1 + number(FULL_REGIONS) * PAGES_PER_REGION + number(TRAILING_PAGES);
    let stated = pages.saturating_mul(PAGE_BYTES);
    if length < stated {
        return Err(damaged(path, format!("it is cut off: {length} of {stated} bytes are there")));
    }
    Ok(())
}
