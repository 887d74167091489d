//! Verifying a log where it is stored, a part at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::chain::{Broken, EntryRef, Hash, Link};
use super::{Head, checkpoints, head, retention};
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::store::engine::{Direction, Read};
use crate::store::persons::Opener;
use crate::store::tables::{AUDIT, AUDIT_CHECKPOINTS, KeyRange};

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
    pub fn step(&mut self, from: &impl Read, limit: u64) -> Result<Option<Verdict>, Error> {
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
        let mut opener = Opener::new(from);
        let mut broken = None;
        let range = KeyRange::between(&(self.organization, first), &(self.organization, last));
        AUDIT.scan_stored(from, range, Direction::Ascending, |(_, seq), row| {
            let expected = self.link.seq + 1;
            if seq != expected {
                broken = Some(Broken::new(expected, "it is missing"));
                return Ok(ControlFlow::Break(()));
            }
            let next = match AUDIT.decode::<EntryRef<'_>>(row) {
                Ok(entry) => self.check(&mut opener, &entry, signed.get(&seq))?,
                Err(error) => Err(Broken::new(seq, format!("it cannot be read: {error}"))),
            };
            Ok(match next {
                Ok(()) => ControlFlow::Continue(()),
                Err(why) => {
                    broken = Some(why);
                    ControlFlow::Break(())
                }
            })
        })?;
        if broken.is_none() && self.link.seq < last {
            broken = Some(Broken::new(self.link.seq + 1, "it is missing"));
        }
        if broken.is_some() {
            return Ok(Some(self.verdict(broken)));
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

    fn check<R: Read>(
        &mut self,
        opener: &mut Opener<'_, R>,
        entry: &EntryRef<'_>,
        signed: Option<&Hash>,
    ) -> Result<Result<(), Broken>, Error> {
        if let Err(broken) = self.link.follow(self.organization, entry) {
            return Ok(Err(broken));
        }
        if signed.is_some_and(|hash| *hash != self.link.hash) {
            return Ok(Err(Broken::new(entry.seq, "a signed checkpoint has another hash for it")));
        }
        for part in &entry.sealed {
            if !opener.is_intact(self.organization, entry.id, part)? {
                return Ok(Err(Broken::new(entry.seq, "a sealed name in it was changed")));
            }
        }
        if let Some(anchor) = retention::told(entry) {
            self.told_anchor = anchor;
        }
        self.entries += 1;
        Ok(Ok(()))
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
