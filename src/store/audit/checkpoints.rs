//! Signed statements of how far a log had come.
//!
//! Who owns the machine can compute a whole chain anew, and sign it; what was signed before and is kept elsewhere then
//! shows it.

use ring::signature::{self, Ed25519KeyPair, KeyPair};

use super::head;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::Checkpoint;
use crate::model::hex::Hex;
use crate::store::engine::{Direction, Read};
use crate::store::seal;
use crate::store::tables::{AUDIT_CHECKPOINTS, KeyRange};
use crate::store::write::Tx;

const PURPOSE: &[u8] = b"audit: checkpoints";

/// The appliance's own, derived from the secret that its first start made.
fn key_pair(from: &impl Read) -> Result<Ed25519KeyPair, Error> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&seal::derive(from, PURPOSE)?);
    pair.map_err(|_| Error::Internal("the key for checkpoints cannot be made".into()))
}

pub fn public_key(from: &impl Read) -> Result<[u8; 32], Error> {
    let mut key = [0; 32];
    key.copy_from_slice(key_pair(from)?.public_key().as_ref());
    Ok(key)
}

pub fn is_signed(checkpoint: &Checkpoint, public_key: &[u8]) -> bool {
    let key = signature::UnparsedPublicKey::new(&signature::ED25519, public_key);
    key.verify(checkpoint.statement().as_bytes(), &checkpoint.signature.0).is_ok()
}

/// The checkpoint of the log's last entry, made unless there is one.
pub fn make(tx: &mut Tx, organization: OrganizationId) -> Result<Checkpoint, Error> {
    let head = head(tx, organization)?;
    if let Some(made) = tx.get(AUDIT_CHECKPOINTS, &(organization, head.seq))? {
        return Ok(made);
    }
    let mut checkpoint = Checkpoint {
        organization_id: organization,
        seq: head.seq,
        hash: Hex(head.hash.to_vec()),
        time: tx.now(),
        signature: Hex::default(),
    };
    checkpoint.signature = Hex(key_pair(tx)?.sign(checkpoint.statement().as_bytes()).as_ref().to_vec());
    tx.put(AUDIT_CHECKPOINTS, &(organization, head.seq), &checkpoint)?;
    Ok(checkpoint)
}

/// Whether the log's last entry has one.
pub fn is_current(from: &impl Read, organization: OrganizationId) -> Result<bool, Error> {
    AUDIT_CHECKPOINTS.contains(from, &(organization, head(from, organization)?.seq))
}

/// Newest first: how many there are, and the part from `offset` on.
pub fn page(
    from: &impl Read,
    organization: OrganizationId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<Checkpoint>), Error> {
    AUDIT_CHECKPOINTS.page(from, KeyRange::prefix(&organization), Direction::Descending, offset, limit)
}
