//! Whether a device is as its policies require.
//!
//! What a device reports is packed into a few bytes, so that a whole fleet can be judged without reading a table, and
//! there is one way to judge: for the lists, for the device's own page, for the audit log, for a preview.

use std::time::Duration;

use serde_json::Value;

use crate::clock::Time;
use crate::model::device::{Compliance, Device, Posture};
use crate::model::policy::units;

/// What the policies in force require of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    encryption: Option<&'static str>,
    passcode: bool,
    passcode_length: u16,
    no_jailbreak: bool,
    os_version: Option<(OsVersion, String)>,
    updated_within: Option<Duration>,
}

impl Requirements {
    pub(super) fn of<'a>(setting: impl Fn(&str) -> Option<&'a Value>) -> Self {
        let is_set = |path: &str| setting(path).and_then(Value::as_bool).unwrap_or(false);
        let text = |path: &str| setting(path).and_then(Value::as_str);
        let encryption = ["compliance.encryption_required", "storage.encryption_required"];
        let length = setting("compliance.passcode_min_length").and_then(Value::as_u64).unwrap_or(0);
        Self {
            encryption: encryption.into_iter().find(|path| is_set(path)),
            passcode: is_set("compliance.passcode_required"),
            passcode_length: u16::try_from(length).unwrap_or(u16::MAX - 1),
            no_jailbreak: is_set("compliance.jailbreak_detection"),
            os_version: text("compliance.min_os_version")
                .and_then(|text| OsVersion::parse(text).map(|version| (version, text.to_owned()))),
            updated_within: text("compliance.update_required_within").and_then(units::duration),
        }
    }

    /// Nothing is required.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was true may become false by nothing but time.
    pub fn depends_on_time(&self) -> bool {
        self.updated_within.is_some()
    }

    /// `unknown` when nothing is required, or when the device has not reported what is.
    pub fn judge(&self, report: Report, now: Time) -> Compliance {
        let mut verdict = if self.is_empty() { Compliance::Unknown } else { Compliance::Compliant };
        self.each(report, now, |_, met| match met {
            Some(true) => {}
            Some(false) => verdict = Compliance::NonCompliant,
            None if verdict == Compliance::Compliant => verdict = Compliance::Unknown,
            None => {}
        });
        verdict
    }

    /// What is wrong, or has not been reported, in words.
    pub fn reasons(&self, report: Report, now: Time) -> Vec<String> {
        let mut violations = Vec::new();
        let mut gaps = Vec::new();
        self.each(report, now, |requirement, met| match met {
            Some(true) => {}
            Some(false) => violations.push(requirement.violation(self, report)),
            None => gaps.push(format!("{} has not been reported", requirement.subject())),
        });
        if violations.is_empty() { gaps } else { violations }
    }

    /// Calls `visit` with each requirement and whether it is met; `None` when the device has not said.
    fn each(&self, report: Report, now: Time, mut visit: impl FnMut(Requirement, Option<bool>)) {
        if let Some(setting) = self.encryption {
            visit(Requirement::Encryption(setting), report.encrypted());
        }
        if self.passcode {
            visit(Requirement::Passcode, report.passcode());
        }
        if self.passcode_length > 0 {
            let long_enough = report.passcode_length().map(|length| length >= self.passcode_length);
            // Without a passcode there is no length to report.
            let long_enough = if report.passcode() == Some(false) { Some(false) } else { long_enough };
            visit(Requirement::PasscodeLength, long_enough);
        }
        if self.no_jailbreak {
            visit(Requirement::NoJailbreak, report.jailbroken().map(|jailbroken| !jailbroken));
        }
        if let Some((least, _)) = &self.os_version {
            visit(Requirement::OsVersion, report.os_version().map(|version| version >= *least));
        }
        if let Some(within) = self.updated_within {
            visit(Requirement::Updated, report.last_update().map(|updated| now.since(updated) <= within));
        }
    }
}

#[derive(Clone, Copy)]
enum Requirement {
    Encryption(&'static str),
    Passcode,
    PasscodeLength,
    NoJailbreak,
    OsVersion,
    Updated,
}

impl Requirement {
    const fn subject(self) -> &'static str {
        match self {
            Self::Encryption(_) => "disk encryption",
            Self::Passcode => "the passcode",
            Self::PasscodeLength => "the passcode's length",
            Self::NoJailbreak => "jailbreak detection",
            Self::OsVersion => "the version of the operating system",
            Self::Updated => "the last update",
        }
    }

