//! Whose updates are taken, and how long they may take to start.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::kind::{seconds, text};
use super::{HOUR, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub struct UpdateConfig {
    /// Who signs updates, instead of the key that is built in.
    pub public_key: Option<PublicKey>,
    /// Time from the start of a new version until it is ready, 1 s to 1 hour.
    pub ready_within: Duration,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self { public_key: None, ready_within: Duration::from_secs(60) }
    }
}

impl UpdateConfig {
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.section("update");
        visitor.setting("public_key", text::optional(text::public_key()), &mut self.public_key);
        visitor.setting("ready_seconds", seconds(1..=HOUR), &mut self.ready_within);
    }

    /// The key that counts; `None` where the build was given none and neither were the settings.
    pub fn key(&self) -> Option<PublicKey> {
        self.public_key.or_else(|| option_env!("ZERO_RELEASE_KEY").and_then(|text| text.parse().ok()))
    }
}

/// An Ed25519 public key, written as base64 of its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl FromStr for PublicKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = STANDARD.decode(text).map_err(drop)?;
        bytes.try_into().map(Self).map_err(drop)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}
