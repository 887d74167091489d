//! `zero support-bundle`: what somebody who helps needs to know, and nothing about anybody.
//!
//! Nothing is taken out of it that was put in; it is made of what may be shown: numbers, switches, words of the
//! appliance's own. Of settings that are text it says only whether they are set, and what the doctor says goes through
//! [`Redaction`].

use regex::Regex;
use serde_json::{Map, Value, json};

use super::control::Client;
use crate::config::{Config, Destination, Loaded};
use crate::domain::diagnosis::Finding;
use crate::domain::status::Status;

/// Settings whose text is one of a few words.
const WORDS: &[&str] = &["log.level", "log.format", "smtp.tls", "tls.mode", "network.egress"];

/// The bundle, as JSON.
pub fn bundle(loaded: Option<&Loaded>, findings: &[Finding]) -> Value {
    let config = loaded.map(|loaded| &loaded.config);
    let server = config.and_then(|config| Client::connect(&config.server.data_dir).ok());
    let status = server.and_then(|mut server| server.status().ok());
    let server = config.and_then(|config| Client::connect(&config.server.data_dir).ok());
    let metrics = server.and_then(|mut server| server.metrics().ok());
    let redaction = Redaction::new(loaded, status.as_ref());
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "severity": finding.severity,
                "message": redaction.apply(&finding.message),
                "remedy": finding.remedy.as_deref().map(|remedy| redaction.apply(remedy)),
            })
        })
        .collect();
    let system = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let uname = rustix::system::uname();
    json!({
        "zero_support_bundle": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "schema": crate::store::SCHEMA_VERSION,
        "machine": {
            "system": system(uname.sysname()),
            "release": system(uname.release()),
            "architecture": system(uname.machine()),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
        },
        "settings": loaded.map(settings),
        "doctor": findings,
        "status": status.map(without_names),
        "metrics": metrics,
        "log": "not kept by the appliance: journalctl -u zero shows it, with names and addresses in it",
    })
}

/// Numbers and switches as they are; of text only whether there is any.
fn settings(loaded: &Loaded) -> Value {
    let table: toml::Table = loaded.to_string().parse().unwrap_or_default();
    let mut sections = Map::new();
    for (section, keys) in table {
        let mut shown = Map::new();
        for (key, value) in keys.as_table().into_iter().flatten() {
            let is_word = WORDS.contains(&format!("{section}.{key}").as_str());
            let value = match value {
                toml::Value::Integer(number) => json!(number),
                toml::Value::Boolean(switch) => json!(switch),
                toml::Value::String(text) if is_word => json!(text),
                toml::Value::String(text) if text.is_empty() => json!("not set"),
                toml::Value::Array(items) => json!(format!("{} items", items.len())),
                _ => json!("set"),
            };
            shown.insert(key.clone(), value);
        }
        sections.insert(section, shown.into());
    }
    sections.into()
}

fn without_names(mut status: Status) -> Value {
    // The doctor says the same, without addresses.
    status.findings.clear();
    let names = status.certificate.as_mut().map(|certificate| {
        certificate.ca_sha256 = String::new();
        certificate.problem = certificate.problem.take().map(|_| "see the doctor".into());
        std::mem::take(&mut certificate.names).len()
    });
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let (Some(names), Some(certificate)) = (names, value.get_mut("certificate")) {
        certificate["names"] = json!(names);
    }
    value
}

/// Takes out of a sentence what may name somebody: known names, paths, addresses, and whatever is quoted.
struct Redaction {
    known: Vec<String>,
    patterns: Vec<(Regex, &'static str)>,
}

impl Redaction {
    fn new(loaded: Option<&Loaded>, status: Option<&Status>) -> Self {
        let mut known = Vec::new();
        if let Some(loaded) = loaded {
            let server = &loaded.config.server;
            known.push(server.data_dir.display().to_string());
            known.push(server.listen.to_string());
            known.extend(server.names.iter().map(ToString::to_string));
            let Config { smtp, syslog, tls, network, .. } = &loaded.config;
            known.extend(smtp.host.iter().map(ToString::to_string));
            known.extend(syslog.server.iter().map(|server| server.host.to_string()));
            known.extend(url::Url::parse(&tls.acme_directory).ok().and_then(|url| url.host_str().map(Into::into)));
            known.extend(network.exceptions.iter().map(Destination::to_string));
        }
        known.extend(status.and_then(|status| status.certificate.as_ref()).into_iter().flat_map(|c| c.names.clone()));
        known.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
        known.retain(|name| !name.is_empty() && name != "localhost");
        // A name within another comes after it.
        known.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let patterns = [
            (r#""[^"]*""#, "\"...\""),
            (r"(?:[\w.~-]*/)+[^\s,:;]*", "<path>"),
            (r"\S+@\S+", "<address>"),
            (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "<address>"),
            (r"(?i)\b[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){3,}\b", "<address>"),
        ];
        let patterns = patterns.into_iter();
        let patterns = patterns.filter_map(|(pattern, by)| Some((Regex::new(pattern).ok()?, by))).collect();
        Self { known, patterns }
    }

    fn apply(&self, text: &str) -> String {
        let text = self.known.iter().fold(text.to_owned(), |text, name| text.replace(name.as_str(), "<name>"));
        self.patterns.iter().fold(text, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
    }
}
