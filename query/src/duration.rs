//! Lengths of event time as people write them: `10s`, `500ms`, `1 minute 30 seconds`, `00:00:30`.

/// Nanoseconds in a day of 24 hours.
const DAY_NS: i128 = 86_400_000_000_000;

/// Nanoseconds of a text such as `10s` or `1 minute 30 seconds`, where `unit` is that of a bare number.
///
/// # Errors
/// What is wrong with it and what to write.
pub(crate) fn parse(text: &str, unit: Option<&str>) -> Result<i64, (String, String)> {
    let trimmed = text.trim();
    let (negative, body) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let bad = || (format!("\"{text}\" is not an interval"), "write '10s', '500ms', '1 minute 30 seconds'".to_owned());
    let mut total: i128 = 0;
    let mut rest = body;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !(c.is_alphabetic() || c == 'µ')).unwrap_or(after.len());
        let (name, after) = after.split_at(letters);
        rest = after.trim_start();
        if number.contains(':') {
            if !name.is_empty() {
                return Err(bad());
            }
            total += clock(number).ok_or_else(bad)?;
            continue;
        }
        let name = match (name, unit) {
            ("", Some(unit)) if rest.is_empty() => unit,
            ("", _) => {
                return Err((format!("\"{text}\" has no unit"), format!("write '{number}s' or '{number} seconds'")));
            }
            (name, _) => name,
        };
        total += decimal(number, unit_ns(name, text)?).ok_or_else(bad)?;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total)
        .map_err(|_| (format!("\"{text}\" is too long"), "an interval has at most 292 years".to_owned()))
}

fn unit_ns(name: &str, text: &str) -> Result<i128, (String, String)> {
    let second = 1_000_000_000_i128;
    Ok(match name.to_lowercase().as_str() {
        "ns" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "microsecond" | "microseconds" => 1_000,
        "ms" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => second,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * second,
        "h" | "hour" | "hours" => 3_600 * second,
        "d" | "day" | "days" => DAY_NS,
        "w" | "week" | "weeks" => 7 * DAY_NS,
        "month" | "months" | "mon" | "mons" | "year" | "years" | "y" | "quarter" | "quarters" => {
            return Err((
                format!("\"{text}\" has no fixed length: calendar months and years cannot be used here"),
                "tumble('1 month') has windows by the calendar; elsewhere write it in days: '30 days'".to_owned(),
            ));
        }
        _ => {
            return Err((
                format!("\"{name}\" is not a unit of time"),
                "the units are ms, s, m, h, d and w, or milliseconds, seconds, minutes, hours, days and weeks"
                    .to_owned(),
            ));
        }
    })
}

/// `12.5` of a unit, in nanoseconds; `None` when it is not a number.
fn decimal(number: &str, unit: i128) -> Option<i128> {
    /// Digits that cannot overflow 128 bits together with a unit.
    const MAX_DIGITS: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > MAX_DIGITS || fraction.len() > MAX_DIGITS || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(parse(whole)? * unit + parse(fraction)? * unit / scale)
}

/// `hh:mm:ss[.fff]` in nanoseconds.
fn clock(text: &str) -> Option<i128> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    if parts.next().is_some() {
        return None;
    }
    let second = 1_000_000_000;
    Some(decimal(hours, 3_600 * second)? + decimal(minutes, 60 * second)? + decimal(seconds, second)?)
}

/// `10 s`, `1 min 30 s`: a length for people.
pub(crate) fn human(ns: i64) -> String {
    let mut rest = ns.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, name) in [
        (86_400_000_000_000_u64, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ] {
        if rest >= unit {
            parts.push(format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    let text = if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") };
    if ns < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_short_long_and_clock_forms() {
        let second = 1_000_000_000;
        for (text, unit, expected) in [
            ("10s", None, 10 * second),
            ("500ms", None, second / 2),
            ("1 minute 30 seconds", None, 90 * second),
            ("1m30s", None, 90 * second),
            ("10", Some("second"), 10 * second),
            ("0.5", Some("minute"), 30 * second),
            ("00:01:30", None, 90 * second),
            ("-1h", None, -3_600 * second),
            ("2d", None, 2 * 86_400 * second),
        ] {
            assert_eq!(parse(text, unit), Ok(expected), "{text}");
        }
        for text in ["", "ten", "10", "1 month", "5 parsecs", "1:2:3:4", "9999999999999d", "1.2.3s", "-"] {
            assert!(parse(text, None).is_err(), "{text}");
        }
        assert_eq!(human(90 * second), "1m 30s");
    }
}
