//! The keys that the audit log's names are sealed with, one a person and organization. A key that is destroyed takes
//! the names with it, in every entry, and no entry has to change for it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use ring::aead;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit::chain::{self, SealedRef};
use super::engine::{Direction, Read};
use super::seal;
use super::tables::{Key, KeyRange, ORGANIZATIONS, PERSONS};
use super::write::Tx;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{AuditId, OrganizationId, UserId, fill_random};
use crate::model::audit::{AuditEntry, ERASED, SealedNames};
use crate::model::hex::Hex;
use crate::model::sealed::Sealed;

const PURPOSE: &[u8] = b"audit: names of a person";
const NONCE: usize = aead::NONCE_LEN;
const SALT: usize = 16;
/// Keys that the writer, or one reader, keeps unwrapped. When there are more, it starts anew.
const KNOWN: usize = 4096;
/// What is shown in the place of a name that does not open.
const DAMAGED: &str = "[damaged]";

/// A person's key, or that it was destroyed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    key: Option<Sealed>,
    erased_at: Option<Time>,
}

type Id = (OrganizationId, UserId);
/// `None` when it was destroyed.
type PersonKey = Option<Arc<aead::LessSafeKey>>;

/// Keys that have been unwrapped.
#[derive(Default)]
pub(super) struct Keys(HashMap<Id, PersonKey>);

impl Keys {
    /// What was learnt from a transaction that comes to nothing is not so.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn keep(&mut self, id: Id, key: PersonKey) -> PersonKey {
        if self.0.len() >= KNOWN {
            self.0.clear();
        }
        self.0.insert(id, key.clone());
        key
    }
}

/// Whether something is sealed with a key of the person's that was not destroyed.
pub fn are_known(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<bool, Error> {
    Ok(PERSONS.get(from, &(organization, user))?.is_some_and(|person| person.key.is_some()))
}

/// Destroys the person's key: their names in the audit log are erased for good, in the logs of other organizations
/// that they acted in as well. Names in what is written from now on are erased before they are written.
pub fn forget(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<(), Error> {
    let mut held = vec![organization];
    let mut organizations = Vec::new();
    ORGANIZATIONS.scan(tx, KeyRange::all(), Direction::Ascending, |id, _| {
        organizations.push(id);
        ControlFlow::Continue(())
    })?;
    for other in organizations {
        if other != organization && PERSONS.contains(tx, &(other, user))? {
            held.push(other);
        }
    }
    let erased = Person { key: None, erased_at: Some(tx.now()) };
    for organization in held {
        tx.put(PERSONS, &(organization, user), &erased)?;
        tx.person_keys().keep((organization, user), None);
    }
    Ok(())
}

/// The person's key, made when there is none yet; `None` when it was destroyed.
fn key(tx: &mut Tx, id: Id) -> Result<PersonKey, Error> {
    if let Some(known) = tx.person_keys().0.get(&id) {
        return Ok(known.clone());
    }
    let key = match tx.get(PERSONS, &id)? {
        Some(person) => unwrap(tx, id, person)?,
        None => {
            let mut bytes = vec![0; aead::CHACHA20_POLY1305.key_len()];
            fill_random(&mut bytes);
            let key = seal::seal(tx, PURPOSE, &id.bytes(), bytes.clone())?;
            tx.put(PERSONS, &id, &Person { key: Some(key), erased_at: None })?;
            Some(aead_key(&bytes)?)
        }
    };
    Ok(tx.person_keys().keep(id, key))
}

fn unwrap(from: &impl Read, id: Id, person: Person) -> Result<PersonKey, Error> {
    person.key.map(|key| aead_key(&seal::open(from, PURPOSE, &id.bytes(), key)?)).transpose()
}

fn aead_key(bytes: &[u8]) -> Result<Arc<aead::LessSafeKey>, Error> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, bytes);
    key.map(|key| Arc::new(aead::LessSafeKey::new(key)))
        .map_err(|_| Error::Internal("a key has the wrong length".into()))
}

