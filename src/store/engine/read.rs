//! Reading: the trait that snapshots and transactions share, and snapshots.

use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, ReadableTable, TableError};

use super::error::guarded;
use super::{EngineError, definition};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// Called with a key and its value; tells whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reads of one consistent state. A table that nothing was ever put into reads as empty.
pub trait Read {
    /// Calls `read` with the value at `key`, if there is one, and returns what it made of it.
    fn get<R>(&self, table: &'static str, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, EngineError>;

    /// Visits keys between the bounds with their values, in byte order of the keys or its reverse, until `visit`
    /// breaks.
    fn scan(
        &self,
        table: &'static str,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError>;
}

/// The state as of one commit, unmoved by later ones.
pub struct Snapshot {
    transaction: ReadTransaction,
    /// Those opened so far: to open one costs as much as to read a row.
    tables: Mutex<Vec<(&'static str, Arc<Table>)>>,
}

type Table = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl Snapshot {
    pub(super) fn new(transaction: ReadTransaction) -> Self {
        Self { transaction, tables: Mutex::default() }
    }

    fn table(&self, name: &'static str) -> Result<Option<Arc<Table>>, EngineError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = tables.iter().find(|(opened, _)| *opened == name) {
            return Ok(Some(table.clone()));
        }
        let table = match guarded(|| self.transaction.open_table(definition(name))) {
            Ok(table) => Arc::new(table),
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        tables.push((name, table.clone()));
        Ok(Some(table))
    }
}

impl Read for Snapshot {
    fn get<R>(&self, table: &'static str, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, EngineError> {
        let Some(table) = self.table(table)? else { return Ok(None) };
        get(&*table, key, read)
    }

    fn scan(
        &self,
        table: &'static str,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let Some(table) = self.table(table)? else { return Ok(()) };
        scan(&*table, from, to, direction, visit)
    }
}

pub(super) fn get<R>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>, EngineError> {
    let value = guarded(|| -> Result<_, redb::StorageError> {
        let value = table.get(key)?;
        // In a damaged page the value's range can be out of bounds: let that show in here.
        let _ = value.as_ref().map(|value| value.value().len());
        Ok(value)
    })?;
    Ok(value.map(|value| read(value.value())))
}

pub(super) fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    direction: Direction,
    visit: Visit<'_>,
) -> Result<(), EngineError> {
    if is_empty_range(from, to) {
        return Ok(());
    }
    let mut range = guarded(|| table.range::<&[u8]>((from, to)))?;
    loop {
        let entry = guarded(|| -> Result<_, redb::StorageError> {
            let entry = match direction {
                Direction::Ascending => range.next(),
                Direction::Descending => range.next_back(),
            };
            let entry = entry.transpose()?;
            let _ = entry.as_ref().map(|(key, value)| (key.value().len(), value.value().len()));
            Ok(entry)
        })?;
        let Some((key, value)) = entry else { return Ok(()) };
        if visit(key.value(), value.value()).is_break() {
            return Ok(());
        }
    }
}

/// Bounds that cross, which callers arrive at when they page past the end.
fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
    }
}
