//! Reading, the same from a snapshot and from the open transaction.

use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableError};

use super::error::guarded;
use super::{EngineError, Transaction, definition};

/// Rows that a scan of a transaction copies out at once at most.
const LONGEST_CHUNK: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// Called with a key and its value; tells whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reads of one consistent state. A table that nothing was ever put into reads as empty.
pub trait Read {
    fn source(&self) -> Source<'_>;

    /// Calls `read` with the value at `key`, if there is one, and returns what it made of it.
    fn get<R>(&self, table: &'static str, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, EngineError> {
        match self.source() {
            Source::Snapshot(snapshot) => match snapshot.table(table)? {
                Some(table) => get(&*table, key, read),
                None => Ok(None),
            },
            Source::Transaction(transaction) => {
                let value = transaction.with_table(table, |table| get(&*table, key, <[u8]>::to_vec))?;
                Ok(value.map(|value| read(&value)))
            }
        }
    }

    /// Visits keys between the bounds with their values, in byte order of the keys or its reverse, until `visit`
    /// breaks. It may read through the same source.
    fn scan(
        &self,
        table: &'static str,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        match self.source() {
            Source::Snapshot(snapshot) => match snapshot.table(table)? {
                Some(table) => scan(&*table, from, to, direction, visit),
                None => Ok(()),
            },
            Source::Transaction(transaction) => scan_in_chunks(transaction, table, from, to, direction, visit),
        }
    }
}

/// Where reads come from. Both take their tables from redb, but a transaction lends one out only once at a time.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    Snapshot(&'a Snapshot),
    Transaction(&'a Transaction),
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

    /// Rows in the table, as redb counts them itself, without reading them.
    pub fn count(&self, table: &'static str) -> Result<u64, EngineError> {
        match self.table(table)? {
            Some(table) => Ok(guarded(|| table.len())?),
            None => Ok(0),
        }
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
    fn source(&self) -> Source<'_> {
        Source::Snapshot(self)
    }
}

fn get<R>(
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

fn scan(
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

/// Copies rows out in chunks that double up to [`LONGEST_CHUNK`], and visits them with the table closed, so that `visit`
/// may read through the same transaction.
fn scan_in_chunks(
    transaction: &Transaction,
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
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(length);
        let mut copy = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            if rows.len() < length { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        transaction.with_table(table, |table| scan(&*table, from, to, direction, &mut copy))?;
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

/// Bounds that cross, which callers arrive at when they page past the end.
fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
    }
}
