//! The life of one device, from its enrolment until it is wiped or unenrolled.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::dice::Dice;
use super::line::{Answer, Line};
use super::tally::{Tally, add};

const AGENT: &str = "1.0.0";

/// What all devices of the fleet have in common.
pub struct Habits {
    pub interval: Duration,
    /// Seconds that a check-in waits for a command.
    pub wait: u64,
    /// Percent of commands that fail.
    pub failures: u8,
    /// The enrolment token.
    pub token: String,
    /// Bounds how many try to enrol at a time.
    pub enrolling: Semaphore,
}

struct Device {
    id: String,
    token: String,
    report: Value,
}

pub async fn live(number: u32, seed: u64, line: Arc<Line>, habits: Arc<Habits>, tally: Arc<Tally>) {
    let mut dice = Dice::new(seed, number);
    let Some(device) = enroll(number, seed, &mut dice, &line, &habits, &tally).await else {
        add(&tally.not_enrolled);
        return;
    };
    add(&tally.enrolled);
    // Devices that enrolled together must not check in together for ever after.
    let mut next = Instant::now() + dice.within(habits.interval);
    while device.check_in(&mut dice, &line, &habits, &tally).await {
        tokio::time::sleep_until(next).await;
        next = Instant::now() + habits.interval.mul_f64(0.9) + dice.within(habits.interval.mul_f64(0.2));
    }
}

async fn enroll(
    number: u32,
    seed: u64,
    dice: &mut Dice,
    line: &Line,
    habits: &Habits,
    tally: &Tally,
) -> Option<Device> {
    let (new, report) = describe(number, seed, dice);
    let turn = habits.enrolling.acquire().await.expect("this semaphore is never closed");
    let Answer { status, body } = line.post(dice, "/devices/enroll", &habits.token, &new).await;
    drop(turn);
    match (body["id"].as_str(), body["device_token"].as_str()) {
        (Some(id), Some(token)) if status.is_success() => Some(Device { id: id.into(), token: token.into(), report }),
        _ => {
            tally.refused(status, &body);
            None
        }
    }
}

/// A device to enrol and what it reports at its check-ins.
fn describe(number: u32, seed: u64, dice: &mut Dice) -> (Value, Value) {
    let owner = dice.pick(&["JOHN", "MARIA", "AISHA", "CHEN", "OLGA", "PEDRO", "EMMA", "YUKI", "LARS", "FATIMA"]);
    // A fleet has more laptops than phones, and more of some systems than of others.
    let (platform, kinds, system): (_, &[&str], _) = match dice.below(100) {
        0..40 => ("windows", &["LAPTOP", "DESKTOP"], "11 24H2"),
        40..60 => ("macos", &["MACBOOK"], "15.3"),
        60..75 => ("linux", &["LAPTOP", "WORKSTATION"], "Debian 13"),
        75..90 => ("android", &["PHONE", "TABLET"], "15"),
        _ => ("ios", &["IPHONE", "IPAD"], "18.3"),
    };
    let name = format!("{owner}-{}-{number:04}", dice.pick(kinds));
    let hostname = format!("{}.fleet.example", name.to_lowercase());
    // The seed keeps the serial numbers of two fleets apart.
    let serial = format!("SIM-{seed:X}-{number:05}");
    let new = json!({
        "device_name": name, "platform": platform, "agent_version": AGENT,
        "os_version": system, "serial_number": serial, "hostname": hostname,
    });
    let report = json!({
        "agent_version": AGENT, "os_version": system, "serial_number": serial, "hostname": hostname,
        "posture": {
            "disk_encrypted": !dice.percent(5), "passcode_set": !dice.percent(3),
            "passcode_length": 4 + dice.below(9), "jailbroken": dice.percent(1),
        },
    });
    (new, report)
}

impl Device {
    /// Whether to go on: a wiped device and one whose token is no longer good have nothing more to say.
    async fn check_in(&self, dice: &mut Dice, line: &Line, habits: &Habits, tally: &Tally) -> bool {
        let path = format!("/devices/{}/checkin?wait={}", self.id, habits.wait);
        let Answer { status, body } = line.post(dice, &path, &self.token, &self.report).await;
        match status {
            StatusCode::OK => add(&tally.check_ins),
            StatusCode::FORBIDDEN => {
                add(&tally.wiped);
                return false;
            }
            StatusCode::UNAUTHORIZED => {
                add(&tally.disowned);
                return false;
            }
            _ => tally.refused(status, &body),
        }
        for command in body["commands"].as_array().into_iter().flatten() {
            self.carry_out(command, dice, line, habits, tally).await;
        }
        true
    }

    async fn carry_out(&self, command: &Value, dice: &mut Dice, line: &Line, habits: &Habits, tally: &Tally) {
        let (Some(id), Some(kind)) = (command["id"].as_str(), command["type"].as_str()) else {
            return tally.error("a command that cannot be read");
        };
        let reason = match kind {
            "wipe" | "lock" | "unlock" if !dice.percent(habits.failures) => None,
            "wipe" => Some("the work profile is in use"),
            "lock" => Some("the screen lock did not answer"),
            "unlock" => Some("the device is waiting for its passcode"),
            _ => Some("this agent does not know the command"),
        };
        let result = match reason {
            None => json!({"status": "succeeded"}),
            Some(reason) => json!({"status": "failed", "reason": reason}),
        };
        let path = format!("/devices/{}/commands/{id}/result", self.id);
        let Answer { status, body } = line.post(dice, &path, &self.token, &result).await;
        match (status, reason) {
            (StatusCode::OK, None) => add(&tally.succeeded),
            (StatusCode::OK, Some(_)) => add(&tally.failed),
            // The appliance hands the command out again at the next check-in, where it still wants it done.
            _ => tally.refused(status, &body),
        }
    }
}
