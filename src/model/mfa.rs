use serde::{Deserialize, Serialize};

use super::named_values;
use super::sealed::Sealed;
use crate::clock::Time;

named_values! {
    /// A way to prove more than the password.
    pub enum MfaMethod {
        /// A code of an authenticator app (RFC 6238).
        Totp = "totp",
        /// One of the codes that were given for the day on which the app is lost.
        Recovery = "recovery",
    }
}

/// A user's second factor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mfa {
    pub totp: Option<Totp>,
    /// Waits for its first code.
    pub pending: Option<PendingTotp>,
    /// SHA-256 of those that are unused.
    pub recovery_codes: Vec<[u8; 32]>,
}

impl Mfa {
    /// What its owner may sign in with, besides the password.
    pub fn methods(&self) -> Vec<MfaMethod> {
        let totp = self.totp.iter().map(|_| MfaMethod::Totp);
        totp.chain((!self.recovery_codes.is_empty()).then_some(MfaMethod::Recovery)).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Totp {
    pub secret: Sealed,
    /// The latest step whose code was accepted: it and those before it are spent.
    pub last_step: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingTotp {
    pub secret: Sealed,
    pub expires_at: Time,
}
