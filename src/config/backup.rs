//! Where backups go, how often, and who can read them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use age::x25519;

use super::kind::{count, hours, text};
use super::{DAY, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub struct BackupConfig {
    /// None stands for `backups` in the data directory.
    pub folder: Option<PathBuf>,
    /// Time from one scheduled backup to the next, at most a year; zero for none.
    pub every: Duration,
    /// Proven backups kept in each folder, 1 to 1,000.
    pub keep: u32,
    /// Gets a copy of each.
    pub second_folder: Option<PathBuf>,
    /// Backups are encrypted to it.
    pub recipient: Option<Recipient>,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self { folder: None, every: Duration::from_secs(DAY), keep: 7, second_folder: None, recipient: None }
    }
}

impl BackupConfig {
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.section("backup");
        visitor.setting("folder", text::optional_path(), &mut self.folder);
        visitor.setting("every_hours", hours(0..=8_760), &mut self.every);
        visitor.setting("keep", count(1..=1_000), &mut self.keep);
        visitor.setting("second_folder", text::optional_path(), &mut self.second_folder);
        visitor.setting("recipient", text::optional(text::recipient()), &mut self.recipient);
    }
}

/// Whoever has the secret key of this public one (`age1…`) can read a backup.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    pub fn key(&self) -> &x25519::Recipient {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
