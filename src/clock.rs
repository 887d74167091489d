//! Time, injected. Nothing below `app` asks the operating system what time it is.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in whole seconds since the Unix epoch, UTC.
///
/// In JSON it is RFC 3339 (`2026-02-12T10:30:00Z`); in stored records it is a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    pub const fn unix(self) -> i64 {
        self.0
    }

    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 with any offset; fractions of a second are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_second()))
    }

    /// RFC 3339, for the years that it can tell. A page of a list has a hundred times, so they are written digit by
    /// digit.
    fn rfc3339(self) -> Option<[u8; 20]> {
        let time = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_second(self.0).ok()?);
        let year = u16::try_from(time.year()).ok()?;
        let (century, of_century) = ((year / 100) as u8, (year % 100) as u8);
        let date = [(0, century), (2, of_century), (5, time.month() as u8), (8, time.day() as u8)];
        let clock = [(11, time.hour() as u8), (14, time.minute() as u8), (17, time.second() as u8)];
        let mut text = *b"0000-00-00T00:00:00Z";
        for (place, number) in date.into_iter().chain(clock) {
            text[place] += number / 10;
            text[place + 1] += number % 10;
        }
        Some(text)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rfc3339().as_ref().and_then(|text| std::str::from_utf8(text).ok()) {
            Some(text) => f.write_str(text),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_i64(self.0);
        }
        match self.rfc3339().as_ref().and_then(|text| std::str::from_utf8(text).ok()) {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse(&text).ok_or_else(|| de::Error::custom("is not an RFC 3339 time"))
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Where the appliance gets the time from.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. Follows the machine's clock, which may be set forwards and backwards.
    fn now_ms(&self) -> i64;

    /// How long the appliance has been running; never goes back.
    fn uptime(&self) -> Duration;

    fn now(&self) -> Time {
        Time(self.now_ms().div_euclid(1000))
    }
}

/// The machine's clock above a floor: the latest time this appliance is known to have lived through.
///
/// A Raspberry Pi without a battery wakes in 1970. Until its clock has been set, time goes on from the floor, so
/// that expired tokens stay expired and the fleet does not go offline all at once.
pub struct SystemClock {
    started: Instant,
    floor_ms: AtomicI64,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { started: Instant::now(), floor_ms: AtomicI64::new(0) }
    }

    /// Time is never earlier than `floor` plus what has passed since this process started.
    pub fn raise_floor(&self, floor: Time) {
        self.floor_ms.fetch_max(floor.unix().saturating_mul(1000), Ordering::Relaxed);
    }

    fn machine_ms() -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let up = i64::try_from(self.uptime().as_millis()).unwrap_or(i64::MAX);
        Self::machine_ms().max(self.floor_ms.load(Ordering::Relaxed).saturating_add(up))
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves only when told to, for tests.
pub struct ManualClock {
    started: Time,
    up: Mutex<Duration>,
    /// How far it was set ahead, in milliseconds.
    ahead_ms: AtomicI64,
}

impl ManualClock {
    pub fn at(time: Time) -> Self {
        Self { started: time, up: Mutex::new(Duration::ZERO), ahead_ms: AtomicI64::new(0) }
    }

    /// Sets it ahead, or back, while no time passes.
    pub fn jump(&self, seconds: i64) {
        self.ahead_ms.fetch_add(seconds.saturating_mul(1000), Ordering::Relaxed);
    }

    pub fn advance(&self, span: Duration) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) += span;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        let up = i64::try_from(self.uptime().as_millis()).unwrap_or(i64::MAX);
        self.started.unix() * 1000 + up + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn uptime(&self) -> Duration {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_written_as_rfc_3339_has_it(seconds in -62_167_219_200..253_402_207_200_i64) {
            let expected = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            prop_assert_eq!(Time(seconds).to_string(), expected.clone());
            prop_assert_eq!(serde_json::to_value(Time(seconds)).unwrap(), expected);
        }
    }
}
