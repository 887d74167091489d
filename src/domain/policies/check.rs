//! What a policy's settings must be, beyond what their schema says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use globset::{Glob, GlobSet};
use regex::RegexBuilder;

use crate::error::FieldError;
use crate::model::policy::{PolicyData, units};

/// Errors that one answer names, at most.
const MAX_ERRORS: usize = 20;
/// Bytes that a compiled pattern may take.
const PATTERN_SIZE: usize = 1 << 20;
const SIZES: RangeInclusive<u64> = 1 << 20..=16 << 40;
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
const USB_CLASSES: [&str; 12] = [
    "audio",
    "cdc",
    "hid",
    "hub",
    "image",
    "mass_storage",
    "network",
    "physical",
    "printer",
    "smart_card",
    "video",
    "wireless",
];

impl PolicyData {
    /// What is wrong with the settings, each by itself.
    pub fn check(&self) -> Vec<FieldError> {
        let mut found = Findings::default();
        if let Some(dlp) = &self.dlp {
            found.list("dlp.sensitive_data_patterns", &dlp.sensitive_data_patterns, pattern);
        }
        if let Some(network) = &self.network {
            found.list("network.allowed_domains", &network.allowed_domains, domain);
            found.list("network.blocked_domains", &network.blocked_domains, domain);
            found.list("network.dns_servers", &network.dns_servers, dns_server);
        }
        if let Some(usb) = &self.usb {
            found.list("usb.whitelist", &usb.whitelist, usb_device);
            found.list("usb.allowed_classes", &usb.allowed_classes, usb_class);
        }
        if let Some(container) = &self.container {
            found.text("container.memory_limit", &container.memory_limit, size);
            found.text("container.storage_limit", &container.storage_limit, size);
        }
        if let Some(applications) = &self.applications {
            found.apps("applications.managed_apps", &applications.managed_apps);
            found.apps("applications.blocked_apps", &applications.blocked_apps);
            found.apps("applications.required_apps", &applications.required_apps);
        }
        if let Some(compliance) = &self.compliance {
            found.text("compliance.min_os_version", &compliance.min_os_version, release);
            found.text("compliance.update_required_within", &compliance.update_required_within, duration);
        }
        found.0
    }
}

/// What is found wrong with a policy's settings.
#[derive(Default)]
pub(super) struct Findings(pub Vec<FieldError>);

impl Findings {
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError::new(format!("policy_data.{path}"), message));
        }
    }

    fn text<T>(&mut self, path: &str, value: &Option<String>, read: fn(&str) -> Result<T, String>) {
        if let Some(Err(message)) = value.as_deref().map(read) {
            self.add(path, message);
        }
    }

    fn apps(&mut self, path: &str, patterns: &Option<Vec<String>>) {
        let before = self.0.len();
        self.list(path, patterns, app);
        if self.0.len() == before && patterns.as_deref().is_some_and(|patterns| apps(patterns).is_err()) {
            self.add(path, "is too large a list of patterns once compiled");
        }
    }

    /// `read` turns an item into the form in which items compare, or says what is wrong with it.
    fn list(&mut self, path: &str, items: &Option<Vec<String>>, read: fn(&str) -> Result<String, String>) {
        let mut seen = HashMap::new();
        for (at, item) in items.iter().flatten().enumerate() {
            if self.0.len() >= MAX_ERRORS {
                return;
            }
            match read(item) {
                Err(message) => self.add(&format!("{path}[{at}]"), message),
                Ok(item) => {
                    if let Some(first) = seen.insert(item, at) {
                        self.add(&format!("{path}[{at}]"), format!("is the same as policy_data.{path}[{first}]"));
                    }
                }
            }
        }
    }
}

/// Lower case, and in ASCII as the DNS has it (RFC 5891).
pub(super) fn domain(text: &str) -> Result<String, String> {
    let (wildcard, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
    let ascii = idna::domain_to_ascii_strict(name).map_err(|_| "is not a domain")?;
    if ascii.rsplit('.').next().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("is not a domain".into());
    }
    Ok(format!("{wildcard}{ascii}"))
}

fn dns_server(text: &str) -> Result<String, String> {
    let address: IpAddr = text.parse().map_err(|_| "is not an IP address")?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("is not the address of a server".into());
    }
    Ok(address.to_string())
}

fn usb_device(text: &str) -> Result<String, String> {
    let is_hex = |part: &str| part.len() == 4 && part.bytes().all(|b| b.is_ascii_hexdigit());
    match text.split_once(':') {
        Some((vendor, product)) if is_hex(vendor) && is_hex(product) => Ok(text.to_ascii_lowercase()),
        _ => Err("is not vendor:product in hexadecimal, such as 046d:c52b".into()),
    }
}

fn usb_class(text: &str) -> Result<String, String> {
    let class = text.to_ascii_lowercase();
    if USB_CLASSES.contains(&class.as_str()) {
        return Ok(class);
    }
    Err(format!("is not a class of USB devices: {}", USB_CLASSES.join(", ")))
}

fn pattern(text: &str) -> Result<String, String> {
    match RegexBuilder::new(text).size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build() {
        Ok(_) => Ok(text.into()),
        Err(regex::Error::CompiledTooBig(_)) => Err("is too large a regular expression once compiled".into()),
        // The last line says what is wrong, those before it draw where.
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("is not a regular expression: {reason}"))
        }
    }
}

fn app(text: &str) -> Result<String, String> {
    Glob::new(text).map(|_| text.into()).map_err(|error| format!("is not a pattern: {}", error.kind()))
}

/// Matches the apps that `patterns` name.
///
/// # Errors
/// One of them is not a pattern, or they are too many to compile together.
pub(super) fn apps(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSet::builder();
    for pattern in patterns {
        set.add(Glob::new(pattern)?);
    }
    set.build()
}

fn size(text: &str) -> Result<(), String> {
    let bytes = units::size(text).ok_or("is not a size such as 512m or 2g")?;
    if SIZES.contains(&bytes) { Ok(()) } else { Err("must be at least 1m and at most 16t".into()) }
}

fn duration(text: &str) -> Result<(), String> {
    let span = units::duration(text).ok_or("is not a duration such as 12h or 30d")?;
    if !span.is_zero() && span <= LONGEST { Ok(()) } else { Err("must be at least 1h and at most 3650d".into()) }
}

fn release(text: &str) -> Result<(), String> {
    units::release(text).map(|_| ()).ok_or_else(|| "is not a version of numbers and dots, such as 14.2".into())
}

#[cfg(test)]
pub(super) mod tests;
