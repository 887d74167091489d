//! Writing.

use std::cell::RefCell;
use std::ops::Bound;

use redb::{Database, StorageError, WriteTransaction};

use super::error::guarded;
use super::read::{Read, Source};
use super::{EngineError, definition};

const NOT_ENDED: &str = "only commit and drop take it, and both end the transaction";

/// The one write transaction. It reads what it has written. Dropping it takes everything back.
pub struct Transaction {
    /// Taken when the transaction ends.
    inner: Option<WriteTransaction>,
    changed: bool,
    /// The disk failed half-way, so that what is in here is unknown: it must not be committed.
    fault: RefCell<Option<EngineError>>,
}

type Table<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

impl Transaction {
    /// Two phases, so that the newest commit is the valid one without its checksums being looked at; quick repair,
    /// so that opening after a power cut loads the map of free pages instead of walking the whole file.
    pub(super) fn begin(database: &Database) -> Result<Self, EngineError> {
        let mut inner = guarded(|| database.begin_write())?;
        inner.set_two_phase_commit(true);
        inner.set_quick_repair(true);
        Ok(Self { inner: Some(inner), changed: false, fault: RefCell::new(None) })
    }

    /// Sets the value at `key`, replacing any.
    pub fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.changed = true;
        self.with_table(table, |table| Ok(guarded(|| table.insert(key, value).map(|_| ()))?))
    }

    /// Sets many values of one table, which is opened only once for them.
    pub fn put_all(&mut self, table: &'static str, rows: &[(&[u8], &[u8])]) -> Result<(), EngineError> {
        self.changed = true;
        self.with_table(table, |table| {
            let put = |(key, value): &(&[u8], &[u8])| guarded(|| table.insert(*key, *value).map(|_| ()));
            Ok(rows.iter().try_for_each(put)?)
        })
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

    /// The failure of the disk that this transaction has met, after which it only fails.
    pub fn fault(&self) -> Option<EngineError> {
        self.fault.borrow().clone()
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.fault.borrow().is_some() {
            return Err(EngineError::storage("the transaction failed before and cannot go on".into()));
        }
        Ok(())
    }

    /// redb refuses to open a table of a write transaction twice, so that no closure of a caller may run in here.
    pub(super) fn with_table<R>(
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
            self.fault.borrow_mut().get_or_insert_with(|| error.clone());
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
    fn source(&self) -> Source<'_> {
        Source::Transaction(self)
    }
}
