//! Secrets that are handed out once: 256 random bits behind a prefix that says what they are, kept as a hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

use crate::ids::fill_random;

/// Prefix of an API key.
pub const API_KEY: &str = "zak_";
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

/// Prefix of what signs a webhook's deliveries.
pub const WEBHOOK: &str = "zws_";
/// Prefix of a token that stands for a password already proven.
pub const MFA: &str = "zmt_";

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

/// A secret for people to read and type: groups of four letters and digits, none of which are mistaken for each other.
/// Five random bits a letter.
pub fn readable(letters: usize) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut bytes = vec![0_u8; letters];
    fill_random(&mut bytes);
    let letters: Vec<char> = bytes.iter().map(|byte| LETTERS[usize::from(byte % 32)].into()).collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join("-")
}

/// A readable secret in the form that is hashed, however it was typed.
pub fn typed(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
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