/// Moves the values of `fields`, those that the entry has, into a sealed part of it.
pub(super) fn seal_names(tx: &mut Tx, entry: &mut AuditEntry, person: UserId, fields: &[&str]) -> Result<(), Error> {
    let found: Vec<(&str, Value)> =
        fields.iter().filter_map(|field| Some((*field, chain::take(entry, field)?))).collect();
    if found.is_empty() {
        return Ok(());
    }
    let (fields, values): (Vec<&str>, Vec<Value>) = found.into_iter().unzip();
    let mut random = [0; NONCE + SALT];
    fill_random(&mut random);
    let (nonce, salt) = random.split_at(NONCE);
    let mut text = chain::plaintext(salt, &values)?;
    let digest = Hex(chain::digest_of(&text).to_vec());
    let sealed = match key(tx, (entry.organization_id, person))? {
        Some(key) => {
            let taken = aead::Nonce::try_assume_unique_for_key(nonce)
                .and_then(|nonce| key.seal_in_place_append_tag(nonce, aead::Aad::from(entry.id.as_bytes()), &mut text));
            taken.map_err(|_| Error::Internal("a name cannot be sealed".into()))?;
            [nonce, &text].concat()
        }
        None => Vec::new(),
    };
    let fields = fields.into_iter().map(Into::into).collect();
    entry.sealed.push(SealedNames { person, fields, digest, sealed: Some(Hex(sealed)), salt: None });
    Ok(())
}

/// Opens names in entries, read from one source.
pub struct Opener<'a, R> {
    from: &'a R,
    keys: Keys,
}

/// A sealed part.
enum Names {
    Open {
        salt: Vec<u8>,
        values: Vec<Value>,
    },
    Erased,
    /// It is not what was sealed.
    Damaged,
}

impl<'a, R: Read> Opener<'a, R> {
    pub fn new(from: &'a R) -> Self {
        Self { from, keys: Keys::default() }
    }

    /// Puts the names of a stored entry where they belong, or says there that they are erased.
    pub fn open(&mut self, entry: &mut AuditEntry) -> Result<(), Error> {
        for mut part in std::mem::take(&mut entry.sealed) {
            let names = self.names(entry.organization_id, entry.id, &part)?;
            part.sealed = None;
            match names {
                Names::Open { salt, values } => {
                    for (field, value) in part.fields.iter().zip(values) {
                        chain::put(entry, field, value);
                    }
                    part.salt = Some(Hex(salt));
                }
                Names::Erased => part.fields.iter().for_each(|field| chain::put(entry, field, ERASED.into())),
                Names::Damaged => part.fields.iter().for_each(|field| chain::put(entry, field, DAMAGED.into())),
            }
            entry.sealed.push(part);
        }
        Ok(())
    }

    /// Looks into a sealed part of an entry.
    fn names(&mut self, of: OrganizationId, entry: AuditId, part: &SealedNames) -> Result<Names, Error> {
        let sealed = part.sealed.as_ref().map_or(&[][..], |sealed| &sealed.0);
        Ok(match self.text(of, part.person, entry, sealed, &part.digest.0)? {
            Text::Erased => Names::Erased,
            Text::Damaged => Names::Damaged,
            Text::Open(text) => read(&text, part.fields.len()).unwrap_or(Names::Damaged),
        })
    }

    /// Whether a sealed part of an entry is what was sealed, as far as its key is still there.
    pub fn is_intact(&mut self, of: OrganizationId, entry: AuditId, part: &SealedRef<'_>) -> Result<bool, Error> {
        let text = self.text(of, part.person, entry, part.sealed.unwrap_or_default(), part.digest)?;
        Ok(!matches!(text, Text::Damaged))
    }

    fn text(
        &mut self,
        of: OrganizationId,
        person: UserId,
        entry: AuditId,
        sealed: &[u8],
        digest: &[u8],
    ) -> Result<Text, Error> {
        let id = (of, person);
        if !self.keys.0.contains_key(&id) {
            let person = PERSONS.get(self.from, &id)?;
            let key = person.map(|person| unwrap(self.from, id, person)).transpose()?.flatten();
            self.keys.keep(id, key);
        }
        let Some(Some(key)) = self.keys.0.get(&id).filter(|_| !sealed.is_empty()) else { return Ok(Text::Erased) };
        Ok(open(key, entry, sealed, digest).map_or(Text::Damaged, Text::Open))
    }
}

/// What was sealed: a salt and the JSON of the values.
enum Text {
    Open(Vec<u8>),
    Erased,
    Damaged,
}

fn open(key: &aead::LessSafeKey, entry: AuditId, sealed: &[u8], digest: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_at_checked(NONCE)?;
    let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let length = key.open_in_place(nonce, aead::Aad::from(entry.as_bytes()), &mut text).ok()?.len();
    text.truncate(length);
    (chain::digest_of(&text) == digest).then_some(text)
}

fn read(text: &[u8], count: usize) -> Option<Names> {
    let (salt, json) = text.split_at_checked(SALT)?;
    let values: Vec<Value> = serde_json::from_slice(json).ok()?;
    (values.len() == count).then(|| Names::Open { salt: salt.to_vec(), values })
}
