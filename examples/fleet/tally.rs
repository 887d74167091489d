//! What has happened so far.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

#[derive(Default)]
pub struct Tally {
    pub enrolled: AtomicU64,
    pub not_enrolled: AtomicU64,
    pub check_ins: AtomicU64,
    /// Commands that a device said it had carried out.
    pub succeeded: AtomicU64,
    /// Commands that a device said it could not carry out.
    pub failed: AtomicU64,
    /// Devices that ended because they had been wiped.
    pub wiped: AtomicU64,
    /// Devices that ended because their token was no longer good: unenrolled, or marked as wiped by force.
    pub disowned: AtomicU64,
    /// Connections dropped on purpose before the answer.
    pub dropped: AtomicU64,
    /// Answers that asked for patience (`Retry-After`).
    pub waited: AtomicU64,
    /// Count and first message by status or kind of failure.
    errors: Mutex<BTreeMap<String, (u64, String)>>,
}

pub fn add(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}

impl Tally {
    pub fn error(&self, kind: &str) {
        self.count(kind.to_owned(), String::new());
    }

    /// An answer that was not the one hoped for.
    pub fn refused(&self, status: StatusCode, body: &Value) {
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        self.count(status.as_u16().to_string(), format!("{}: {}", text("message"), text("details")));
    }

    fn count(&self, kind: String, message: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.entry(kind).or_insert((0, message)).0 += 1;
    }

    /// Whether each device has enrolled or been refused.
    pub fn settled(&self, devices: u32) -> bool {
        self.enrolled.load(Relaxed) + self.not_enrolled.load(Relaxed) >= devices.into()
    }

    pub fn progress(&self, devices: u32, elapsed: Duration) -> String {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let errors: u64 = errors.values().map(|(count, _)| count).sum();
        format!(
            "{:>5} s  enrolled {}/{devices}  check-ins {}  commands {}  ended {}  told to wait {}  errors {errors}",
            elapsed.as_secs(),
            self.enrolled.load(Relaxed),
            self.check_ins.load(Relaxed),
            self.succeeded.load(Relaxed) + self.failed.load(Relaxed),
            self.wiped.load(Relaxed) + self.disowned.load(Relaxed),
            self.waited.load(Relaxed),
        )
    }

    pub fn summary(&self, elapsed: Duration) -> String {
        let mut text = format!("after {:.1} s\n", elapsed.as_secs_f64());
        let mut line = |what: &str, count: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {what:<28}{count:>8}");
        };
        line("enrolled", &self.enrolled.load(Relaxed));
        line("not enrolled", &self.not_enrolled.load(Relaxed));
        line("check-ins", &self.check_ins.load(Relaxed));
        line("commands succeeded", &self.succeeded.load(Relaxed));
        line("commands failed", &self.failed.load(Relaxed));
        line("ended: wiped", &self.wiped.load(Relaxed));
        line("ended: token refused", &self.disowned.load(Relaxed));
        line("connections dropped", &self.dropped.load(Relaxed));
        line("told to wait (Retry-After)", &self.waited.load(Relaxed));
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.is_empty() {
            line("errors", &0);
        }
        for (kind, (count, message)) in errors.iter() {
            line(&format!("error {kind}"), &format!("{count:>8}  {message}").trim_end());
        }
        text.trim_end().to_owned()
    }
}
