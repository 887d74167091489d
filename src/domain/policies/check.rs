//! What a policy's settings must be, beyond what their schema says, and what of them cannot hold together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use globset::{Glob, GlobSet};
use regex::RegexBuilder;

use crate::error::FieldError;
use crate::model::policy::{ClipboardDirection, InstallMode, PolicyData, units};

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
            found.list("applications.managed_apps", &applications.managed_apps, app);
            found.list("applications.blocked_apps", &applications.blocked_apps, app);
            found.list("applications.required_apps", &applications.required_apps, app);
        }
        if let Some(compliance) = &self.compliance {
            found.text("compliance.min_os_version", &compliance.min_os_version, release);
            found.text("compliance.update_required_within", &compliance.update_required_within, duration);
        }
        found.0
    }

    /// Which settings cannot hold together. With `inherits`, what is not set may still come from a policy below this
    /// one; without, it is off.
    pub fn contradictions(&self, inherits: bool) -> Vec<FieldError> {
        let mut found = Findings::default();
        if let Some(dlp) = &self.dlp
            && dlp.clipboard_sharing == Some(false)
            && let Some(direction) = dlp.clipboard_direction.filter(|way| *way != ClipboardDirection::None)
        {
            let why = format!("a clipboard that is not shared has no direction {direction}");
            found.contradiction("dlp.clipboard_direction", "dlp.clipboard_sharing", &why);
        }
        if let Some(network) = &self.network {
            if network.vpn_always_on == Some(true) && !network.vpn_required.unwrap_or(inherits) {
                let why = "a VPN that is always on must be required";
                found.contradiction("network.vpn_always_on", "network.vpn_required", why);
            }
            let blocked = by_meaning(&network.blocked_domains, domain);
            for (at, name) in network.allowed_domains.iter().flatten().enumerate() {
                if let Some(other) = domain(name).ok().and_then(|name| blocked.get(&name)) {
                    let (one, other) = (format!("allowed_domains[{at}]"), format!("blocked_domains[{other}]"));
                    let why = format!("{name} cannot be both allowed and blocked");
                    found.contradiction(&format!("network.{one}"), &format!("network.{other}"), &why);
                }
            }
        }
        if let Some(usb) = &self.usb
            && (usb.allowed, usb.audit_only) == (Some(false), Some(true))
        {
            let why = "what is only noted is not prevented";
            found.contradiction("usb.audit_only", "usb.allowed", why);
        }
        self.contradicting_apps(&mut found);
        if let Some(compliance) = &self.compliance {
            if compliance.passcode_min_length.is_some() && compliance.passcode_required == Some(false) {
                let why = "a passcode that is not required has no length";
                found.contradiction("compliance.passcode_min_length", "compliance.passcode_required", why);
            }
            let stored = self.storage.as_ref().and_then(|storage| storage.encryption_required);
            if compliance.encryption_required == Some(true) && stored == Some(false) {
                let why = "encryption cannot be both required and not required";
                found.contradiction("compliance.encryption_required", "storage.encryption_required", why);
            }
        }
        found.0
    }

    /// Only required apps that are named outright are judged: for a pattern, some other app may do.
    fn contradicting_apps(&self, found: &mut Findings) {
        let Some(applications) = &self.applications else { return };
        // Patterns that do not compile are named by `check`.
        let Ok(blocked) = apps(applications.blocked_apps.as_deref().unwrap_or_default()) else { return };
        let managed = match (applications.install_mode, &applications.managed_apps) {
            (Some(InstallMode::ManagedOnly), Some(managed)) => apps(managed).ok(),
            _ => None,
        };
        for (at, name) in applications.required_apps.iter().flatten().enumerate() {
            let required = format!("applications.required_apps[{at}]");
            let same = applications.blocked_apps.iter().flatten().position(|other| other == name);
            let is_named = !name.contains(['*', '?', '[', '{', '\\']);
            if let Some(other) = same.or_else(|| blocked.matches(name).first().copied().filter(|_| is_named)) {
                let why = format!("{name} cannot be both required and blocked");
                found.contradiction(&required, &format!("applications.blocked_apps[{other}]"), &why);
            }
            if is_named && managed.as_ref().is_some_and(|managed| !managed.is_match(name)) {
                let why = format!("{name} is not managed, and install_mode is managed_only");
                found.contradiction(&required, "applications.managed_apps", &why);
            }
        }
    }
}

