//! Seals keys that lie in files beside the data with the secret that is in the data.

use crate::error::Error;
use crate::model::sealed::Sealed;
use crate::net::tls::sealing::Sealing;
use crate::store::{Reader, seal};

/// What they are sealed for.
const PURPOSE: &[u8] = b"device-ca key";
/// Of whom there is one only.
const OWNER: &[u8] = b"appliance";
const NONCE: usize = 12;

/// A file that gets into somebody's hands without the data, or the other way round, does not let them issue anything. A
/// backup has both.
pub fn sealing(data: Reader) -> Sealing {
    let other = data.clone();
    Sealing {
        seal: Box::new(move |text| {
            let sealed = data.snapshot().and_then(|data| seal::seal(&data, PURPOSE, OWNER, text.to_vec()));
            let Sealed { nonce, bytes } = sealed.map_err(|error| error.to_string())?;
            Ok([nonce.as_slice(), &bytes].concat())
        }),
        open: Box::new(move |sealed| {
            let (nonce, bytes) = sealed.split_first_chunk::<NONCE>().ok_or("it is cut short")?;
            let sealed = Sealed { nonce: *nonce, bytes: bytes.to_vec() };
            let opened = other.snapshot().and_then(|data| seal::open(&data, PURPOSE, OWNER, sealed));
            opened.map_err(|error| match error {
                Error::Internal(_) => "it was sealed with the secret of another data file, or was changed".into(),
                error => error.to_string(),
            })
        }),
    }
}
