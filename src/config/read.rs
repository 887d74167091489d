//! Makes a [`Config`] of what was given and gathers every mistake on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use super::kind::Kind;
use super::layers::{Flags, Layers};
use super::mistake::{Mistake, Mistakes, Source};
use super::{Config, Visitor};

/// Settings that hold, and where those that are not defaults came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// By `section.key`; what is missing has its default.
    pub origins: BTreeMap<String, Source>,
    pub(super) layers: Layers,
}

pub(super) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: Flags,
) -> Result<Loaded, Mistakes> {
    let (loaded, mistakes) = read(file, environment, flags);
    finish(loaded, mistakes)
}

fn finish(loaded: Loaded, mistakes: Vec<Mistake>) -> Result<Loaded, Mistakes> {
    if mistakes.is_empty() { Ok(loaded) } else { Err(Mistakes(mistakes)) }
}

/// What can be read of it, and what is wrong with the rest.
pub(super) fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: Flags,
) -> (Loaded, Vec<Mistake>) {
    let (mut layers, mut mistakes) = (Layers::default(), Vec::new());
    if let Some(path) = file {
        layers.add_file(path, &mut mistakes);
    }
    layers.add_environment(environment, &mut mistakes);
    layers.add_flags(flags);
    make(layers, mistakes)
}

/// Of layers that were read without a mistake.
pub(super) fn understand(layers: Layers) -> Result<Loaded, Mistakes> {
    let (loaded, mistakes) = make(layers, Vec::new());
    finish(loaded, mistakes)
}

fn make(layers: Layers, mistakes: Vec<Mistake>) -> (Loaded, Vec<Mistake>) {
    let mut reader = Reader { layers: layers.clone(), mistakes, ..Reader::default() };
    let mut config = Config::default();
    config.visit(&mut reader);
    reader.refuse_unknown();
    reader.compare(&config);

    let Reader { origins, mut mistakes, .. } = reader;
    mistakes.sort_by(|a, b| a.source.cmp(&b.source));
    (Loaded { config, origins, layers }, mistakes)
}

/// Takes from the layers what it is shown a place for; what is left belongs to no setting.
#[derive(Default)]
struct Reader {
    layers: Layers,
    section: &'static str,
    sections: BTreeSet<&'static str>,
    origins: BTreeMap<String, Source>,
    /// Settings that a mistake was found in.
    refused: BTreeSet<String>,
    mistakes: Vec<Mistake>,
}

/// The variable of the environment that sets `section.key`.
pub(super) fn variable(path: &str) -> String {
    format!("ZERO_{}", path.replace('.', "_")).to_ascii_uppercase()
}

impl Visitor for Reader {
    fn section(&mut self, name: &'static str) {
        self.section = name;
        self.sections.insert(name);
    }

    fn setting<K: Kind>(&mut self, key: &'static str, kind: K, value: &mut K::Value) {
        let path = format!("{}.{key}", self.section);
        let variable = variable(&path);
        let given = [
            self.layers.file.remove(&path),
            self.layers.changes.remove(&path),
            self.layers.environment.remove(&variable),
            self.layers.flags.remove(path.as_str()),
        ];
        for (source, given) in given.into_iter().flatten() {
            match kind.read(&given) {
                Ok(read) => {
                    *value = read;
                    self.origins.insert(path.clone(), source);
                }
                Err(wrong) => {
                    self.mistakes.push(Mistake { source, message: format!("{path} {wrong}") });
                    self.refused.insert(path.clone());
                }
            }
        }
    }
}

impl Reader {
    fn refuse_unknown(&mut self) {
        for (section, source) in std::mem::take(&mut self.layers.file_sections) {
            if !self.sections.contains(section.as_str()) {
                self.mistakes.push(Mistake { source, message: format!("there is no section [{section}]") });
            }
        }
        for (path, (source, _)) in std::mem::take(&mut self.layers.file) {
            if path.split('.').next().is_some_and(|section| self.sections.contains(section)) {
                self.mistakes.push(Mistake { source, message: format!("{path} is no setting") });
            }
        }
        for (_, (source, _)) in std::mem::take(&mut self.layers.environment) {
            let message = "no setting has this variable, and ZERO_ is only for settings".into();
            self.mistakes.push(Mistake { source, message });
        }
    }

    /// What can only be said of two settings together, when each of them holds.
    fn compare(&mut self, config: &Config) {
        let tls = config.tls.contradiction(&config.server.names);
        for (keys, message) in [config.smtp.contradiction(), tls, config.server.contradiction()].into_iter().flatten() {
            self.refuse_together(keys, message);
        }
        let (longer, shorter) = ("devices.offline_after_seconds", "devices.checkin_seconds");
        let (offline, checkin) = (config.devices.offline_after, config.devices.checkin);
        if offline <= checkin {
            let (offline, checkin) = (offline.as_secs(), checkin.as_secs());
            let message = format!(
                "{longer} ({offline}) must be greater than {shorter} ({checkin}), or devices are offline between check-ins"
            );
            self.refuse_together(&[longer, shorter], message);
        }
    }

    /// Notes a mistake that several settings make together, unless one of them is wrong by itself. The defaults agree,
    /// so at least one of them was given.
    fn refuse_together(&mut self, keys: &[&str], message: String) {
        if keys.iter().any(|key| self.refused.contains(*key)) {
            return;
        }
        if let Some(source) = keys.iter().filter_map(|key| self.origins.get(*key)).max().cloned() {
            self.mistakes.push(Mistake { source, message });
        }
    }
}