/// Matches the apps that `patterns` name.
///
/// # Errors
/// One of them is not a pattern.
pub fn apps(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSet::builder();
    for pattern in patterns {
        set.add(Glob::new(pattern)?);
    }
    set.build()
}

#[derive(Default)]
struct Findings(Vec<FieldError>);

impl Findings {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError::new(format!("policy_data.{path}"), message));
        }
    }

    fn contradiction(&mut self, one: &str, other: &str, why: &str) {
        self.add(one, format!("contradicts policy_data.{other}: {why}"));
    }

    fn text<T>(&mut self, path: &str, value: &Option<String>, read: fn(&str) -> Result<T, String>) {
        if let Some(Err(message)) = value.as_deref().map(read) {
            self.add(path, message);
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

/// The items in the form in which they compare, each with its place.
fn by_meaning(items: &Option<Vec<String>>, read: fn(&str) -> Result<String, String>) -> HashMap<String, usize> {
    items.iter().flatten().enumerate().filter_map(|(at, item)| Some((read(item).ok()?, at))).collect()
}

/// Lower case, and in ASCII as the DNS has it (RFC 5891).
fn domain(text: &str) -> Result<String, String> {
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
    let too_large = |_| "is too large a pattern once compiled".to_owned();
    let glob = Glob::new(text).map_err(|error| format!("is not a pattern: {}", error.kind()))?;
    GlobSet::builder().add(glob).build().map_err(too_large)?;
    Ok(text.into())
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
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(data: &Value) -> PolicyData {
        serde_json::from_value(data.clone()).unwrap()
    }

    fn found(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_well_formed_passes() {
        let data = json!({
            "dlp": {"clipboard_sharing": true, "clipboard_direction": "both", "sensitive_data_patterns": [r"\b\d{16}\b"]},
            "network": {
                "vpn_required": true, "vpn_always_on": true, "split_tunnel": true,
                "allowed_domains": ["intranet", "*.acme.example", "mail.acme.example", "bücher.example"],
                "blocked_domains": ["*.mail.acme.example"], "dns_servers": ["9.9.9.9", "2620:fe::fe"],
            },
            "usb": {"allowed": false, "whitelist": ["046d:C52B"], "allowed_classes": ["HID", "audio"]},
            "container": {"memory_limit": "512m", "cpu_limit": 1.5, "storage_limit": "20G"},
            "applications": {
                "install_mode": "managed_only", "managed_apps": ["com.acme.*"], "blocked_apps": ["*.games.*"],
                "required_apps": ["com.acme.mail", "org.*.editor"],
            },
            "compliance": {"passcode_min_length": 8, "min_os_version": "14.2.1", "update_required_within": "30d"},
        });
        let data = read(&data);
        assert_eq!((found(data.check()), found(data.contradictions(false))), (Vec::new(), Vec::new()));
    }

    #[test]
    fn each_wrong_setting_is_named_with_its_place() {
        let long = format!(r"(\pL{{100}}){{{}}}", 100);
        let cases = [
            ("network", "allowed_domains", json!(["ok.example", "not a domain"]), "[1] is not a domain"),
            ("network", "allowed_domains", json!(["10.0.0.1"]), "[0] is not a domain"),
            ("network", "allowed_domains", json!(["*"]), "[0] is not a domain"),
            ("network", "blocked_domains", json!(["a.*.example"]), "[0] is not a domain"),
            ("network", "blocked_domains", json!(["https://a.example"]), "[0] is not a domain"),
            (
                "network",
                "blocked_domains",
                json!(["*.B.example", "*.b.example"]),
                "[1] is the same as policy_data.network.blocked_domains[0]",
            ),
            (
                "network",
                "blocked_domains",
                json!(["bücher.example", "xn--bcher-kva.example"]),
                "[1] is the same as policy_data.network.blocked_domains[0]",
            ),
            ("network", "dns_servers", json!(["dns.example"]), "[0] is not an IP address"),
            ("network", "dns_servers", json!(["0.0.0.0"]), "[0] is not the address of a server"),
            (
                "usb",
                "whitelist",
                json!(["046d:c52b", "46d:c52b"]),
                "[1] is not vendor:product in hexadecimal, such as 046d:c52b",
            ),
            ("usb", "whitelist", json!(["046d:c52b", "046D:C52B"]), "[1] is the same as policy_data.usb.whitelist[0]"),
            (
                "usb",
                "allowed_classes",
                json!(["keyboard"]),
                "[0] is not a class of USB devices: audio, cdc, hid, hub, image, mass_storage, network, physical, \
                 printer, smart_card, video, wireless",
            ),
            ("usb", "allowed_classes", json!(["HID", "hid"]), "[1] is the same as policy_data.usb.allowed_classes[0]"),
            ("dlp", "sensitive_data_patterns", json!(["(open"]), "[0] is not a regular expression: unclosed group"),
            ("dlp", "sensitive_data_patterns", json!([long]), "[0] is too large a regular expression once compiled"),
            (
                "applications",
                "blocked_apps",
                json!(["a[b"]),
                "[0] is not a pattern: unclosed character class; missing ']'",
            ),
            ("container", "memory_limit", json!("512"), " is not a size such as 512m or 2g"),
            ("container", "storage_limit", json!("1k"), " must be at least 1m and at most 16t"),
            ("compliance", "min_os_version", json!("v14"), " is not a version of numbers and dots, such as 14.2"),
            ("compliance", "update_required_within", json!("monthly"), " is not a duration such as 12h or 30d"),
            ("compliance", "update_required_within", json!("0d"), " must be at least 1h and at most 3650d"),
        ];
        for (section, setting, value, message) in cases {
            let data = read(&json!({section: {setting: value}}));
            assert_eq!(found(data.check()), [format!("policy_data.{section}.{setting}{message}")]);
        }
    }

    #[test]
    fn a_contradiction_names_both_settings() {
        let cases = [
            (json!({"network": {"vpn_always_on": true}}), "network.vpn_always_on", "network.vpn_required"),
            (
                json!({"network": {"vpn_always_on": true, "vpn_required": false}}),
                "network.vpn_always_on",
                "network.vpn_required",
            ),
            (
                json!({"network": {"allowed_domains": ["a.example"], "blocked_domains": ["b.example", "A.example"]}}),
                "network.allowed_domains[0]",
                "network.blocked_domains[1]",
            ),
            (
                json!({"dlp": {"clipboard_sharing": false, "clipboard_direction": "both"}}),
                "dlp.clipboard_direction",
                "dlp.clipboard_sharing",
            ),
            (json!({"usb": {"allowed": false, "audit_only": true}}), "usb.audit_only", "usb.allowed"),
            (
                json!({"applications": {"required_apps": ["com.acme.mail"], "blocked_apps": ["org.*", "com.acme.*"]}}),
                "applications.required_apps[0]",
                "applications.blocked_apps[1]",
            ),
            (
                json!({"applications": {"required_apps": ["com.*"], "blocked_apps": ["com.*"]}}),
                "applications.required_apps[0]",
                "applications.blocked_apps[0]",
            ),
            (
                json!({"applications": {
                "install_mode": "managed_only", "managed_apps": ["com.acme.*"], "required_apps": ["org.other"]}}),
                "applications.required_apps[0]",
                "applications.managed_apps",
            ),
            (
                json!({"compliance": {"passcode_required": false, "passcode_min_length": 6}}),
                "compliance.passcode_min_length",
                "compliance.passcode_required",
            ),
            (
                json!({"compliance": {"encryption_required": true}, "storage": {"encryption_required": false}}),
                "compliance.encryption_required",
                "storage.encryption_required",
            ),
        ];
        for (data, one, other) in cases {
            let found = found(read(&data).contradictions(false));
            assert_eq!(found.len(), 1, "{data}: {found:?}");
            let start = format!("policy_data.{one} contradicts policy_data.{other}: ");
            assert!(found[0].starts_with(&start), "{}", found[0]);
        }
    }

    #[test]
    fn what_may_be_inherited_is_not_yet_a_contradiction() {
        let open = read(&json!({"network": {"vpn_always_on": true}}));
        assert!(open.contradictions(true).is_empty());
        let closed = read(&json!({"network": {"vpn_always_on": true, "vpn_required": false}}));
        assert_eq!(closed.contradictions(true).len(), 1);
    }

    #[test]
    fn an_answer_names_a_limited_number_of_errors() {
        let names: Vec<String> = (0..1000).map(|at| format!("{at} {at}")).collect();
        let data = read(&json!({"network": {"allowed_domains": names, "blocked_domains": names}}));
        assert_eq!(data.check().len(), MAX_ERRORS);
    }
}
