//! Settings that were changed while the appliance ran, in a file of the data directory: it stands between the settings'
//! own file, over which it wins, and the environment, which wins over it.
//!
//! Only what differs from the settings' own file is in it. Removing it leads back there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::kind::Kind;
use super::layers::Layers;
use super::read::{self, Loaded, variable};
use super::{Config, Mistake, Mistakes, Source, Visitor};

/// Name of the file in the data directory.
pub const CHANGED_FILE: &str = "settings.toml";
/// Name of what is in force until somebody confirms it; a start throws it away.
pub const UNCONFIRMED_FILE: &str = "settings.toml.new";

/// What may be in the file: settings that decide whether anybody reaches the appliance.
const CHANGEABLE: [&str; 5] =
    ["server.names", "server.public_url", "server.trusted_proxies", "server.proxy_protocol", "tls.mode"];
/// The members of [`Change`], in the same order.
const MEMBERS: [&str; 5] = ["names", "public_url", "trusted_proxies", "proxy_protocol", "tls_mode"];

const HEAD: &str = "\
# Changed while the appliance ran (PUT /api/v1/system/settings, or the dashboard). Wins over the file of settings; the
# environment and flags win over it. Remove this file while the server is stopped to go back to the file of settings.
";

/// Some of these settings anew, as a person writes them; `None` leaves one as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub names: Option<Vec<String>>,
    pub public_url: Option<String>,
    pub trusted_proxies: Option<Vec<String>>,
    pub proxy_protocol: Option<bool>,
    pub tls_mode: Option<String>,
}

impl Change {
    fn values(self) -> impl Iterator<Item = (&'static str, toml::Value)> {
        let list = |items: Vec<String>| toml::Value::Array(items.into_iter().map(toml::Value::String).collect());
        let values = [
            self.names.map(list),
            self.public_url.map(toml::Value::String),
            self.trusted_proxies.map(list),
            self.proxy_protocol.map(toml::Value::Boolean),
            self.tls_mode.map(toml::Value::String),
        ];
        CHANGEABLE.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?)))
    }
}

/// Values by `section.key`.
type Values = BTreeMap<String, toml::Value>;

impl Loaded {
    /// With what was changed while the appliance ran.
    ///
    /// # Errors
    /// Every mistake in that file, and what contradicts the other settings.
    pub fn with_changes(self) -> Result<Self, Mistakes> {
        let path = self.config.server.data_dir.join(CHANGED_FILE);
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self),
            // What else is wrong with it, reading says.
            _ => {}
        }
        let mut layers = self.layers;
        let mut mistakes = Vec::new();
        layers.add_changes(&path, &mut mistakes);
        let foreign = layers.changes.iter().filter(|(key, _)| !CHANGEABLE.contains(&key.as_str()));
        mistakes.extend(foreign.map(|(key, (source, _))| {
            let message = format!("{key} cannot be changed while the appliance runs: move it to the file of settings");
            Mistake { source: source.clone(), message }
        }));
        if mistakes.is_empty() { read::understand(layers) } else { Err(Mistakes(mistakes)) }
    }

    /// The settings after `change`, and the text of the file that says so.
    ///
    /// # Errors
    /// What does not hold, or is given where it wins over the file.
    pub fn change(&self, change: Change) -> Result<(Self, String), Mistakes> {
        let path = self.config.server.data_dir.join(CHANGED_FILE);
        let without = Layers { changes: BTreeMap::new(), ..self.layers.clone() };
        let base = read::understand(without.clone())?;
        let (of_base, mut wanted) = (values(&base.config), values(&self.config));
        wanted.extend(change.values().map(|(key, value)| (key.into(), value)));
        let with = |values: &Values, mut layers: Layers| {
            layers.changes = values.iter().map(|(key, value)| (key.clone(), (at(&path), value.into()))).collect();
            read::understand(layers)
        };
        // As the appliance writes them, even where something else wins.
        let mut alone = without.clone();
        CHANGEABLE.iter().for_each(|key| _ = alone.environment.remove(&variable(key)));
        let written = values(&with(&wanted, alone)?.config);
        let changed: Values = written.into_iter().filter(|(key, value)| of_base.get(key) != Some(value)).collect();
        let fixed: Vec<Mistake> = changed.keys().filter_map(|key| fixed(&base, key)).collect();
        if !fixed.is_empty() {
            return Err(Mistakes(fixed));
        }
        Ok((with(&changed, without)?, text(&changed)))
    }

    /// The settings that can be changed, by their members of [`Change`], with their values as a file has them.
    pub fn changeable(&self) -> impl Iterator<Item = (&'static str, String)> {
        let values = values(&self.config);
        CHANGEABLE
            .into_iter()
            .filter_map(member_of)
            .zip(CHANGEABLE)
            .map(move |(member, key)| (member, values.get(key).map(ToString::to_string).unwrap_or_default()))
    }

    /// Those of them that are given where it wins, and where that is.
    pub fn fixed(&self) -> impl Iterator<Item = (&'static str, &Source)> {
        let given = CHANGEABLE.into_iter().filter_map(|key| Some((member_of(key)?, self.origins.get(key)?)));
        given.filter(|(_, source)| wins(source))
    }
}

/// The member of [`Change`] that a mistake in this setting is in.
pub fn member_of(key: &str) -> Option<&'static str> {
    CHANGEABLE.iter().position(|known| *known == key).and_then(|place| MEMBERS.get(place)).copied()
}

/// Whether it wins over what is changed.
fn wins(source: &Source) -> bool {
    matches!(source, Source::Environment { .. } | Source::Flag { .. })
}

fn at(path: &Path) -> Source {
    Source::Changed { path: path.to_owned(), line: None }
}

fn fixed(base: &Loaded, key: &str) -> Option<Mistake> {
    let source = base.origins.get(key)?;
    let message = format!("{key} is set by {source}, which wins: change it there");
    wins(source).then(|| Mistake { source: source.clone(), message })
}

struct Collector {
    section: &'static str,
    values: Values,
}

impl Visitor for Collector {
    fn section(&mut self, name: &'static str) {
        self.section = name;
    }

    fn setting<K: Kind>(&mut self, key: &'static str, kind: K, value: &mut K::Value) {
        let path = format!("{}.{key}", self.section);
        if CHANGEABLE.contains(&path.as_str()) {
            self.values.insert(path, kind.write(value));
        }
    }
}

fn values(config: &Config) -> Values {
    let mut collector = Collector { section: "", values: Values::new() };
    config.clone().visit(&mut collector);
    collector.values
}

fn text(values: &Values) -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for (path, value) in values {
        let Some((of, key)) = path.split_once('.') else { continue };
        if of != section {
            text += &format!("\n[{of}]\n");
            section = of;
        }
        text += &format!("{key} = {value}\n");
    }
    text
}

/// Puts the text down beside the file, durably: whoever starts the appliance sees that it was not confirmed.
pub fn put_unconfirmed(data_dir: &Path, text: &str) -> io::Result<()> {
    let path = data_dir.join(UNCONFIRMED_FILE);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync(data_dir)
}

/// From now on a start finds it.
pub fn confirm(data_dir: &Path) -> io::Result<()> {
    fs::rename(data_dir.join(UNCONFIRMED_FILE), data_dir.join(CHANGED_FILE))?;
    sync(data_dir)
}

/// Throws away what was not confirmed; returns whether there was anything.
pub fn discard(data_dir: &Path) -> io::Result<bool> {
    match fs::remove_file(data_dir.join(UNCONFIRMED_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.and_then(|()| sync(data_dir)).map(|()| true),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(PathBuf::from(folder))?.sync_all()
}
