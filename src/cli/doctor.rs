//! `zero doctor`

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{DataDir, Settings, print};
use crate::app;
use crate::config::Flags;
use crate::domain::diagnosis::{Finding, Severity, worst};

/// Look at everything that goes wrong over the years
///
/// Disk space, permissions, clock, certificate and its names, port, what may leave, database, audit logs, last proven
/// backup, what is written to flash, mistakes in the settings: each finding with what to do about it. Works with the server running, which
/// it asks, and stopped: then every page of the data file is verified. It changes nothing.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes, for monitoring: 0 all is well, 1 there are warnings, 2 there are errors.

Examples:
  zero doctor --data-dir /var/lib/zero
  zero doctor --data-dir /var/lib/zero --json")]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    /// The worst of the findings.
    severity: Severity,
    findings: &'a [Finding],
}

impl Doctor {
    pub fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir.clone(), ..Flags::default() };
        let findings = findings(&self.settings, flags);
        let severity = worst(&findings);
        let text = if self.json { json(severity, &findings) } else { lines(&findings) };
        let printed = print(&text);
        match severity {
            Severity::Error => ExitCode::from(2),
            Severity::Warning => ExitCode::from(1),
            Severity::Ok | Severity::Info => printed,
        }
    }
}

/// What is found with these settings; mistakes in them are findings too, and end it.
pub(super) fn findings(settings: &Settings, flags: Flags) -> Vec<Finding> {
    match settings.read(flags) {
        Ok(loaded) => app::examine(&loaded.config),
        Err(mistakes) => vec![Finding {
            check: "config",
            severity: Severity::Error,
            message: mistakes.to_string(),
            remedy: Some("Correct the settings; zero check-config shows what is in force.".into()),
        }],
    }
}

pub(super) fn json(severity: Severity, findings: &[Finding]) -> String {
    let report = Report { version: env!("CARGO_PKG_VERSION"), severity, findings };
    let text = serde_json::to_string_pretty(&report).expect("plain text is written as JSON");
    text + "\n"
}

fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let sign = match finding.severity {
            Severity::Ok => "ok     ",
            Severity::Info => "info   ",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR  ",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{sign} {}: {}", finding.check, finding.message);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "        {remedy}");
        }
    }
    text
}
