//! The kinds of values that settings have: how each is read, bounded and printed.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::layers::Given;
use super::{DAY, HOUR, MIB};

pub(super) mod text;

/// A kind of value, with its bounds.
pub(super) trait Kind {
    type Value;

    /// The value, or what is wrong as the rest of a sentence that starts with the key.
    fn read(&self, given: &Given) -> Result<Self::Value, String>;

    /// The value as `read` takes it from a file.
    fn write(&self, value: &Self::Value) -> toml::Value;
}

/// A whole number in a unit.
pub(super) struct Number<T> {
    range: RangeInclusive<u64>,
    /// What is counted, for messages: `whole number of seconds`.
    what: &'static str,
    into: fn(u64) -> Option<T>,
    from: fn(&T) -> u64,
}

impl<T> Kind for Number<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        let number = match given {
            Given::Integer { value, .. } => *value,
            Given::Variable(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(|number| self.range.contains(number)).and_then(self.into).ok_or_else(|| {
            format!("must be a {} from {} to {}, not {given}", self.what, self.range.start(), self.range.end())
        })
    }

    fn write(&self, value: &T) -> toml::Value {
        toml::Value::Integer(i64::try_from((self.from)(value)).unwrap_or(i64::MAX))
    }
}

pub(super) fn count(range: RangeInclusive<u64>) -> Number<u32> {
    Number { range, what: "whole number", into: |n| u32::try_from(n).ok(), from: |n| u64::from(*n) }
}

pub(super) fn per_minute() -> Number<NonZeroU32> {
    Number {
        range: 1..=10_000_000,
        what: "whole number of requests a minute",
        into: |n| u32::try_from(n).ok().and_then(NonZeroU32::new),
        from: |n| u64::from(n.get()),
    }
}

pub(super) fn seconds(range: RangeInclusive<u64>) -> Number<Duration> {
    Number {
        range,
        what: "whole number of seconds",
        into: |n| Some(Duration::from_secs(n)),
        from: |span| span.as_secs(),
    }
}

pub(super) fn hours(range: RangeInclusive<u64>) -> Number<Duration> {
    Number {
        range,
        what: "whole number of hours",
        into: |n| n.checked_mul(HOUR).map(Duration::from_secs),
        from: |span| span.as_secs() / HOUR,
    }
}

pub(super) fn days(range: RangeInclusive<u64>) -> Number<Duration> {
    Number {
        range,
        what: "whole number of days",
        into: |n| n.checked_mul(DAY).map(Duration::from_secs),
        from: |span| span.as_secs() / DAY,
    }
}

/// Read in MiB, held in bytes.
pub(super) fn mebibytes(range: RangeInclusive<u64>) -> Number<u64> {
    Number { range, what: "whole number of MiB", into: |n| n.checked_mul(MIB), from: |bytes| bytes / MIB }
}

/// `true` or `false`.
pub(super) struct Switch;

pub(super) fn switch() -> Switch {
    Switch
}

impl Kind for Switch {
    type Value = bool;

    fn read(&self, given: &Given) -> Result<bool, String> {
        let value = match given {
            Given::Boolean(value) => Some(*value),
            Given::Variable(text) => text.parse().ok(),
            _ => None,
        };
        value.ok_or_else(|| format!("must be true or false, not {given}"))
    }

    fn write(&self, value: &bool) -> toml::Value {
        toml::Value::Boolean(*value)
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static>(&'static [(&'static str, T)]);

pub(super) fn choice<T>(words: &'static [(&'static str, T)]) -> Choice<T> {
    Choice(words)
}

impl<T: Clone + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        let chosen = given.text().and_then(|text| self.0.iter().find(|(word, _)| *word == text));
        chosen.map(|(_, value)| value.clone()).ok_or_else(|| {
            let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}, not {given}", words.join(", "))
        })
    }

    fn write(&self, value: &T) -> toml::Value {
        let word = self.0.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word);
        toml::Value::String(word.to_owned())
    }
}

/// An array in a file; in a variable or a flag the items are separated by commas.
pub(super) struct List<K> {
    item: K,
    max: usize,
}

pub(super) fn list<K: Kind>(item: K, max: usize) -> List<K> {
    List { item, max }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        let items = match given {
            Given::List(items) => items,
            Given::Variable(text) if text.trim().is_empty() => &Vec::new(),
            Given::Variable(text) => &text.split(',').map(|item| Given::Variable(item.trim().to_owned())).collect(),
            _ => return Err(format!("must be a list, not {given}")),
        };
        if items.len() > self.max {
            return Err(format!("must have at most {} items, not {}", self.max, items.len()));
        }
        let (mut values, mut wrong) = (Vec::with_capacity(items.len()), Vec::new());
        for item in items {
            match self.item.read(item) {
                Ok(value) => values.push(value),
                Err(message) => wrong.push(format!("each item {message}")),
            }
        }
        if wrong.is_empty() { Ok(values) } else { Err(wrong.join("; ")) }
    }

    fn write(&self, values: &Self::Value) -> toml::Value {
        toml::Value::Array(values.iter().map(|value| self.item.write(value)).collect())
    }
}
