use serde::{Deserialize, Serialize};

use super::named_values;
use crate::clock::Time;

named_values! {
    /// How an update has ended.
    pub enum UpdateResult {
        /// The new version serves.
        Updated = "updated",
        /// The version before it serves, with its data.
        Undone = "undone",
    }
}

named_values! {
    /// Where an update has come to.
    pub enum UpdateStep {
        /// A backup is made and proven.
        BackingUp = "backing_up",
        /// The new version starts on a copy of the data, while the old one serves.
        Rehearsing = "rehearsing",
        /// The new version takes over.
        Switching = "switching",
    }
}

/// An update that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOutcome {
    /// Whoever asked for the update knows it by this.
    pub id: String,
    pub from: String,
    pub to: String,
    pub result: UpdateResult,
    /// Why it was undone, and what to do.
    pub reason: Option<String>,
    pub at: Time,
}
