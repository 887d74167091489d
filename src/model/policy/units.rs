//! The values that a policy writes as text with a unit.

use std::time::Duration;

/// Bytes: `512m`, `2g`, also written `512MB` or `2GiB`. The units are powers of 1024.
pub fn size(text: &str) -> Option<u64> {
    let short = text.strip_suffix(['b', 'B']).map(|text| text.strip_suffix('i').unwrap_or(text));
    let (number, unit) = split_unit(short.unwrap_or(text))?;
    let shift = match unit.to_ascii_lowercase() {
        'k' => 10,
        'm' => 20,
        'g' => 30,
        't' => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Hours or days: `12h`, `30d`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let hours = match unit {
        'h' => number,
        'd' => number.checked_mul(24)?,
        _ => return None,
    };
    hours.checked_mul(60 * 60).map(Duration::from_secs)
}

/// A version of numbers between dots: `14.2.1`. Compares as a list does, with the zeros at its end left out.
pub fn release(text: &str) -> Option<Vec<u32>> {
    let parts = text.split('.').map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?);
    let mut numbers: Vec<u32> = parts.collect::<Option<_>>()?;
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

fn split_unit(text: &str) -> Option<(u64, char)> {
    let unit = text.chars().next_back()?;
    let digits = &text[..text.len() - unit.len_utf8()];
    let well_formed = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    well_formed.then(|| digits.parse().ok().map(|number| (number, unit)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_a_unit_is_read_exactly_or_not_at_all() {
        assert_eq!(size("512m"), Some(512 << 20));
        assert_eq!(["2G", "2g", "2GB", "2gb", "2GiB"].map(size), [Some(2 << 30); 5]);
        assert_eq!(duration("12h"), Some(Duration::from_secs(12 * 3600)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(30 * 86400)));
        for wrong in [
            "",
            "m",
            "512",
            "-1m",
            "+1m",
            "1.5g",
            "5é",
            "5b",
            "5ib",
            "5gi",
            "5mbb",
            "99999999999999999999g",
            "18446744073709551615t",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        for wrong in ["", "d", "30", "30m", "-1d", "30D", "18446744073709551615d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(release("14.10") > release("14.9.3"));
        assert_eq!(release("14"), release("14.0.0"));
        for wrong in ["", ".", "14.", "v14", "14.x", "14.+1", "99999999999"] {
            assert_eq!(release(wrong), None, "{wrong}");
        }
    }
}
