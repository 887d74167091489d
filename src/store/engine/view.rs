//! A file seen through a layer that keeps every write in memory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

const PAGE: u64 = 4096;

#[derive(Debug)]
pub(super) struct View<B> {
    file: B,
    changes: Mutex<Changes>,
    ended: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Changes {
    length: u64,
    /// What the file holds from here on no longer counts: the view was once this short.
    file_end: u64,
    /// By page number.
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl<B: StorageBackend> View<B> {
    pub(super) fn new(file: B, length: u64) -> Self {
        let changes = Changes { length, file_end: length, pages: BTreeMap::new() };
        Self { file, changes: Mutex::new(changes), ended: Arc::default() }
    }

    /// Once this is set, every access fails.
    pub(super) fn end(&self) -> Arc<AtomicBool> {
        self.ended.clone()
    }

    fn changes(&self) -> io::Result<MutexGuard<'_, Changes>> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(io::Error::other("the view has ended"));
        }
        Ok(self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fills `out`, which lies within one page or more that no write has touched.
    fn read_file(&self, file_end: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = file_end.saturating_sub(offset).min(out.len() as u64) as usize;
        let (from_file, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if from_file.is_empty() { Ok(()) } else { self.file.read(offset, from_file) }
    }
}

/// Splits `length` bytes from `offset` at page borders: the page, where in it to start, and how many bytes.
fn by_page(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    (offset / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let start = offset.max(page * PAGE);
        let stop = end.min((page + 1) * PAGE);
        (page, (start - page * PAGE) as usize, (stop - start) as usize)
    })
}

impl<B: StorageBackend> StorageBackend for View<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes()?.length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes()?;
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > changes.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (first, last) = (offset / PAGE, (offset + out.len() as u64).div_ceil(PAGE));
        if changes.pages.range(first..last).next().is_none() {
            return self.read_file(changes.file_end, offset, out);
        }
        let mut rest = out;
        for (page, start, length) in by_page(offset, rest.len()) {
            let (part, after) = rest.split_at_mut(length);
            match changes.pages.get(&page) {
                Some(bytes) => part.copy_from_slice(&bytes[start..start + length]),
                None => self.read_file(changes.file_end, page * PAGE + start as u64, part)?,
            }
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut changes = self.changes()?;
        changes.length = length;
        changes.file_end = changes.file_end.min(length);
        changes.pages.split_off(&length.div_ceil(PAGE));
        if let Some(bytes) = changes.pages.get_mut(&(length / PAGE)) {
            bytes[(length % PAGE) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes()?;
        let mut rest = data;
        for (page, start, length) in by_page(offset, data.len()) {
            let (part, after) = rest.split_at(length);
            if !changes.pages.contains_key(&page) {
                let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                self.read_file(changes.file_end, page * PAGE, &mut bytes)?;
                changes.pages.insert(page, bytes);
            }
            if let Some(bytes) = changes.pages.get_mut(&page) {
                bytes[start..start + length].copy_from_slice(part);
            }
            rest = after;
        }
        changes.length = changes.length.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
