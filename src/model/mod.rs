//! Plain records, as they are stored and passed between the layers.

pub mod api_key;
pub mod audit;
pub mod backup;
pub mod command;
pub mod device;
pub mod enrollment;
pub mod gdpr;
pub mod group;
pub mod hex;
pub mod histogram;
pub mod link;
pub mod mail;
pub mod mfa;
pub mod organization;
pub mod policy;
pub mod role;
#[cfg(test)]
pub mod samples;
pub mod sealed;
pub mod session;
pub mod settings;
pub mod update;
pub mod user;
pub mod webhook;

/// An enum whose values have a name in the contract: serde, JSON Schema, `Display`, `ALL` and `parse` from one list.
macro_rules! named_values {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
            schemars::JsonSchema,
        )]
        #[schemars(inline)]
        pub enum $name {
            $($(#[$value_doc])* #[serde(rename = $text)] $value),+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$value),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use named_values;
