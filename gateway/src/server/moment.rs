//! Moments as text.

use arrow::temporal_conversions::timestamp_ns_to_datetime;
use squilla_engine::EventTime;

/// RFC 3339 in UTC with as many digits as needed; `None` for the bounds that stand for no moment at all.
pub(crate) fn text(moment: EventTime) -> Option<String> {
    if moment == EventTime::MIN || moment == EventTime::MAX {
        return None;
    }
    let seconds = timestamp_ns_to_datetime(moment.0)?.format("%Y-%m-%dT%H:%M:%S");
    let fraction = moment.0.rem_euclid(1_000_000_000);
    if fraction == 0 {
        return Some(format!("{seconds}Z"));
    }
    Some(format!("{seconds}.{}Z", format!("{fraction:09}").trim_end_matches('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_digits_as_needed() {
        let shown = |ns| text(EventTime(ns)).expect("a moment");
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(shown(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(text(EventTime::MIN), None);
    }
}
