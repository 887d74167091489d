use serde::{Deserialize, Serialize};

/// A secret as it is stored: encrypted and authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub nonce: [u8; 12],
    /// The secret's ciphertext and tag.
    pub bytes: Vec<u8>,
}
