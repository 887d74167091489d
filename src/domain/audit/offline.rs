//! Verifying a log with no appliance running: where it is stored, or an export of it.

use std::io::{BufRead, Read as _};

use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::{AuditEntry, Checkpoint};
use crate::model::hex::Hex;
use crate::store::audit::chain::{self, Broken, Link};
use crate::store::audit::verify::{Verdict, Verification};
use crate::store::audit::{self, checkpoints};
use crate::store::engine::Snapshot;
use crate::store::organizations;

/// A line of an export, in bytes, at most.
const LONGEST_LINE: u64 = 16 << 20;
/// Entries checked between two looks at the checkpoints.
const STEP: u64 = 100_000;

/// What was kept elsewhere, to hold a log against.
#[derive(Default)]
pub struct Kept {
    pub checkpoints: Vec<Checkpoint>,
    /// The key that they are signed with; without one, that of the data itself.
    pub key: Option<Vec<u8>>,
}

impl Kept {
    /// One checkpoint, or a page of them, as the API gives them out.
    pub fn parse(json: &[u8], key: Option<Vec<u8>>) -> Result<Self, Error> {
        let damaged = |error: serde_json::Error| Error::Conflict(format!("the checkpoint cannot be read: {error}"));
        let mut value: serde_json::Value = serde_json::from_slice(json).map_err(damaged)?;
        let checkpoints = match value.get_mut("data") {
            Some(page) => serde_json::from_value(page.take()).map_err(damaged)?,
            None => vec![serde_json::from_value(value).map_err(damaged)?],
        };
        Ok(Self { checkpoints, key })
    }

    fn of(&self, organization: OrganizationId) -> impl Iterator<Item = &Checkpoint> {
        self.checkpoints.iter().filter(move |kept| kept.organization_id == organization)
    }
}

/// What can be said of one organization's log.
pub struct Proof {
    pub organization: OrganizationId,
    /// The organization's name, where it is known.
    pub name: Option<String>,
    /// The first entry that is there.
    pub first: u64,
    pub verdict: Verdict,
    /// Checkpoints kept elsewhere that agree with it.
    pub agreed: usize,
}

/// Every log in the data of an appliance.
pub fn verify_data(from: &Snapshot, kept: &Kept) -> Result<Vec<Proof>, Error> {
    let key = kept.key.clone().map_or_else(|| checkpoints::public_key(from).map(Vec::from), Ok)?;
    let (_, organizations) = organizations::page(from, 0, usize::MAX)?;
    let known = |kept: &Checkpoint| organizations.iter().any(|one| one.id == kept.organization_id);
    if let Some(lost) = kept.checkpoints.iter().find(|kept| !known(kept)) {
        let of = lost.organization_id;
        return Err(Error::Conflict(format!("the checkpoint is of organization {of}, which is not in the data")));
    }
    let mut proofs = Vec::new();
    for organization in organizations {
        let id = organization.id;
        let mut verification = Verification::begin(from, id)?;
        let first = verification.first();
        let mut verdict = loop {
            if let Some(verdict) = verification.step(from, STEP)? {
                break verdict;
            }
        };
        let mut agreed = 0;
        for checkpoint in kept.of(id) {
            if verdict.first_broken.is_some() {
                break;
            }
            let hash = audit::hash_of(from, id, checkpoint.seq)?;
            match compare(checkpoint, hash, Some(&key), (first, verdict.head.seq)) {
                Ok(()) => agreed += 1,
                Err(broken) => verdict.first_broken = Some(broken),
            }
        }
        proofs.push(Proof { organization: id, name: Some(organization.name), first, verdict, agreed });
    }
    Ok(proofs)
}

