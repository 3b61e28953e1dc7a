//! Durations as people type them: `10s`, `500ms`, `1h30m`.

use std::time::Duration;

/// Units by name, with their nanoseconds.
const UNITS: [(&str, f64); 6] =
    [("ms", 1e6), ("us", 1e3), ("s", 1e9), ("m", 60.0 * 1e9), ("h", 3600.0 * 1e9), ("d", 86_400.0 * 1e9)];
/// Longest duration taken, in nanoseconds: a hundred years.
const LONGEST_NS: f64 = 100.0 * 365.25 * 86_400.0 * 1e9;

/// Reads a duration: numbers with units, added up.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration: write 10s, 500ms, 5m, 2h or 1d");
    let mut rest = text.trim();
    let mut nanoseconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
        nanoseconds += number * unit.1;
    }
    if nanoseconds > LONGEST_NS {
        return Err(format!("\"{text}\" is longer than a hundred years"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between zero and the longest")]
    Ok(Duration::from_nanos(nanoseconds as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        for (text, milliseconds) in
            [("10s", 10_000), ("500 ms", 500), ("1h30m", 5_400_000), ("0.5s", 500), ("1d", 86_400_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_with_help() {
        for text in ["", "10", "s", "10 parsecs", "-5s", "1.2.3s", "9e9d", "99999999999d"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }
}
