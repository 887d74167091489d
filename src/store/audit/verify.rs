//! Verifying a log where it is stored, a part at a time.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::panic::resume_unwind;

use super::chain::{Broken, EntryRef, Hash, Link};
use super::{Head, checkpoints, hash_of, head, retention};
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::store::engine::{Direction, Read};
use crate::store::persons::Opener;
use crate::store::tables::{AUDIT, AUDIT_CHECKPOINTS, KeyRange};

/// Parts that are checked at the same time, at most; the appliance has other things to do.
const MOST_PARTS: usize = 4;
/// Entries that are not worth a thread of their own.
const SHORTEST_PART: u64 = if cfg!(test) { 2 } else { 1_000 };

/// What a verification has found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Entries that are as they were written.
    pub entries: u64,
    /// The last of them.
    pub head: Link,
    pub first_broken: Option<Broken>,
}

/// A verification under way: of the log as it was at its beginning.
pub struct Verification {
    organization: OrganizationId,
    public_key: [u8; 32],
    link: Link,
    entries: u64,
    end: Head,
    /// What is wrong beyond the end.
    beyond: Option<Broken>,
    /// Where the log begins, and where its entries say that retention has let it begin.
    anchor: Link,
    told_anchor: Link,
}

impl Verification {
    pub fn begin(from: &impl Read, organization: OrganizationId) -> Result<Self, Error> {
        let (end, anchor) = (head(from, organization)?, retention::anchor(from, organization)?);
        let after = KeyRange::between(&(organization, end.seq + 1), &(organization, u64::MAX));
        let mut beyond = None;
        AUDIT_CHECKPOINTS.scan(from, after, Direction::Ascending, |(_, seq), _| {
            let reason = format!("it is missing: a checkpoint shows that the log went on to entry {seq}");
            beyond = Some(Broken::new(end.seq + 1, reason));
            ControlFlow::Break(())
        })?;
        let after = KeyRange::between(&(organization, end.seq + 1), &(organization, u64::MAX));
        AUDIT.scan_stored(from, after, Direction::Ascending, |(_, seq), _| {
            beyond = Some(Broken::new(seq, "it comes after what the log's head names as its last entry"));
            Ok(ControlFlow::Break(()))
        })?;
        let public_key = checkpoints::public_key(from)?;
        let told_anchor = Link::default();
        Ok(Self { organization, public_key, link: anchor, entries: 0, end, beyond, anchor, told_anchor })
    }

    /// The first entry that the log should have.
    pub fn first(&self) -> u64 {
        self.anchor.seq + 1
    }

    /// Checks up to `limit` further entries; `None` while there are more.
    pub fn step<R: Read + Sync>(&mut self, from: &R, limit: u64) -> Result<Option<Verdict>, Error> {
        let anchor = retention::anchor(from, self.organization)?;
        if anchor.seq > self.link.seq {
            // What comes before has been let go meanwhile.
            self.link = anchor;
        }
        let is_same_beginning = anchor == self.anchor;
        let (first, last) = (self.link.seq + 1, self.link.seq.saturating_add(limit).min(self.end.seq));
        let signed = match self.checkpoints(from, first, last)? {
            Ok(signed) => signed,
            Err(broken) => return Ok(Some(self.verdict(Some(broken)))),
        };
        for part in self.parts(from, first, last, &signed)? {
            self.entries += part.entries;
            self.link = part.end;
            self.told_anchor = part.told_anchor.unwrap_or(self.told_anchor);
            if part.broken.is_some() {
                return Ok(Some(self.verdict(part.broken)));
            }
        }
        if self.link.seq < self.end.seq {
            return Ok(None);
        }
        let end = if self.link.hash != self.end.hash {
            Some(Broken::new(self.end.seq, "its hash is not the one that the log's head names"))
        } else if is_same_beginning && self.told_anchor != self.anchor {
            let reason = "what came before it was removed, and not by the retention that the log tells of";
            Some(Broken::new(self.anchor.seq + 1, reason))
        } else {
            self.beyond.take()
        };
        Ok(Some(self.verdict(end)))
    }

    fn verdict(&self, first_broken: Option<Broken>) -> Verdict {
        Verdict { entries: self.entries, head: self.link, first_broken }
    }

