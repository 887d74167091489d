//! The chain itself: what an entry's hash is made of, and whether the next entry fits. Needs no database, so that an
//! export is verified by the same code.

use ring::digest;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock::Time;
use crate::error::Error;
use crate::ids::{AuditId, OrganizationId, RequestId, UserId};
use crate::model::audit::{Actor, AuditEntry, AuditResult, ERASED, Resource};
use crate::model::hex::Hex;

pub type Hash = [u8; 32];

/// A place in a log: an entry's number and its hash; the beginning is number 0 and zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub seq: u64,
    pub hash: Hash,
}

/// The first entry that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub seq: u64,
    pub reason: String,
}

impl Broken {
    pub fn new(seq: u64, reason: impl Into<String>) -> Self {
        Self { seq, reason: reason.into() }
    }
}

/// An entry as it is hashed: JSON in this order, without its hash, without what is sealed but for its digest.
#[derive(Serialize)]
struct Hashed<'a> {
    id: AuditId,
    seq: u64,
    timestamp: Time,
    organization_id: OrganizationId,
    actor: &'a Actor,
    action: &'a str,
    resource: &'a Option<Resource>,
    details: &'a Map<String, Value>,
    source_ip: &'a Option<std::net::IpAddr>,
    request_id: Option<RequestId>,
    result: AuditResult,
    hash: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sealed: Vec<HashedNames<'a>>,
}

#[derive(Serialize)]
struct HashedNames<'a> {
    person: UserId,
    fields: &'a [String],
    digest: &'a Hex,
}

/// SHA-256 over the hash before and the entry, whose sealed names have been taken out.
pub fn hash(before: &Hash, entry: &AuditEntry) -> Result<Hash, Error> {
    let AuditEntry { id, seq, timestamp, organization_id, request_id, result, .. } = *entry;
    let AuditEntry { actor, action, resource, details, source_ip, .. } = entry;
    let names = entry.sealed.iter();
    let sealed =
        names.map(|part| HashedNames { person: part.person, fields: &part.fields, digest: &part.digest }).collect();
    let hashed = Hashed {
        id,
        seq,
        timestamp,
        organization_id,
        actor,
        action,
        resource,
        details,
        source_ip,
        request_id,
        result,
        hash: "",
        sealed,
    };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    context.update(&serde_json::to_vec(&hashed).map_err(Error::internal)?);
    Ok(finish(context))
}

fn finish(context: digest::Context) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

impl Link {
    /// Goes on to `entry`, which is stored as the next one and whose sealed names have been taken out.
    ///
    /// # Errors
    /// Why it is not the one that was written here.
    pub fn follow(&mut self, organization: OrganizationId, entry: &AuditEntry) -> Result<(), Broken> {
        let seq = self.seq + 1;
        if entry.organization_id != organization {
            let other = entry.organization_id;
            return Err(Broken::new(seq, format!("an entry of organization {other} is in its place")));
        }
        if entry.seq != seq {
            return Err(Broken::new(seq, format!("entry {} is in its place", entry.seq)));
        }
        let hash = hash(&self.hash, entry).map_err(|error| Broken::new(seq, error.to_string()))?;
        if entry.hash != hex(&hash) {
            return Err(Broken::new(seq, "its hash does not fit its content and the entry before it: one was changed"));
        }
        *self = Self { seq, hash };
        Ok(())
    }
}

/// What is sealed of the values: the salt, then their JSON. The digest is of this.
pub fn plaintext(salt: &[u8], values: &[Value]) -> Result<Vec<u8>, Error> {
    let mut text = salt.to_vec();
    serde_json::to_writer(&mut text, values).map_err(Error::internal)?;
    Ok(text)
}

pub fn digest_of(plaintext: &[u8]) -> Hex {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(plaintext);
    Hex(finish(context).to_vec())
}

/// Takes the value of a field that may be sealed out of the entry; `None` when there is none.
pub fn take(entry: &mut AuditEntry, field: &str) -> Option<Value> {
    match field.split_once('.')? {
        ("actor", "name") => entry.actor.name.take().map(Value::String),
        ("resource", "name") => entry.resource.as_mut()?.name.take().map(Value::String),
        ("details", key) => entry.details.remove(key),
        _ => None,
    }
}

/// Puts it back.
pub fn put(entry: &mut AuditEntry, field: &str, value: Value) {
    match (field.split_once('.'), value) {
        (Some(("actor", "name")), Value::String(name)) => entry.actor.name = Some(name),
        (Some(("resource", "name")), Value::String(name)) => {
            if let Some(resource) = &mut entry.resource {
                resource.name = Some(name);
            }
        }
        (Some(("details", key)), value) => {
            entry.details.insert(key.into(), value);
        }
        _ => {}
    }
}

/// Takes the names out of an entry as the API shows it, after a look at whether they are those that were sealed.
pub fn close(entry: &mut AuditEntry) -> Result<(), Broken> {
    let seq = entry.seq;
    let changed = || Broken::new(seq, "a name in it was changed");
    for part in std::mem::take(&mut entry.sealed) {
        let values: Option<Vec<Value>> = part.fields.iter().map(|field| take(entry, field)).collect();
        let values = values.ok_or_else(changed)?;
        let is_good = match &part.salt {
            Some(salt) => plaintext(&salt.0, &values).is_ok_and(|text| digest_of(&text) == part.digest),
            None => values.iter().all(|value| value == ERASED),
        };
        if !is_good {
            return Err(changed());
        }
        entry.sealed.push(part);
    }
    Ok(())
}
