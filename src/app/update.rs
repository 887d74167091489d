//! Updates that can be undone: from a signed bundle to a new version that serves, or to the old one as it was.
//!
//! While the old version serves ([`prepare`]) the bundle is checked and unpacked into the data directory, a backup is made
//! and proven, and the new version is started on a copy of the data, up to where it would serve. Then (stage `staged`) the
//! old one lets requests under way finish, closes its data and becomes itself anew, in the same process, with the listening
//! socket still open: clients wait in its queue. Before the data is opened ([`switch`]) it copies the data file, notes
//! that (stage `trying`), and becomes the new version, which opens the copy and migrates it. Ready, the new version renames
//! the copy to the data file, and only then accepts requests. That renaming is the moment of the update:
//!
//! - Before it the data file is as the old version left it, with everything that was acknowledged. Whatever ends the new
//!   version, the next start finds the copy, removes it and is the old version. A new version that fails, breaks down or
//!   hangs does that itself, within [`UpdateConfig::ready_within`]; an alarm of the system ends one that does not.
//! - After it the copy is gone, and the next start is the new version: everything that it acknowledged is in that file.
//!
//! The installed binary stays as it is, so that there is always one that runs: it is the first at every start, and goes on
//! as the version that `state.json` names when that is signed and newer ([`handover`]). That also works where the service
//! may write nothing but its data, as under our own unit.
//!
//! [`UpdateConfig::ready_within`]: crate::config::UpdateConfig

use std::fs::File;
use std::io;
use std::path::Path;

mod bundle;
mod command;
mod handover;
mod prepare;
mod state;
mod switch;

pub use command::update;
pub use handover::{Handover, Role, hand_over};
pub use prepare::{Updater, inbox};
pub use state::FOLDER;
pub use switch::{Start, begin};

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