    /// Checks the entries `first..=last` on several processors. Each part hangs on the hash that is stored for the entry
    /// before it, and that this is right the part before it has shown: so they count in order, up to the first broken one.
    fn parts<R: Read + Sync>(
        &self,
        from: &R,
        first: u64,
        last: u64,
        signed: &BTreeMap<u64, Hash>,
    ) -> Result<Vec<Part>, Error> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_PARTS);
        let length = (last + 1).saturating_sub(first).div_ceil(processors as u64).max(SHORTEST_PART);
        let organization = self.organization;
        std::thread::scope(|scope| {
            let (mut under_way, mut begin) = (Vec::new(), self.link);
            loop {
                let end = begin.seq.saturating_add(length).min(last);
                under_way.push(scope.spawn(move || Part::check(from, organization, begin, end, signed)));
                // What is not there, or has no hash, the part before it comes upon.
                match hash_of(from, organization, end)? {
                    Some(hash) if end < last => begin = Link { seq: end, hash },
                    _ => break,
                }
            }
            under_way.into_iter().map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }

    /// The hashes that checkpoints name for the entries `first..=last`, or the first one that is not genuine.
    fn checkpoints(
        &self,
        from: &impl Read,
        first: u64,
        last: u64,
    ) -> Result<Result<BTreeMap<u64, Hash>, Broken>, Error> {
        let mut found = BTreeMap::new();
        let mut forged = None;
        let range = KeyRange::between(&(self.organization, first), &(self.organization, last));
        AUDIT_CHECKPOINTS.scan(from, range, Direction::Ascending, |(_, seq), checkpoint| {
            let hash = Hash::try_from(checkpoint.hash.0.as_slice()).ok();
            let is_genuine = checkpoint.seq == seq
                && checkpoint.organization_id == self.organization
                && checkpoints::is_signed(&checkpoint, &self.public_key);
            match hash.filter(|_| is_genuine) {
                Some(hash) => {
                    found.insert(seq, hash);
                    ControlFlow::Continue(())
                }
                None => {
                    forged = Some(Broken::new(seq, "its checkpoint is not one that this appliance signed"));
                    ControlFlow::Break(())
                }
            }
        })?;
        Ok(match forged {
            Some(forged) => Err(forged),
            None => Ok(found),
        })
    }
}

/// Entries that were checked one after another.
struct Part {
    end: Link,
    entries: u64,
    /// Where they say that retention has let the log begin.
    told_anchor: Option<Link>,
    broken: Option<Broken>,
}

impl Part {
    /// Checks what comes after `begin`, through entry `last`.
    fn check(
        from: &impl Read,
        organization: OrganizationId,
        begin: Link,
        last: u64,
        signed: &BTreeMap<u64, Hash>,
    ) -> Result<Self, Error> {
        let mut part = Self { end: begin, entries: 0, told_anchor: None, broken: None };
        let mut opener = Opener::new(from);
        let range = KeyRange::between(&(organization, begin.seq + 1), &(organization, last));
        AUDIT.scan_stored(from, range, Direction::Ascending, |(_, seq), row| {
            let expected = part.end.seq + 1;
            let next = match AUDIT.decode::<EntryRef<'_>>(row) {
                _ if seq != expected => Err(Broken::new(expected, "it is missing")),
                Ok(entry) => part.go_on(&mut opener, organization, &entry, signed.get(&seq))?,
                Err(error) => Err(Broken::new(seq, format!("it cannot be read: {error}"))),
            };
            part.broken = next.err();
            Ok(if part.broken.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if part.broken.is_none() && part.end.seq < last {
            part.broken = Some(Broken::new(part.end.seq + 1, "it is missing"));
        }
        Ok(part)
    }

    fn go_on<R: Read>(
        &mut self,
        opener: &mut Opener<'_, R>,
        organization: OrganizationId,
        entry: &EntryRef<'_>,
        signed: Option<&Hash>,
    ) -> Result<Result<(), Broken>, Error> {
        if let Err(broken) = self.end.follow(organization, entry) {
            return Ok(Err(broken));
        }
        if signed.is_some_and(|hash| *hash != self.end.hash) {
            return Ok(Err(Broken::new(entry.seq, "a signed checkpoint has another hash for it")));
        }
        for part in &entry.sealed {
            if !opener.is_intact(organization, entry.id, part)? {
                return Ok(Err(Broken::new(entry.seq, "a sealed name in it was changed")));
            }
        }
        if let Some(anchor) = retention::told(entry) {
            self.told_anchor = Some(anchor);
        }
        self.entries += 1;
        Ok(Ok(()))
    }
}
