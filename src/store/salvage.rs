//! What can be read of a damaged data file, as lines of JSON.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::audit::chain::hex;
use super::backup::{BackupError, failed};
use super::engine::{self, Direction, Read};
use super::tables;

use value::Any;

mod value;

/// Parts of one table that are tried at most: around each damaged page the rest is tried from both sides.
const PARTS: usize = 64;

/// What was read, and what was not.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// Records written, by table.
    pub records: BTreeMap<&'static str, u64>,
    /// Records whose content could not be understood; written as they are, in hexadecimal.
    pub garbled: u64,
    pub lost: Vec<Lost>,
}

/// Records that are lost, if there were any: those between two keys (in hexadecimal) of a table.
#[derive(Debug)]
pub struct Lost {
    pub table: &'static str,
    pub after: Option<String>,
    pub before: Option<String>,
    pub reason: String,
}

#[derive(Serialize)]
struct Line<'a> {
    table: &'a str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    garbled: Option<String>,
}

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Reads the file at `path` and writes to `out`, a new file that only its owner may read.
///
/// # Errors
/// When nothing at all can be read, or not be written.
pub fn salvage(path: &Path, out: &Path) -> Result<Salvaged, BackupError> {
    // Before there is a file: that it can be opened at all.
    engine::salvage(path, |_| ()).map_err(super::StoreError::from)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out).map_err(failed("make", out))?;
    let mut file = BufWriter::new(file);
    let mut salvaged = Salvaged::default();
    for table in tables::ALL {
        gather(path, table.name, &mut file, &mut salvaged).map_err(failed("write", out))?;
    }
    let file = file.into_inner().map_err(|error| failed("write", out)(error.into_error()))?;
    file.sync_all().map_err(failed("write", out))?;
    Ok(salvaged)
}

fn gather(path: &Path, table: &'static str, out: &mut impl Write, salvaged: &mut Salvaged) -> std::io::Result<()> {
    let mut waiting: Vec<Range> = vec![(Bound::Unbounded, Bound::Unbounded)];
    let mut tried = 0;
    while let Some((mut from, mut to)) = waiting.pop() {
        tried += 1;
        let (end, reason) = read(path, table, &from, &to, Direction::Ascending, out, salvaged)?;
        if reason.is_none() {
            continue;
        }
        if let Some(last) = end {
            from = Bound::Excluded(last);
        }
        let (end, reason) = read(path, table, &from, &to, Direction::Descending, out, salvaged)?;
        // From this side it may be that all can be read.
        let Some(reason) = reason else { continue };
        if let Some(first) = end {
            to = Bound::Excluded(first);
        }
        match middle(&from, &to).filter(|_| tried + waiting.len() < PARTS) {
            Some(middle) => {
                waiting.push((Bound::Included(middle.clone()), to));
                waiting.push((from, Bound::Excluded(middle)));
            }
            None => {
                let shown = |bound: Bound<Vec<u8>>| match bound {
                    Bound::Unbounded => None,
                    Bound::Included(key) | Bound::Excluded(key) => Some(hex(&key)),
                };
                salvaged.lost.push(Lost { table, after: shown(from), before: shown(to), reason });
            }
        }
    }
    Ok(())
}

/// Writes the records of a range until one cannot be read; the last key, and why it ended there.
fn read(
    path: &Path,
    table: &'static str,
    from: &Bound<Vec<u8>>,
    to: &Bound<Vec<u8>>,
    direction: Direction,
    out: &mut impl Write,
    salvaged: &mut Salvaged,
) -> std::io::Result<(Option<Vec<u8>>, Option<String>)> {
    let (mut last, mut written, mut disorder) = (None::<Vec<u8>>, Ok(()), false);
    let read = engine::salvage(path, |snapshot| {
        let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        snapshot.scan(table, bounds.0, bounds.1, direction, &mut |key, value| {
            let is_next = last.as_deref().is_none_or(|last| match direction {
                Direction::Ascending => last < key,
                Direction::Descending => last > key,
            });
            // Damage can lead around in circles.
            if !is_next {
                disorder = true;
                return ControlFlow::Break(());
            }
            last = Some(key.to_vec());
            written = put(table, key, value, out, salvaged);
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    });
    written?;
    let reason = match read {
        Ok(Ok(())) if disorder => Some("its keys are out of order".to_owned()),
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    Ok((last, reason))
}

fn put(
    table: &'static str,
    key: &[u8],
    value: &[u8],
    out: &mut impl Write,
    salvaged: &mut Salvaged,
) -> std::io::Result<()> {
    let understood = rmp_serde::from_slice(value).ok().map(|Any(value)| value);
    let garbled = understood.is_none().then(|| hex(value));
    salvaged.garbled += u64::from(garbled.is_some());
    *salvaged.records.entry(table).or_default() += 1;
    serde_json::to_writer(&mut *out, &Line { table, key: hex(key), value: understood, garbled })?;
    out.write_all(b"\n")
}

/// A key about half-way between the bounds; `None` when there is none.
fn middle(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> Option<Vec<u8>> {
    let number = |bound: &Bound<Vec<u8>>, open: u128| match bound {
        Bound::Unbounded => open,
        Bound::Included(key) | Bound::Excluded(key) => {
            let mut bytes = [0; 16];
            let length = key.len().min(16);
            // What the keys have in common stands at their beginning; the sixteen bytes after it tell them apart.
            bytes[..length].copy_from_slice(&key[..length]);
            u128::from_be_bytes(bytes)
        }
    };
    let common = match (from, to) {
        (Bound::Included(one) | Bound::Excluded(one), Bound::Included(other) | Bound::Excluded(other)) => {
            one.iter().zip(other).take_while(|(one, other)| one == other).count()
        }
        _ => 0,
    };
    let rest = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| key[common.min(key.len())..].to_vec());
    let (low, high) = (number(&rest(from), 0), number(&rest(to), u128::MAX));
    let middle = low + high.checked_sub(low)? / 2;
    if middle == low || middle == high {
        return None;
    }
    let prefix = match (from, to) {
        (Bound::Included(key) | Bound::Excluded(key), _) => &key[..common.min(key.len())],
        _ => &[],
    };
    Some([prefix, &middle.to_be_bytes()].concat())
}
