//! The operator's own certificate and key, which somebody else renews.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};

use super::files::{self, Sharing};
use super::named::{Chain, Named, Unfit};
use super::names::Names;
use super::{Slot, TlsError};
use crate::clock::Time;

pub struct OwnFiles {
    certificate: PathBuf,
    key: PathBuf,
    wanted: Names,
    /// The hash of what is shown.
    shown: Mutex<Option<[u8; 32]>>,
}

impl OwnFiles {
    /// `wanted`: the names that the certificate must be for.
    pub fn new(certificate: &Path, key: &Path, wanted: Names) -> Self {
        Self { certificate: certificate.into(), key: key.into(), wanted, shown: Mutex::default() }
    }

    /// Puts what the files hold into `slot`, when it is not what is shown already, from the next handshake on. Returns whether
    /// that was so. After an error the old certificate stays.
    ///
    /// By their content, not their dates: a pair is often written one after the other, within the same second.
    pub fn look(&self, slot: &Slot, now: Time) -> Result<bool, TlsError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |file: &Path| TlsError::Missing { file: file.into() };
        let chain_pem = files::read(&self.certificate)?.ok_or_else(|| missing(&self.certificate))?;
        let key_pem = files::read_key(&self.key, Sharing::Group)?.ok_or_else(|| missing(&self.key))?;
        let content = hash(&chain_pem, &key_pem);
        if *shown == Some(content) {
            return Ok(false);
        }
        let unfit = |reason: Unfit| TlsError::Unfit { file: self.certificate.clone(), reason };
        let named = Named::check(&chain_pem, &key_pem, Chain::Complete, now).map_err(unfit)?;
        named.covers(&self.wanted).map_err(unfit)?;
        slot.show(named);
        *shown = Some(content);
        Ok(true)
    }
}

fn hash(chain_pem: &str, key_pem: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, format!("{}\n{chain_pem}{key_pem}", chain_pem.len()).as_bytes()).as_ref());
    hash
}
