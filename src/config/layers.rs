//! What was given, as it was given: the file, the environment and the flags before any of it is understood.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Source};

/// A value without a meaning yet.
#[derive(Clone)]
pub(super) enum Given {
    /// From the environment or a flag, which know text only.
    Variable(String),
    Text(String),
    Integer {
        written: String,
        /// None when it is negative or past 64 bits.
        value: Option<u64>,
    },
    Boolean(bool),
    List(Vec<Given>),
    /// A value of a type that no setting has.
    Other(&'static str),
}

impl Given {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Variable(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&toml::Value> for Given {
    fn from(value: &toml::Value) -> Self {
        match value {
            toml::Value::String(text) => Self::Text(text.clone()),
            toml::Value::Integer(number) => {
                Self::Integer { written: number.to_string(), value: u64::try_from(*number).ok() }
            }
            toml::Value::Boolean(value) => Self::Boolean(*value),
            toml::Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            other => Self::Other(other.type_str()),
        }
    }
}

impl From<&DeValue<'_>> for Given {
    fn from(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => Self::Integer {
                written: number.to_string(),
                value: u64::from_str_radix(number.as_str(), number.radix()).ok(),
            },
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Array(items) => Self::List(items.iter().map(|item| item.get_ref().into()).collect()),
            other => Self::Other(other.type_str()),
        }
    }
}

/// For messages: what was written, cut after 60 characters.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(text) | Self::Text(text) if text.chars().count() > 60 => {
                write!(f, "{:?}…", text.chars().take(60).collect::<String>())
            }
            Self::Variable(text) | Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer { written, .. } => write!(f, "{written:.60}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(name) => write!(f, "a {name}"),
        }
    }
}

/// Settings given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--listen`
    pub listen: Option<String>,
}

/// Everything given. Keys are `section.key`, except in the environment, where they are the variables' names.
#[derive(Clone, Default)]
pub(super) struct Layers {
    pub file_sections: BTreeMap<String, Source>,
    pub file: BTreeMap<String, (Source, Given)>,
    /// What was changed while the appliance ran.
    pub changes: BTreeMap<String, (Source, Given)>,
    pub environment: BTreeMap<String, (Source, Given)>,
    pub flags: BTreeMap<&'static str, (Source, Given)>,
}

/// Without what was given, which may be a secret.
impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layers")
    }
}

/// Bounds the memory that a wrong path (a device, a disk image) can take.
const MAX_FILE: u64 = 1 << 20;

/// Variables that are no settings: the file's path, which the command line reads, what the build reads, and what one
/// version tells the next when it hands over to it.
const NOT_SETTINGS: [&str; 5] = ["ZERO_CONFIG", "ZERO_WEB", "ZERO_COMMIT", "ZERO_RELEASE_KEY", "ZERO_HANDOVER"];

/// The short name of `ZERO_SERVER_DATA_DIR`, like the flag `--data-dir`.
const DATA_DIR: &str = "ZERO_DATA_DIR";

impl Layers {
    pub fn add_flags(&mut self, flags: Flags) {
        let named = [("server.data_dir", "--data-dir", flags.data_dir), ("server.listen", "--listen", flags.listen)];
        for (key, name, value) in named {
            if let Some(value) = value {
                self.flags.insert(key, (Source::Flag { name }, Given::Variable(value)));
            }
        }
    }

    pub fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        mistakes: &mut Vec<Mistake>,
    ) {
        for (name, value) in environment {
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with("ZERO_") || NOT_SETTINGS.contains(&name.as_str()) {
                continue;
            }
            let source = Source::Environment { name: name.clone() };
            match value.into_string() {
                Ok(value) => drop(self.environment.insert(name, (source, Given::Variable(value)))),
                Err(_) => mistakes.push(Mistake { source, message: "the value is not UTF-8".into() }),
            }
        }
        if let Some((source, value)) = self.environment.remove(DATA_DIR) {
            let long = self.environment.entry("ZERO_SERVER_DATA_DIR".into());
            if matches!(&long, std::collections::btree_map::Entry::Occupied(other) if other.get().1.text() != value.text())
            {
                let message = "contradicts ZERO_SERVER_DATA_DIR, which is the same setting: set one of them".into();
                mistakes.push(Mistake { source, message });
            } else {
                long.insert_entry((source, value));
            }
        }
    }

    pub fn add_file(&mut self, path: &Path, mistakes: &mut Vec<Mistake>) {
        let at = |line| Source::File { path: path.to_owned(), line };
        (self.file_sections, self.file) = understand(path, at, mistakes);
    }

    pub fn add_changes(&mut self, path: &Path, mistakes: &mut Vec<Mistake>) {
        let at = |line| Source::Changed { path: path.to_owned(), line };
        self.changes = understand(path, at, mistakes).1;
    }
}

type Sections = BTreeMap<String, Source>;
type Settings = BTreeMap<String, (Source, Given)>;

/// The sections and the settings of a file.
fn understand(path: &Path, at: impl Fn(Option<usize>) -> Source, mistakes: &mut Vec<Mistake>) -> (Sections, Settings) {
    let (mut sections, mut found) = (Sections::new(), Settings::new());
    let text = match read_file(path) {
        Ok(text) => text,
        Err(message) => {
            mistakes.push(Mistake { source: at(None), message });
            return (sections, found);
        }
    };
    let line_of = |span: Range<usize>| Some(1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
    let (table, errors) = DeTable::parse_recoverable(&text);
    let broken: Vec<_> = errors.iter().map(|error| error.span().and_then(line_of)).collect();
    for (error, line) in errors.iter().zip(&broken) {
        mistakes.push(Mistake { source: at(*line), message: error.message().to_owned() });
    }
    for (section, content) in table.get_ref() {
        let line = line_of(section.span());
        let section = section.get_ref();
        let DeValue::Table(settings) = content.get_ref() else {
            if !broken.contains(&line) {
                let message = format!("{section} stands outside of every section, such as [server]");
                mistakes.push(Mistake { source: at(line), message });
            }
            continue;
        };
        sections.insert(section.to_string(), at(line));
        for (key, value) in settings {
            // What the parser made of a line that it could not read would only be reported twice.
            let line = line_of(key.span());
            if !broken.contains(&line) {
                found.insert(format!("{section}.{}", key.get_ref()), (at(line), value.get_ref().into()));
            }
        }
    }
    (sections, found)
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("is larger than 1 MiB: this is no configuration".into());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}
