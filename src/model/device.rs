//! Devices.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares an enum whose variants are single words in JSON, in queries and in the store, each written down once.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    )+};
}

words! {
    /// Where a device is in its life.
    Status {
        /// Enrolment is in progress.
        Pending = "pending",
        Online = "online",
        /// Has not checked in recently.
        Offline = "offline",
        /// Cut off by an administrator until resumed.
        Suspended = "suspended",
        /// The work profile has been wiped.
        Wiped = "wiped",
    }

    /// The operating system a device runs.
    Platform {
        Linux = "linux",
        Windows = "windows",
        Macos = "macos",
        Android = "android",
        Ios = "ios",
    }

    /// Whether a device meets its policy, as far as its last check-in tells.
    Compliance {
        Compliant = "compliant",
        NonCompliant = "non_compliant",
        /// Has not reported enough to tell.
        Unknown = "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_in_json_and_in_text() {
        for platform in Platform::ALL {
            assert_eq!(serde_json::to_string(platform).unwrap(), format!("\"{platform}\""));
        }
        assert_eq!(serde_json::from_str::<Compliance>("\"non_compliant\"").unwrap(), Compliance::NonCompliant);
        assert!(serde_json::from_str::<Status>("\"Online\"").is_err());
    }
}
