//! Settings of a policy that cannot hold together.

use std::collections::HashMap;

use super::check::{Findings, apps, domain};
use crate::error::FieldError;
use crate::model::policy::{ClipboardDirection, InstallMode, PolicyData};

impl PolicyData {
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
            let blocked = by_meaning(&network.blocked_domains);
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
        if applications.required_apps.is_none() {
            return;
        }
        // What does not compile is named by `check`.
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

impl Findings {
    fn contradiction(&mut self, one: &str, other: &str, why: &str) {
        self.add(one, format!("contradicts policy_data.{other}: {why}"));
    }
}

/// The domains in the form in which they compare, each with its place.
fn by_meaning(domains: &Option<Vec<String>>) -> HashMap<String, usize> {
    domains.iter().flatten().enumerate().filter_map(|(at, name)| Some((domain(name).ok()?, at))).collect()
}

#[cfg(test)]
mod tests;
