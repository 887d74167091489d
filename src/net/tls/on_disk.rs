//! What a certificate file says, for whoever only looks.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::names::Names;
use super::{authority, files, local_ca};
use crate::clock::Time;

pub struct OnDisk {
    pub not_before: Time,
    pub not_after: Time,
    names: Names,
}

impl OnDisk {
    pub fn is_for(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Reads the first certificate of a file.
///
/// # Errors
/// Why there is none, as the end of a sentence.
pub fn certificate_on_disk(path: &Path) -> Result<OnDisk, String> {
    let pem = files::read(path).map_err(|error| error.to_string())?;
    let pem = pem.ok_or_else(|| format!("{} is missing", path.display()))?;
    let damaged = |why: &str| format!("{} is damaged: {why}", path.display());
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged("it is no PEM"))?;
    let parsed = authority::parse(&certificate).map_err(damaged)?;
    let validity = parsed.validity();
    Ok(OnDisk {
        not_before: Time::from_unix(validity.not_before.timestamp()),
        not_after: Time::from_unix(validity.not_after.timestamp()),
        names: local_ca::names_of(&parsed).unwrap_or_default(),
    })
}
