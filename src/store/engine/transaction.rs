//! Writing.

use std::cell::Cell;
use std::ops::{Bound, ControlFlow};

use redb::{Database, ReadableTable, StorageError, WriteTransaction};

use super::error::guarded;
use super::read::{Direction, Read, Visit, get, scan};
use super::{EngineError, definition};

/// Rows a scan copies out at once at most; see [`Transaction::scan`].
const LONGEST_CHUNK: usize = 64;

const NOT_ENDED: &str = "only commit and drop take it, and both end the transaction";

/// The one write transaction. It reads what it has written. Dropping it takes everything back.
pub struct Transaction {
    /// Taken when the transaction ends.
    inner: Option<WriteTransaction>,
    changed: bool,
    /// Something failed half-way, so that what is in here is unknown: it must not be committed.
    failed: Cell<bool>,
}

type Table<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

impl Transaction {
    /// Two phases, so that the newest commit is the valid one without its checksums being looked at; quick repair,
    /// so that opening after a power cut loads the map of free pages instead of walking the whole file.
    pub(super) fn begin(database: &Database) -> Result<Self, EngineError> {
        let mut inner = guarded(|| database.begin_write())?;
        inner.set_two_phase_commit(true);
        inner.set_quick_repair(true);
        Ok(Self { inner: Some(inner), changed: false, failed: Cell::new(false) })
    }

    /// Sets the value at `key`, replacing any.
    pub fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.changed = true;
        self.with_table(table, |table| Ok(guarded(|| table.insert(key, value).map(|_| ()))?))
    }

    /// Removes `key`; tells whether it was there.
    pub fn delete(&mut self, table: &'static str, key: &[u8]) -> Result<bool, EngineError> {
        self.changed = true;
        self.with_table(table, |table| Ok(guarded(|| table.remove(key).map(|old| old.is_some()))?))
    }

    /// Removes every row between the bounds; tells how many there were.
    pub fn delete_range(
        &mut self,
        table: &'static str,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<u64, EngineError> {
        self.changed = true;
        self.with_table(table, |table| {
            let mut count = 0;
            let gone = |_: &[u8], _: &[u8]| {
                count += 1;
                false
            };
            guarded(|| table.retain_in::<&[u8], _>((from, to), gone))?;
            Ok(count)
        })
    }

    /// Returns once everything is on disk. After an error nobody knows whether it is: the next start tells. Without a
    /// change, nothing is written.
    pub fn commit(mut self) -> Result<(), EngineError> {
        self.check()?;
        let inner = self.inner.take().expect(NOT_ENDED);
        if self.changed {
            guarded(|| inner.commit())?
        } else {
            guarded(|| inner.abort())?
        }
        Ok(())
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.failed.get() {
            return Err(EngineError::storage("the transaction failed before and cannot go on".into()));
        }
        Ok(())
    }

    /// redb refuses to open a table of a write transaction twice, so that no closure of a caller may run in here.
    fn with_table<R>(
        &self,
        name: &'static str,
        call: impl FnOnce(&mut Table<'_>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        self.check()?;
        let inner = self.inner.as_ref().expect(NOT_ENDED);
        let table = guarded(|| inner.open_table(definition(name)));
        let result = table.map_err(EngineError::from).and_then(|mut table| call(&mut table));
        if let Err(error) = &result
            && error.storage_failed
        {
            self.failed.set(true);
        }
        result
    }
}

impl Drop for Transaction {
    /// After a panic in redb its own drop panics on the locks that the first left poisoned.
    fn drop(&mut self) {
        let inner = self.inner.take();
        let _ = guarded(|| -> Result<(), StorageError> {
            drop(inner);
            Ok(())
        });
    }
}

impl Read for Transaction {
    fn get<R>(&self, table: &'static str, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, EngineError> {
        let value = self.with_table(table, |table| get(&*table, key, <[u8]>::to_vec))?;
        Ok(value.map(|value| read(&value)))
    }

    /// Copies rows out in chunks that double up to [`LONGEST_CHUNK`], and visits them with the table closed, so that
    /// `visit` may read through the same transaction.
    fn scan(
        &self,
        table: &'static str,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut last: Option<Vec<u8>> = None;
        let mut length = 1;
        loop {
            let resume = last.as_deref().map(Bound::Excluded);
            let (from, to) = match direction {
                Direction::Ascending => (resume.unwrap_or(from), to),
                Direction::Descending => (from, resume.unwrap_or(to)),
            };
            let rows = self.with_table(table, |table| chunk(&*table, from, to, direction, length))?;
            let is_last = rows.len() < length;
            for (key, value) in &rows {
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
            last = rows.into_iter().next_back().map(|(key, _)| key);
            length = (length * 2).min(LONGEST_CHUNK);
        }
    }
}

type Row = (Vec<u8>, Vec<u8>);

fn chunk(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    direction: Direction,
    length: usize,
) -> Result<Vec<Row>, EngineError> {
    let mut rows = Vec::with_capacity(length);
    scan(table, from, to, direction, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        if rows.len() < length { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(rows)
}
