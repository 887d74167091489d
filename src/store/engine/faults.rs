//! A disk in memory that fails, fills up and loses power, for tests.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// What a disk writes entirely or not at all.
const SECTOR: usize = 512;

/// Clones share the disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Everything since [`Disk::holding`] or the beginning, from `origin` on.
    journal: Vec<Event>,
    origin: Vec<u8>,
    writable_bytes: Option<u64>,
    syncs_left: Option<u64>,
}

#[derive(Debug)]
enum Event {
    Length(u64),
    Write { offset: usize, data: Vec<u8> },
    Sync,
}

fn apply(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Length(length) => bytes.resize(*length as usize, 0),
        Event::Write { offset, data } => bytes[*offset..][..data.len()].copy_from_slice(data),
        Event::Sync => {}
    }
}

impl Disk {
    /// A disk with these bytes on it.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { origin: bytes.clone(), bytes, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.state().bytes.is_empty()
    }

    /// Writes, syncs and changes of length so far: a moment to pull the plug at.
    pub fn events(&self) -> usize {
        self.state().journal.len()
    }

    /// The disk is full after this many more bytes: writes and growth fail from there on.
    pub fn fill_up_after(&self, bytes: u64) {
        self.state().writable_bytes = Some(bytes);
    }

    /// Syncs fail after this many more.
    pub fn fail_syncs_after(&self, syncs: u64) {
        self.state().syncs_left = Some(syncs);
    }

    /// Inverts bits of one byte behind the back of whoever has the disk open.
    pub fn flip(&self, offset: usize, mask: u8) {
        self.state().bytes[offset] ^= mask;
    }

    /// What is found after a power cut at `moment` (see [`Disk::events`]): all that was synced and, sector by sector,
    /// what `keep` says of what was not.
    pub fn after_power_cut(&self, moment: usize, mut keep: impl FnMut() -> bool) -> Self {
        let state = self.state();
        let past = &state.journal[..moment];
        let synced = past.iter().rposition(|event| matches!(event, Event::Sync)).map_or(0, |sync| sync + 1);
        let mut bytes = state.origin.clone();
        past[..synced].iter().for_each(|event| apply(&mut bytes, event));
        for event in &past[synced..] {
            match event {
                Event::Write { offset, data } => {
                    for (index, sector) in data.chunks(SECTOR).enumerate() {
                        let start = offset + index * SECTOR;
                        if start + sector.len() <= bytes.len() && keep() {
                            bytes[start..][..sector.len()].copy_from_slice(sector);
                        }
                    }
                }
                other if keep() => apply(&mut bytes, other),
                _ => {}
            }
        }
        Self::holding(bytes)
    }
}

impl State {
    fn record(&mut self, event: Event) {
        apply(&mut self.bytes, &event);
        self.journal.push(event);
    }

    fn take_space(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(left) = &mut self.writable_bytes {
            *left = left.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let there = state.bytes.get(offset as usize..).and_then(|bytes| bytes.get(..out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        // A file system hands out the blocks when they are written, but refuses to grow when it has none at all.
        if length > state.bytes.len() as u64 {
            state.take_space(1)?;
        }
        state.record(Event::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(left) = &mut state.syncs_left {
            *left = left.checked_sub(1).ok_or(io::ErrorKind::Other)?;
        }
        state.record(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.take_space(data.len() as u64)?;
        let end = offset as usize + data.len();
        if state.bytes.len() < end {
            state.record(Event::Length(end as u64));
        }
        state.record(Event::Write { offset: offset as usize, data: data.to_vec() });
        Ok(())
    }
}
