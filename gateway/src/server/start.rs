//! Where a client wants to start, as text: `latest`, `earliest`, a position, a moment, or `-5m`.

use std::time::Duration;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use squilla_engine::{EventTime, Start};

/// Reads where to start.
///
/// # Errors
/// What is wrong with the text, and what can be written.
pub(crate) fn parse(text: &str) -> Result<Start, String> {
    match text {
        "latest" => return Ok(Start::Latest),
        "earliest" => return Ok(Start::Earliest),
        _ => {}
    }
    if let Some(ago) = text.strip_prefix('-').and_then(duration) {
        return Ok(Start::Ago(ago));
    }
    if let Ok(position) = text.parse() {
        return Ok(Start::Position(position));
    }
    if text.contains('T')
        && let Ok(moment) = string_to_timestamp_nanos(text)
    {
        return Ok(Start::Timestamp(EventTime(moment)));
    }
    let shown: String = text.chars().take(100).collect();
    Err(format!(
        "\"{shown}\" is no start: use latest, earliest, a position, a moment like 2026-01-31T12:00:00Z, or -5m"
    ))
}

/// `90s`, `1h30m`, `250ms`; `None` for anything else.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let number: u64 = number.parse().ok()?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_write() {
        assert_eq!(parse("latest"), Ok(Start::Latest));
        assert_eq!(parse("earliest"), Ok(Start::Earliest));
        assert_eq!(parse("-5m"), Ok(Start::Ago(Duration::from_secs(300))));
        assert_eq!(parse("-1h30m"), Ok(Start::Ago(Duration::from_secs(5400))));
        assert_eq!(parse("2023-11-14T22:13:20Z"), Ok(Start::Timestamp(EventTime(1_700_000_000_000_000_000))));
        assert_eq!(parse("2023-11-14T23:13:20+01:00"), Ok(Start::Timestamp(EventTime(1_700_000_000_000_000_000))));
        assert!(matches!(parse("feed:0=17+3"), Ok(Start::Position(_))));
    }

    #[test]
    fn what_is_refused() {
        for text in ["", "-", "-5", "-5x", "5m", "yesterday", "-m5", "2023-11-14", "-99999999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
