//! Moments, dates and durations as text.

use arrow::datatypes::TimeUnit;

use crate::format::scalar::civil_from_days;

/// Units of a second, and how many digits they have.
pub(super) fn scale(unit: TimeUnit) -> (i64, usize) {
    match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    }
}

/// A moment as RFC 3339 in UTC, with as many digits as it needs.
pub(super) fn write_timestamp(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let (a_second, digits) = scale(unit);
    let (seconds, fraction) = (value.div_euclid(a_second), value.rem_euclid(a_second));
    write_date(seconds.div_euclid(86_400), out);
    out.push(b'T');
    write_clock(seconds.rem_euclid(86_400), fraction, digits, out);
    out.push(b'Z');
}

/// A day as `2024-02-29`.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9_999).contains(&year) {
        two(year / 100, out);
        two(year % 100, out);
    } else {
        out.extend_from_slice(format!("{year:+05}").as_bytes());
    }
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
}

/// A time of day as `22:13:20.5`; `fraction` has so many digits, of which zeros at the end are left out.
pub(super) fn write_clock(seconds: i64, fraction: i64, digits: usize, out: &mut Vec<u8>) {
    two(seconds / 3_600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    out.push(b':');
    two(seconds % 60, out);
    write_fraction(fraction, digits, out);
}

fn write_fraction(mut fraction: i64, mut digits: usize, out: &mut Vec<u8>) {
    if fraction == 0 {
        return;
    }
    while fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    let mut text = [b'0'; 10];
    text[0] = b'.';
    for at in (1..=digits).rev() {
        text[at] = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    out.extend_from_slice(&text[..=digits]);
}

/// A span of time as an ISO 8601 duration in seconds: `PT1.5S`.
pub(super) fn write_duration(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    out.extend_from_slice(b"PT");
    write_seconds(value, unit, out);
}

/// An interval as an ISO 8601 duration, parts that are zero left out: `P1M2DT3.5S`.
pub(super) fn write_interval(months: i32, days: i32, nanoseconds: i64, out: &mut Vec<u8>) {
    out.push(b'P');
    for (value, unit) in [(months, b'M'), (days, b'D')] {
        if value != 0 {
            out.extend_from_slice(value.to_string().as_bytes());
            out.push(unit);
        }
    }
    if nanoseconds != 0 || (months, days) == (0, 0) {
        out.push(b'T');
        write_seconds(nanoseconds, TimeUnit::Nanosecond, out);
    }
}

fn write_seconds(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let (a_second, digits) = scale(unit);
    if value < 0 {
        out.push(b'-');
    }
    let (size, a_second) = (value.unsigned_abs(), a_second.unsigned_abs());
    out.extend_from_slice((size / a_second).to_string().as_bytes());
    write_fraction((size % a_second).cast_signed(), digits, out);
    out.push(b'S');
}

#[inline]
fn two(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(value: i64, unit: TimeUnit) -> String {
        let mut out = Vec::new();
        write_timestamp(value, unit, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn timestamps_have_the_digits_that_they_need() {
        let moment = 1_700_000_000;
        assert_eq!(timestamp(moment, TimeUnit::Second), "2023-11-14T22:13:20Z");
        assert_eq!(timestamp(moment * 1_000 + 123, TimeUnit::Millisecond), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(moment * 1_000 + 50, TimeUnit::Millisecond), "2023-11-14T22:13:20.05Z");
        assert_eq!(timestamp(-1, TimeUnit::Nanosecond), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(timestamp(i64::MIN, TimeUnit::Nanosecond), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(timestamp(253_402_300_800, TimeUnit::Second), "+10000-01-01T00:00:00Z");
    }

    #[test]
    fn durations_and_intervals() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(text(&|out| write_duration(-1_500, TimeUnit::Millisecond, out)), "PT-1.5S");
        assert_eq!(text(&|out| write_interval(14, -2, 3_500_000_000, out)), "P14M-2DT3.5S");
        assert_eq!(text(&|out| write_interval(0, 1, 0, out)), "P1D");
        assert_eq!(text(&|out| write_interval(0, 0, 0, out)), "PT0S");
    }
}
