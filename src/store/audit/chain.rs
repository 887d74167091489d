//! The chain itself: what an entry's hash is made of, and whether the next entry fits. Needs no database, so that an
//! export is verified by the same code.

use std::borrow::Cow;
use std::net::IpAddr;

use ring::digest;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::clock::Time;
use crate::error::Error;
use crate::ids::{AuditId, OrganizationId, RequestId, UserId};
use crate::model::audit::{ActorType, AuditEntry, AuditResult, ERASED};

pub type Hash = [u8; 32];

/// Bytes of JSON that most entries have less of.
const USUAL_LENGTH: usize = 1024;

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
///
/// Read from where it is stored it copies no text, so that a long log is verified as fast as it can be hashed.
#[derive(Serialize, Deserialize)]
pub struct EntryRef<'a> {
    pub id: AuditId,
    pub seq: u64,
    pub timestamp: Time,
    pub organization_id: OrganizationId,
    #[serde(borrow)]
    pub actor: ActorRef<'a>,
    pub action: &'a str,
    pub resource: Option<ResourceRef<'a>>,
    pub details: Cow<'a, Map<String, Value>>,
    pub source_ip: Option<IpAddr>,
    pub request_id: Option<RequestId>,
    pub result: AuditResult,
    #[serde(serialize_with = "as_nothing")]
    pub hash: &'a str,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<SealedRef<'a>>,
}

#[derive(Serialize, Deserialize)]
pub struct ActorRef<'a> {
    #[serde(rename = "type")]
    pub kind: ActorType,
    pub id: Option<&'a str>,
    pub name: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
pub struct ResourceRef<'a> {
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub id: &'a str,
    pub name: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
pub struct SealedRef<'a> {
    pub person: UserId,
    #[serde(borrow)]
    pub fields: Vec<&'a str>,
    #[serde(serialize_with = "as_hex")]
    pub digest: &'a [u8],
    #[serde(default, skip_serializing)]
    pub sealed: Option<&'a [u8]>,
}

fn as_nothing<S: Serializer>(_: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str("")
}

fn as_hex<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex(bytes))
}

impl<'a> From<&'a AuditEntry> for EntryRef<'a> {
    fn from(entry: &'a AuditEntry) -> Self {
        let AuditEntry { id, seq, timestamp, organization_id, source_ip, request_id, result, .. } = *entry;
        let AuditEntry { actor, action, resource, details, hash, sealed, .. } = entry;
        let sealed = sealed.iter().map(|part| SealedRef {
            person: part.person,
            fields: part.fields.iter().map(String::as_str).collect(),
            digest: &part.digest.0,
            sealed: part.sealed.as_ref().map(|sealed| &*sealed.0),
        });
        Self {
            id,
            seq,
            timestamp,
            organization_id,
            actor: ActorRef { kind: actor.kind, id: actor.id.as_deref(), name: actor.name.as_deref() },
            action,
            resource: resource.as_ref().map(|one| ResourceRef {
                kind: &one.kind,
                id: &one.id,
                name: one.name.as_deref(),
            }),
            details: Cow::Borrowed(details),
            source_ip,
            request_id,
            result,
            hash,
            sealed: sealed.collect(),
        }
    }
}

/// SHA-256 over the hash before and the entry, whose sealed names have been taken out.
pub fn hash(before: &Hash, entry: &EntryRef<'_>) -> Result<Hash, Error> {
    let mut json = Vec::with_capacity(USUAL_LENGTH);
    serde_json::to_writer(&mut json, entry).map_err(Error::internal)?;
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    context.update(&json);
    Ok(finish(context))
}

fn finish(context: digest::Context) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

impl Link {
    /// Goes on to `entry`, which is stored as the next one and whose sealed names have been taken out.
    ///
    /// # Errors
    /// Why it is not the one that was written here.
    pub fn follow(&mut self, organization: OrganizationId, entry: &EntryRef<'_>) -> Result<(), Broken> {
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

pub fn digest_of(plaintext: &[u8]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(plaintext);
    finish(context)
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
            Some(salt) => plaintext(&salt.0, &values).is_ok_and(|text| digest_of(&text)[..] == part.digest.0),
            None => values.iter().all(|value| value == ERASED),
        };
        if !is_good {
            return Err(changed());
        }
        entry.sealed.push(part);
    }
    Ok(())
}
