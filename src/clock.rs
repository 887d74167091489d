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
/// that expired tokens stay expired and the fleet does not go offline all at once. The same holds for a clock that is
/// years ahead while nothing keeps it: believed once, it would be the floor for good.
pub struct SystemClock {
    started: Instant,
    floor_ms: AtomicI64,
    /// How far above the floor the machine is believed by itself.
    leap_ms: AtomicI64,
    machine_ms: fn() -> i64,
    is_kept: fn() -> bool,
}

/// From here on a clock that is ahead needs somebody to vouch for it: longer than most machines are ever off.
pub const LEAP: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl SystemClock {
    pub fn new() -> Self {
        Self::of(machine_ms, is_kept)
    }

    fn of(machine_ms: fn() -> i64, is_kept: fn() -> bool) -> Self {
        let (floor_ms, leap_ms) = (AtomicI64::new(0), AtomicI64::new(LEAP.as_millis() as i64));
        Self { started: Instant::now(), floor_ms, leap_ms, machine_ms, is_kept }
    }

    /// Time is never earlier than `floor` plus what has passed since this process started.
    pub fn raise_floor(&self, floor: Time) {
        self.floor_ms.fetch_max(floor.unix().saturating_mul(1000), Ordering::Relaxed);
    }

    /// Believes the machine, however far ahead it is.
    pub fn trust(&self) {
        self.leap_ms.store(i64::MAX, Ordering::Relaxed);
    }

    /// What the machine says, when it is not believed.
    pub fn doubted(&self) -> Option<Time> {
        let machine = Time((self.machine_ms)().div_euclid(1000));
        (machine.since(self.now()) > Duration::from_secs(60)).then_some(machine)
    }
}

fn machine_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the kernel says that something (NTP) keeps the machine's clock right.
pub fn is_kept() -> bool {
    // SAFETY: a timex of zeros is one that asks and changes nothing, and the call writes only to it.
    let (state, asked) = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut asked), asked)
    };
    state >= 0 && state != libc::TIME_ERROR && asked.status & libc::STA_UNSYNC == 0
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let up = i64::try_from(self.uptime().as_millis()).unwrap_or(i64::MAX);
        let floor = self.floor_ms.load(Ordering::Relaxed);
        let (machine, least) = ((self.machine_ms)(), floor.saturating_add(up));
        // Before anything is known of the past, the machine is all there is.
        let is_ahead = floor > 0 && machine.saturating_sub(least) > self.leap_ms.load(Ordering::Relaxed);
        if is_ahead && !(self.is_kept)() { least } else { machine.max(least) }
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

    const NOW: i64 = 1_800_000_000;
    const YEAR: i64 = 366 * 86_400;

    /// What a clock shows on a machine that shows `NOW`, when the appliance has lived until `floor`.
    fn shown(floor: i64, is_kept: fn() -> bool) -> (i64, Option<Time>) {
        let clock = SystemClock::of(|| NOW * 1000, is_kept);
        clock.raise_floor(Time(floor));
        (clock.now().unix(), clock.doubted())
    }

    /// It would be the floor for ever: once corrected, everything would lie in the past.
    #[test]
    fn a_clock_years_ahead_is_believed_only_when_somebody_vouches_for_it() {
        assert_eq!(shown(0, || false), (NOW, None), "there is no past yet");
        assert_eq!(shown(NOW - YEAR + 10, || false), (NOW, None), "it was off for a long time");
        assert_eq!(shown(NOW - 2 * YEAR, || false), (NOW - 2 * YEAR, Some(Time(NOW))));
        assert_eq!(shown(NOW - 2 * YEAR, || true), (NOW, None), "NTP keeps it");
        assert_eq!(shown(NOW + YEAR, || true), (NOW + YEAR, None), "it never goes back");
        let clock = SystemClock::of(|| NOW * 1000, || false);
        clock.raise_floor(Time(NOW - 20 * YEAR));
        clock.trust();
        assert_eq!((clock.now().unix(), clock.doubted()), (NOW, None));
    }

    proptest! {
        #[test]
        fn a_time_is_written_as_rfc_3339_has_it(seconds in -62_167_219_200..253_402_207_200_i64) {
            let expected = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            prop_assert_eq!(Time(seconds).to_string(), expected.clone());
            prop_assert_eq!(serde_json::to_value(Time(seconds)).unwrap(), expected);
        }
    }
}
