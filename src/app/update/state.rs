//! What is known of updates, on disk: which version serves, and how far one that is under way has come.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sync;
use crate::app::folder::DATA_FILE;
use crate::model::update::UpdateOutcome;

/// Folder in the data directory that everything of updates lies in.
pub const FOLDER: &str = "update";
/// Longer than any state; in bytes.
const LONGEST: u64 = 64 << 10;

/// Members that are missing have their default, and ones that are not known are left out: the installed binary may be
/// much older than the version that wrote it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The version that serves, when it is not the installed one.
    pub current: Option<String>,
    pub switch: Option<Switch>,
    pub last: Option<UpdateOutcome>,
    /// The audit log does not have `last` yet.
    pub unnoted: bool,
}

/// From one version to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    pub id: String,
    pub from: String,
    pub to: String,
    pub stage: Stage,
    /// Why it is to be undone.
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The new version has started on a copy, and takes over with the next start.
    Staged,
    /// It starts on the last copy of the data, `update/zero.redb`. It is not ready before that file has taken the place
    /// of the data file: where the copy is there, the data file is the old one.
    Trying,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    data_dir: PathBuf,
    folder: PathBuf,
}

impl Places {
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.into(), folder: data_dir.join(FOLDER) }
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data_file(&self) -> PathBuf {
        self.data_dir.join(DATA_FILE)
    }

    /// The data on which a new version starts.
    pub fn copy(&self) -> PathBuf {
        self.folder.join(DATA_FILE)
    }

    /// An appliance made of a backup, for the rehearsal.
    pub fn rehearsal(&self) -> PathBuf {
        self.folder.join("rehearsal")
    }

    /// What the new version says in the rehearsal.
    pub fn rehearsal_log(&self) -> PathBuf {
        self.folder.join("rehearsal.log")
    }

    pub fn versions(&self) -> PathBuf {
        self.folder.join("versions")
    }

    pub fn version(&self, version: &str) -> PathBuf {
        self.versions().join(version)
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.versions())
    }

    /// The state; the first one where there is none yet.
    pub fn read(&self) -> io::Result<State> {
        let mut text = Vec::new();
        match File::open(self.state()) {
            Ok(file) => file.take(LONGEST).read_to_end(&mut text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&text).map_err(|error| {
            let path = self.state();
            io::Error::other(format!(
                "{} is damaged: {error}. Remove it to go on with the installed version",
                path.display()
            ))
        })
    }

    /// Puts the state on disk, whole or not at all.
    pub fn write(&self, state: &State) -> io::Result<()> {
        let (path, new) = (self.state(), self.folder.join("state.json.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync(&self.folder)
    }

    /// The version to run: `None` for the installed one.
    pub fn pick(&self, state: &State) -> Option<String> {
        match &state.switch {
            Some(switch) if switch.stage == Stage::Trying && !self.copy().exists() => Some(switch.to.clone()),
            _ => state.current.clone(),
        }
    }
}
