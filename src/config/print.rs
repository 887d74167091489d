//! Shows the settings in force, as a file that would set them all.

use std::fmt::{self, Write};

use super::kind::Kind;
use super::read::Loaded;
use super::{Config, Visitor};

/// TOML, with a comment behind each value that is not a default. Secrets are `***`.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer { loaded: self, section: "", text: String::new() };
        Config::visit(&mut self.config.clone(), &mut printer);
        f.write_str(&printer.text)
    }
}

struct Printer<'a> {
    loaded: &'a Loaded,
    section: &'static str,
    text: String,
}

impl Printer<'_> {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

impl Visitor for Printer<'_> {
    fn section(&mut self, name: &'static str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.section = name;
        self.line(format_args!("[{name}]"));
    }

    fn setting<K: Kind>(&mut self, key: &'static str, kind: K, value: &mut K::Value) {
        let value = kind.write(value);
        match self.loaded.origins.get(&format!("{}.{key}", self.section)) {
            Some(source) => self.line(format_args!("{key} = {value}  # {source}")),
            None => self.line(format_args!("{key} = {value}")),
        }
    }
}
