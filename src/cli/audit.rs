//! `zero audit`

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{DataDir, FAILED, Settings, WRONG_USAGE, fail, print};
use crate::app::{self, Examined};
use crate::config::Flags;

/// Prove what the audit log says, with no server
///
/// The entries of an audit log are chained by their hashes, so that an edited, removed, moved or missing one is found. This
/// looks at the data of a stopped appliance, at a copy of its data file, or at an export, and writes to none of them.
#[derive(Args)]
#[command(after_long_help = "Example:\n  zero audit verify --data-dir /var/lib/zero")]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(Verify),
}

/// Check every hash, and say which entry is the first that is not as it was written
///
/// Checks the logs of all organizations in the data directory of a stopped appliance, or those in FILE: a copy of its data
/// file, or an export (GET /api/v1/audit-logs/export?format=ndjson, without filters but for times).
///
/// Whoever owns the machine can compute a whole chain anew. A checkpoint that was kept elsewhere shows it: with
/// --checkpoint, the log must have the hash that the checkpoint names.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes: 0 all is as it was written, 1 something is not or cannot be read, 2 the command line is wrong.

Examples:
  zero audit verify --data-dir /var/lib/zero
  zero audit verify audit-log.ndjson --checkpoint checkpoint.json --key 3b6a27bcceb6a42d62a3a8d02a6f0d73...")]
struct Verify {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data_dir: DataDir,
    /// An export or a copy of the data file, instead of the data directory
    #[arg(value_name = "FILE", conflicts_with = "data_dir")]
    file: Option<PathBuf>,
    /// A checkpoint kept elsewhere, or a page of them, as the API gives them out
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The public key that checkpoints are signed with, 64 hexadecimal digits; otherwise that of the data
    #[arg(long, value_name = "KEY", requires = "checkpoint")]
    key: Option<String>,
}

impl Audit {
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Verify(command) => command.run(),
        }
    }
}

impl Verify {
    fn run(self) -> ExitCode {
        let flags = Flags { data_dir: self.data_dir.data_dir, ..Flags::default() };
        let config = match self.settings.load(flags) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let key = self.key.as_deref().map(|text| crate::model::hex::Hex::parse(text).filter(|key| key.0.len() == 32));
        let key = match key {
            Some(None) => return fail(WRONG_USAGE, &"--key takes 64 hexadecimal digits"),
            key => key.flatten().map(|key| key.0),
        };
        let is_signed = key.is_some();
        match app::verify_audit(&config, self.file.as_deref(), self.checkpoint.as_deref(), key) {
            Ok(examined) => report(&examined, is_signed),
            Err(error) => fail(FAILED, &format_args!("cannot verify: {error}")),
        }
    }
}

fn report(examined: &Examined, key_was_given: bool) -> ExitCode {
    let mut text = String::new();
    let mut is_valid = true;
    for proof in &examined.proofs {
        let verdict = &proof.verdict;
        let of = proof.name.iter().fold(proof.organization.to_string(), |id, name| format!("{name} ({id})"));
        let entries = match verdict.entries {
            0 => "no entries".into(),
            count => format!("{count} entries, {} to {}", proof.first, verdict.head.seq),
        };
        let head: String = verdict.head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        // Writing to a string does not fail.
        let _ = match &verdict.first_broken {
            None => writeln!(text, "{of}: valid: {entries}, head {head}"),
            Some(broken) => {
                is_valid = false;
                writeln!(text, "{of}: BROKEN at entry {}: {}; good before it: {entries}", broken.seq, broken.reason)
            }
        };
        if proof.agreed > 0 {
            let signed =
                if examined.key.is_some() || key_was_given { "signed" } else { "signature not checked: no --key" };
            let _ = writeln!(text, "  checkpoints kept elsewhere that agree: {} ({signed})", proof.agreed);
        }
    }
    if let Some(key) = &examined.key {
        let _ = writeln!(text, "checkpoints of this appliance are signed with the Ed25519 key {key}");
    }
    match print(&text) {
        done if is_valid => done,
        _ => ExitCode::from(FAILED),
    }
}