/// An export as `ndjson`, unfiltered but for its times. One that does not begin with the log's first entry is believed
/// its first one.
pub fn verify_export(mut lines: impl BufRead, kept: &Kept) -> Result<Proof, Error> {
    let mut proof: Option<Proof> = None;
    let (mut line, mut number) = (Vec::new(), 0_u64);
    let mut compared = vec![false; kept.checkpoints.len()];
    loop {
        line.clear();
        number += 1;
        let length = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(Error::internal)?;
        if length == 0 {
            break;
        }
        let entry = match serde_json::from_slice::<AuditEntry>(&line) {
            Ok(entry) => entry,
            Err(error) => {
                let why = format!("line {number} is no entry of an audit log: {error}");
                let Some(proof) = proof.as_mut() else { return Err(Error::Conflict(why)) };
                proof.verdict.first_broken = Some(Broken::new(proof.verdict.head.seq + 1, why));
                break;
            }
        };
        let proof = proof.get_or_insert_with(|| {
            let head = Link { seq: entry.seq.saturating_sub(1), hash: [0; 32] };
            let verdict = Verdict { entries: 0, head, first_broken: None };
            Proof { organization: entry.organization_id, name: None, first: entry.seq, verdict, agreed: 0 }
        });
        if let Err(broken) = follow(proof, entry) {
            proof.verdict.first_broken = Some(broken);
            break;
        }
        let head = proof.verdict.head;
        for (checkpoint, compared) in kept.checkpoints.iter().zip(&mut compared) {
            if checkpoint.seq == head.seq && checkpoint.organization_id == proof.organization {
                *compared = true;
                match compare(checkpoint, Some(head.hash), kept.key.as_deref(), (proof.first, head.seq)) {
                    Ok(()) => proof.agreed += 1,
                    Err(broken) => proof.verdict.first_broken = Some(broken),
                }
            }
        }
        if proof.verdict.first_broken.is_some() {
            break;
        }
    }
    let mut proof = proof.ok_or_else(|| Error::Conflict("there is no entry in it".into()))?;
    if proof.verdict.first_broken.is_none()
        && let Some((lost, _)) = kept.checkpoints.iter().zip(compared).find(|(_, compared)| !compared)
    {
        if lost.organization_id != proof.organization {
            let of = lost.organization_id;
            return Err(Error::Conflict(format!("the checkpoint is of organization {of}, the export of another")));
        }
        let here = (proof.first, proof.verdict.head.seq);
        proof.verdict.first_broken = compare(lost, None, None, here).err();
    }
    Ok(proof)
}

fn follow(proof: &mut Proof, mut entry: AuditEntry) -> Result<(), Broken> {
    let verdict = &mut proof.verdict;
    chain::close(&mut entry)?;
    if verdict.entries == 0 && entry.seq > 1 {
        let hash = Hex::parse(&entry.hash).and_then(|hash| hash.0.try_into().ok());
        let hash = hash.ok_or_else(|| Broken::new(entry.seq, "its hash is none"))?;
        verdict.head = Link { seq: entry.seq, hash };
    } else {
        verdict.head.follow(proof.organization, &(&entry).into())?;
    }
    verdict.entries += 1;
    Ok(())
}

/// Holds a checkpoint against the hash that its entry has, in a log of these entries.
fn compare(
    checkpoint: &Checkpoint,
    hash: Option<chain::Hash>,
    key: Option<&[u8]>,
    (first, last): (u64, u64),
) -> Result<(), Broken> {
    let seq = checkpoint.seq;
    if key.is_some_and(|key| !checkpoints::is_signed(checkpoint, key)) {
        return Err(Broken::new(seq, "the checkpoint kept elsewhere is not signed with the appliance's key"));
    }
    match hash {
        Some(hash) if checkpoint.hash.0 == hash => Ok(()),
        Some(_) => Err(Broken::new(seq, "the checkpoint kept elsewhere has another hash for it")),
        None if seq > last => {
            Err(Broken::new(last + 1, format!("it is missing: the checkpoint kept elsewhere is of entry {seq}")))
        }
        None => Err(Broken::new(seq, format!("the checkpoint kept elsewhere is of it, but the log begins at {first}"))),
    }
}