    fn violation(self, required: &Requirements, report: Report) -> String {
        match self {
            Self::Encryption(setting) => format!("the disk is not encrypted ({setting})"),
            Self::Passcode => "no passcode is set (compliance.passcode_required)".into(),
            Self::PasscodeLength => format!(
                "the passcode has {} characters, {} are required (compliance.passcode_min_length)",
                report.passcode_length().unwrap_or(0),
                required.passcode_length
            ),
            Self::NoJailbreak => "the device is jailbroken (compliance.jailbreak_detection)".into(),
            Self::OsVersion => {
                let least = required.os_version.as_ref().map_or("", |(_, text)| text);
                format!("the operating system is older than {least} (compliance.min_os_version)")
            }
            Self::Updated => {
                let updated = report.last_update().map(|time| time.to_string()).unwrap_or_default();
                format!("the last update was at {updated} (compliance.update_required_within)")
            }
        }
    }
}

/// A version as up to four numbers; what follows the first text that is none is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OsVersion(u64);

impl OsVersion {
    /// Reads the first number of the text and those that follow it after dots: `Ubuntu 24.04 LTS` is 24.4.
    pub fn parse(text: &str) -> Option<Self> {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let numbers = text[start..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut parts = numbers.split('.').map(|part| part.parse::<u16>().unwrap_or(u16::MAX));
        let packed = (0..4).fold(0, |packed, _| packed << 16 | u64::from(parts.next().unwrap_or(0)));
        (packed > 0).then_some(Self(packed))
    }
}

/// What judging takes of a device, in 16 bytes; members that it has not reported are unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// 0 when unknown.
    os_version: u64,
    /// Unix seconds; 0 when unknown.
    last_update: u32,
    /// The length and 1; 0 when unknown.
    passcode_length: u16,
    /// Two bits a member: whether it is known, and its value.
    flags: u8,
    /// What the audit log was last told, as a place in [`Compliance::ALL`].
    recorded: u8,
}

impl Report {
    pub fn of(device: &Device) -> Self {
        Self::new(device.os_version.as_deref(), device.posture.as_ref(), device.compliance)
    }

    /// `recorded` is the compliance that the device's row has.
    pub fn new(os_version: Option<&str>, posture: Option<&Posture>, recorded: Compliance) -> Self {
        let flag = |at: u8, value: Option<bool>| value.map_or(0, |value| (1 | u8::from(value) << 1) << (2 * at));
        let version = os_version.and_then(OsVersion::parse).unwrap_or_default();
        let mut report = Self { os_version: version.0, ..Self::default() };
        if let Some(posture) = posture {
            report.last_update =
                posture.last_update_at.map_or(0, |time| u32::try_from(time.unix()).unwrap_or(u32::MAX).max(1));
            let length = posture.passcode_length.map(|length| u16::try_from(length).unwrap_or(u16::MAX - 1));
            report.passcode_length = length.map_or(0, |length| length.saturating_add(1));
            report.flags =
                flag(0, posture.disk_encrypted) | flag(1, posture.passcode_set) | flag(2, posture.jailbroken);
        }
        let recorded = Compliance::ALL.iter().position(|one| *one == recorded);
        report.recorded = recorded.and_then(|place| u8::try_from(place).ok()).unwrap_or_default();
        report
    }

    /// The compliance that the device's row and the audit log have.
    pub fn recorded(self) -> Compliance {
        Compliance::ALL.get(usize::from(self.recorded)).copied().unwrap_or(Compliance::Unknown)
    }

    const fn flag(self, at: u8) -> Option<bool> {
        let bits = self.flags >> (2 * at);
        if bits & 1 == 0 { None } else { Some(bits & 2 != 0) }
    }

    const fn encrypted(self) -> Option<bool> {
        self.flag(0)
    }

    const fn passcode(self) -> Option<bool> {
        self.flag(1)
    }

    const fn jailbroken(self) -> Option<bool> {
        self.flag(2)
    }

    fn passcode_length(self) -> Option<u16> {
        self.passcode_length.checked_sub(1)
    }

    fn os_version(self) -> Option<OsVersion> {
        (self.os_version > 0).then_some(OsVersion(self.os_version))
    }

    fn last_update(self) -> Option<Time> {
        (self.last_update > 0).then(|| Time::from_unix(self.last_update.into()))
    }
}
