//! The format of a backup: frames in a chain of SHA-256, so that a changed, missing, moved or added byte is found.
//!
//! `zerobak1`, then frames: kind (1 byte), length of the content (4, little-endian), length as stored (4), the content
//! compressed with LZ4, SHA-256 over the hash before, the nine bytes and the content as stored. The first frame is the
//! head, the last one the end, and nothing follows it. The chain shows damage; who must expect forgery encrypts, which
//! authenticates too.

use std::io::{self, ErrorKind, Read, Write};

use ring::digest;

use super::BackupError;

const MAGIC: &[u8; 8] = b"zerobak1";
/// Content of a frame, at most: no record comes near it.
const LONGEST: usize = 32 << 20;
const PREFIX: usize = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Head = 1,
    Rows = 2,
    File = 3,
    End = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Head, Self::Rows, Self::File, Self::End].into_iter().find(|kind| *kind as u8 == byte)
    }
}

struct Chain([u8; 32]);

impl Chain {
    fn new() -> Self {
        Self([0; 32])
    }

    fn add(&mut self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        parts.iter().for_each(|part| context.update(part));
        self.0.copy_from_slice(context.finish().as_ref());
        self.0
    }
}

pub(super) struct Writer<W> {
    to: W,
    chain: Chain,
}

impl<W: Write> Writer<W> {
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        Ok(Self { to, chain: Chain::new() })
    }

    pub fn frame(&mut self, kind: Kind, content: &[u8]) -> io::Result<()> {
        let stored = lz4_flex::block::compress(content);
        let too_long = |_| io::Error::new(ErrorKind::InvalidData, "a record is too long for a backup");
        if content.len() > LONGEST {
            return Err(too_long(()));
        }
        let mut prefix = [kind as u8; PREFIX];
        prefix[1..5].copy_from_slice(&(content.len() as u32).to_le_bytes());
        prefix[5..9].copy_from_slice(&(stored.len() as u32).to_le_bytes());
        let hash = self.chain.add(&[&prefix, &stored]);
        self.to.write_all(&prefix)?;
        self.to.write_all(&stored)?;
        self.to.write_all(&hash)
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}

pub(super) struct Reader<R> {
    from: R,
    chain: Chain,
    frames: u64,
}

impl<R: Read> Reader<R> {
    pub fn new(mut from: R) -> Result<Self, BackupError> {
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Ok(()) if &magic == MAGIC => Ok(Self { from, chain: Chain::new(), frames: 0 }),
            Ok(()) if magic.starts_with(b"zerobak") => Err(BackupError::NewerFormat),
            Ok(()) => Err(BackupError::NotABackup),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(BackupError::NotABackup),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// The next frame. After the end it makes sure that nothing follows.
    pub fn frame(&mut self) -> Result<(Kind, Vec<u8>), BackupError> {
        self.frames += 1;
        let number = self.frames;
        let damaged = |why: &str| BackupError::Damaged(format!("its part {number} {why}"));
        let mut prefix = [0; PREFIX];
        self.exactly(&mut prefix)?;
        let length = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        let (content, stored) = (length(1) as usize, length(5) as usize);
        // Nothing that was not verified decides over more memory than the longest frame takes.
        if content > LONGEST || stored > lz4_flex::block::get_maximum_output_size(LONGEST) {
            return Err(damaged("states a length that none has"));
        }
        let mut bytes = Vec::new();
        let read = self.from.by_ref().take(stored as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        if read != stored {
            return Err(cut_off(number));
        }
        let mut hash = [0; 32];
        self.exactly(&mut hash)?;
        if self.chain.add(&[&prefix, &bytes]) != hash {
            return Err(damaged("is not as it was written"));
        }
        let kind = Kind::of(prefix[0]).ok_or_else(|| damaged("is of a kind that this version does not know"))?;
        let content = lz4_flex::block::decompress(&bytes, content)
            .ok()
            .filter(|found| found.len() == content)
            .ok_or_else(|| damaged("cannot be unpacked"))?;
        if kind == Kind::End && self.from.read(&mut [0]).map_err(unreadable)? != 0 {
            return Err(BackupError::Damaged("something follows after its end".into()));
        }
        Ok((kind, content))
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => cut_off(self.frames),
            _ => unreadable(error),
        })
    }
}

fn cut_off(part: u64) -> BackupError {
    BackupError::Damaged(format!("it is cut off in its part {part}"))
}

/// What `age` finds wrong with what it decrypts comes as an error of reading.
fn unreadable(error: io::Error) -> BackupError {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput | ErrorKind::Other => {
            BackupError::Damaged(error.to_string())
        }
        _ => BackupError::Unreadable(error.to_string()),
    }
}
