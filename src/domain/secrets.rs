//! Secrets that are handed out once: 256 random bits behind a prefix that says what they are, kept as a hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

use crate::ids::fill_random;

/// Prefix of a device token.
pub const DEVICE: &str = "zdt_";
/// Prefix of an enrolment token.
pub const ENROLLMENT: &str = "zet_";
/// Prefix of a refresh token.
pub const REFRESH: &str = "zrt_";
/// Prefix of an invitation to choose the first password.
pub const INVITATION: &str = "zit_";
/// Prefix of a leave to choose another password.
pub const RESET: &str = "zrs_";

/// A new secret of that kind, and the hash to keep of it.
pub fn make(prefix: &str) -> (String, [u8; 32]) {
    let secret = format!("{prefix}{}", random());
    let hash = hash(&secret);
    (secret, hash)
}

/// 256 random bits as text.
pub fn random() -> String {
    let mut bytes = [0; 32];
    fill_random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    hash
}

/// The two parts of a refresh token; `None` when it is none.
pub fn refresh_parts(token: &str) -> Option<(&str, &str)> {
    token.strip_prefix(REFRESH)?.split_once('.')
}
