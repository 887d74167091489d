//! The settings of a policy. The doc comments are the help texts of the form that is made from the schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::named_values;

named_values! {
    pub enum ClipboardDirection {
        None = "none",
        WorkToPersonal = "work_to_personal",
        PersonalToWork = "personal_to_work",
        Both = "both",
    }
}

named_values! {
    pub enum InstallMode {
        Any = "any",
        ManagedOnly = "managed_only",
    }
}

/// Structs whose every member may be left unset, and which lie over each other member by member.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $member:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$attribute])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $member: Option<$type>,)+
        }

        impl Over for $name {
            fn over(self, base: Self) -> Self {
                Self { $($member: Over::over(self.$member, base.$member),)+ }
            }
        }

        impl Over for Option<$name> {
            fn over(self, base: Self) -> Self {
                match (self, base) {
                    (Some(own), Some(base)) => Some(own.over(base)),
                    (own, base) => own.or(base),
                }
            }
        }
    )+};
}

/// What holds when one thing lies over another: what is not set in it, is as it is below.
pub trait Over {
    fn over(self, base: Self) -> Self;
}

/// A single setting is taken whole.
macro_rules! whole {
    ($($type:ty),+) => {$(
        impl Over for Option<$type> {
            fn over(self, base: Self) -> Self {
                self.or(base)
            }
        }
    )+};
}

whole!(bool, u32, f64, String, Vec<String>, ClipboardDirection, InstallMode);

settings! {
    /// What is asked of devices. What is not set, is left to the device.
    PolicyData {
        dlp: DlpSettings,
        network: NetworkSettings,
        usb: UsbSettings,
        storage: StorageSettings,
        container: ContainerSettings,
        applications: ApplicationSettings,
        compliance: ComplianceSettings,
    }

    /// What may leave the work profile.
    DlpSettings {
        /// Whether text and files can be copied between work and personal apps.
        clipboard_sharing: bool,
        /// Which way the clipboard is shared.
        clipboard_direction: ClipboardDirection,
        /// Whether screenshots of work apps can be taken.
        screenshot_allowed: bool,
        /// Whether work documents can be printed.
        print_allowed: bool,
        /// Whether work apps show a watermark with the user's name.
        watermark: bool,
        /// Regular expressions for what must not leave the work profile, such as `\b\d{16}\b`. At most 50.
        #[schemars(length(max = 50), inner(length(min = 1, max = 1000)))]
        sensitive_data_patterns: Vec<String>,
    }

    /// How the work profile reaches the network.
    NetworkSettings {
        /// Whether work apps have no network without the VPN.
        vpn_required: bool,
        /// Whether the VPN is kept up all the time. Needs `vpn_required`.
        vpn_always_on: bool,
        /// Whether traffic to other than the organization's networks goes around the VPN.
        split_tunnel: bool,
        /// The only domains that work apps may reach; `*.` at the start stands for all below.
        #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
        allowed_domains: Vec<String>,
        /// Domains that work apps may not reach; `*.` at the start stands for all below.
        #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
        blocked_domains: Vec<String>,
        /// Addresses of the DNS servers to ask, the first one first.
        #[schemars(length(max = 16), inner(length(min = 1, max = 45)))]
        dns_servers: Vec<String>,
        /// Whether names of known harmful domains are not resolved.
        dns_filtering: bool,
    }

    /// Which USB devices can be used.
    UsbSettings {
        /// Whether USB devices can be used at all, beside those on the whitelist.
        allowed: bool,
        /// Devices that are always allowed, as vendor:product in hexadecimal, such as `046d:c52b`.
        #[schemars(length(max = 1000), inner(length(min = 1, max = 16)))]
        whitelist: Vec<String>,
        /// The only classes of devices that are allowed: audio, cdc, hid, hub, mass_storage, network, physical, image,
        /// printer, smart_card, video, wireless; in whatever case.
        #[schemars(length(max = 32), inner(length(min = 1, max = 32)))]
        allowed_classes: Vec<String>,
        /// Whether use is only noted and not prevented.
        audit_only: bool,
    }

    /// How the work profile's data is stored.
    StorageSettings {
        /// Whether the work profile's storage must be encrypted.
        encryption_required: bool,
        /// Whether work data may be written to removable storage.
        external_storage_allowed: bool,
        /// Whether work data may be synchronized with cloud services.
        cloud_sync_allowed: bool,
    }

    /// What the container of the work profile gets.
    ContainerSettings {
        /// Memory, such as `512m` or `2g`; at least 1m, at most 16t.
        #[schemars(length(min = 2, max = 16))]
        memory_limit: String,
        /// Processors, such as 1.5.
        #[schemars(range(min = 0.01, max = 1024.0))]
        cpu_limit: f64,
        /// Storage, such as `20g`; at least 1m, at most 16t.
        #[schemars(length(min = 2, max = 16))]
        storage_limit: String,
        /// Whether the container has a network of its own.
        network_isolation: bool,
        /// Whether the container runs without any of the machine's privileges.
        unprivileged: bool,
    }

    /// Which apps the work profile may have. Apps are named by patterns, in which `*` stands for anything:
    /// `com.acme.*`.
    ApplicationSettings {
        /// Whether any app can be installed, or managed ones only.
        install_mode: InstallMode,
        /// The managed apps.
        #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
        managed_apps: Vec<String>,
        /// Apps that cannot be installed.
        #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
        blocked_apps: Vec<String>,
        /// Apps that must be installed.
        #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
        required_apps: Vec<String>,
    }

    /// What a device must report to count as compliant.
    ComplianceSettings {
        /// Whether the disk must be encrypted.
        encryption_required: bool,
        /// Whether a passcode must be set.
        passcode_required: bool,
        /// The fewest characters of a passcode.
        #[schemars(range(min = 1, max = 128))]
        passcode_min_length: u32,
        /// Whether a jailbroken or rooted device is not compliant.
        jailbreak_detection: bool,
        /// The oldest version of the operating system, as numbers between dots, such as `14.2`.
        #[schemars(length(min = 1, max = 64))]
        min_os_version: String,
        /// How long ago the last update may be, in hours or days, such as `12h` or `30d`; at most 3650d.
        #[schemars(length(min = 2, max = 8))]
        update_required_within: String,
    }
}
