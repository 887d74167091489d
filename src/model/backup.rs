use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::ids::OrganizationId;

/// What a backup says of itself at its beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupHead {
    /// Of the appliance that made it.
    pub version: String,
    /// Of the tables in it.
    pub schema: u64,
    pub created_at: Time,
}

/// What is in a backup; stands at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// Records, by table.
    pub tables: BTreeMap<String, u64>,
    /// Keys and certificates.
    pub files: u64,
    /// Where each audit log ended.
    pub logs: Vec<LogHead>,
}

impl Contents {
    pub fn records(&self) -> u64 {
        self.tables.values().sum()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogHead {
    pub organization_id: OrganizationId,
    pub seq: u64,
    /// In hexadecimal.
    pub hash: String,
}

/// A backup that was restored into a scratch folder, counted and verified there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvenBackup {
    /// Name of its file.
    pub name: String,
    pub created_at: Time,
    /// Length of its file.
    pub bytes: u64,
    pub encrypted: bool,
    pub contents: Contents,
}
