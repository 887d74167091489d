//! Secrets that the appliance must be able to read again are stored sealed (ChaCha20-Poly1305).
//!
//! The key is derived from a secret in the same file: a row that gets into a log, an export or a bug report tells
//! nothing, while whoever has the whole file has it all.

use ring::{aead, hmac};

use super::engine::{Read, Transaction};
use super::tables::SECRETS;
use crate::error::Error;
use crate::ids::fill_random;
use crate::model::hex::Hex;
use crate::model::sealed::Sealed;

/// The secret's name, after what was sealed first.
const SECRET: &str = "outcomes";

/// Makes the appliance's secret, at first start.
pub(super) fn make_secret(transaction: &mut Transaction) -> Result<(), Error> {
    let mut secret = [0; 32];
    fill_random(&mut secret);
    SECRETS.put(transaction, &SECRET.into(), &secret)
}

/// Seals `bytes` for `purpose`, whose key nothing else uses, and for `owner`, without whom they do not open.
pub fn seal(from: &impl Read, purpose: &[u8], owner: &[u8], mut bytes: Vec<u8>) -> Result<Sealed, Error> {
    let mut nonce = [0; 12];
    fill_random(&mut nonce);
    key(from, purpose)?
        .seal_in_place_append_tag(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(owner), &mut bytes)
        .map_err(|_| Error::Internal("a secret cannot be sealed".into()))?;
    Ok(Sealed { nonce, bytes })
}

/// What was sealed for the same purpose and owner.
pub fn open(from: &impl Read, purpose: &[u8], owner: &[u8], sealed: Sealed) -> Result<Vec<u8>, Error> {
    let Sealed { nonce, mut bytes } = sealed;
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let opened = key(from, purpose)?.open_in_place(nonce, aead::Aad::from(owner), &mut bytes);
    let length = opened.map_err(|_| Error::Internal("a sealed secret cannot be opened".into()))?.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// What stands for `text` where it must not stand itself: the same text has the same pseudonym on this appliance, and
/// another one elsewhere.
pub fn pseudonym(from: &impl Read, purpose: &[u8], text: &str) -> Result<String, Error> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &derive(from, purpose)?);
    Ok(Hex(hmac::sign(&key, text.as_bytes()).as_ref()[..16].to_vec()).to_string())
}

fn key(from: &impl Read, purpose: &[u8]) -> Result<aead::LessSafeKey, Error> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &derive(from, purpose)?)
        .map_err(|_| Error::Internal("a sealing key has the wrong length".into()))?;
    Ok(aead::LessSafeKey::new(key))
}

/// The key for one purpose, the same for the life of the appliance.
pub(super) fn derive(from: &impl Read, purpose: &[u8]) -> Result<[u8; 32], Error> {
    let secret = SECRETS.get(from, &SECRET.into())?;
    let secret =
        secret.ok_or_else(|| Error::Internal("the secret that everything is sealed with is missing".into()))?;
    let mut key = [0; 32];
    key.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), purpose).as_ref());
    Ok(key)
}
