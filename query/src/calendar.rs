//! Days, weeks, months and years as calendars have them, by time zone.

use chrono::{DateTime, Datelike, Days, Duration, NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;

/// A length of the calendar, in a time zone: windows of it follow each other without gaps. Months count from January of
/// the year 0, weeks begin on Mondays, other days count from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Calendar {
    length: Length,
    zone: Tz,
}

/// So many months or days, above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Length {
    Months(u32),
    Days(u32),
}

/// Event times of windows by calendar lie between these years: both bounds of a window then fit in 64 bits.
const YEARS: (i32, i32) = (1700, 2250);
/// The longest window, in months.
const MAX_MONTHS: u32 = 1_200;
const DAY_NS: i64 = 86_400_000_000_000;
/// Clocks are set by multiples of it.
const STEP_MINUTES: i64 = 15;

impl Calendar {
    pub(crate) fn new(length: Length, zone: Tz) -> Self {
        Self { length, zone }
    }

    /// Where the window starts that an instant, in nanoseconds since 1970 in UTC, is in.
    pub fn floor(&self, instant: i64) -> i64 {
        let local = self.local_date(instant);
        let start = self.instant(self.first_day(local));
        // Where midnight was skipped, the day before reaches to the first instant that is there.
        if start > instant { self.instant(self.first_day(local.pred_opt().unwrap_or(local))) } else { start }
    }

    /// Where the window behind the one that starts at `start` starts.
    pub fn next(&self, start: i64) -> i64 {
        let first = self.first_day(self.local_date(start));
        let next = match self.length {
            Length::Months(months) => first.checked_add_months(chrono::Months::new(months)),
            Length::Days(days) => first.checked_add_days(Days::new(days.into())),
        };
        self.instant(next.unwrap_or(first))
    }

    /// First and last instant whose windows have bounds that fit in 64 bits.
    pub fn range(&self) -> (i64, i64) {
        let year = |year: i32| NaiveDate::from_ymd_opt(year, 1, 1).map_or(0, |date| self.instant(date));
        (self.floor(year(YEARS.0)), self.floor(year(YEARS.1)) - 1)
    }

    /// About how long a window is.
    pub(crate) fn nominal_ns(&self) -> i64 {
        match self.length {
            Length::Months(months) => i64::from(months) * 30 * DAY_NS,
            Length::Days(days) => i64::from(days) * DAY_NS,
        }
    }

    fn local_date(&self, instant: i64) -> NaiveDate {
        let utc = DateTime::from_timestamp_nanos(instant).naive_utc();
        let offset = self.zone.offset_from_utc_datetime(&utc).fix();
        (utc + Duration::seconds(offset.local_minus_utc().into())).date()
    }

    /// The first day of the window that a day is in.
    fn first_day(&self, day: NaiveDate) -> NaiveDate {
        let first = match self.length {
            Length::Months(months) => {
                let months = i64::from(months);
                let since = (i64::from(day.year()) * 12 + i64::from(day.month0())).div_euclid(months) * months;
                let (year, month) = (since.div_euclid(12), since.rem_euclid(12) + 1);
                let both = i32::try_from(year).ok().zip(u32::try_from(month).ok());
                both.and_then(|(year, month)| NaiveDate::from_ymd_opt(year, month, 1))
            }
            Length::Days(days) => {
                // 1969-12-29 was a Monday.
                let from = if days.is_multiple_of(7) { -3 } else { 0 };
                let since = i64::from(day.to_epoch_days()) - from;
                let first = since.div_euclid(days.into()) * i64::from(days) + from;
                i32::try_from(first).ok().and_then(NaiveDate::from_epoch_days)
            }
        };
        first.unwrap_or(day)
    }

    /// The first instant of a day.
    fn instant(&self, day: NaiveDate) -> i64 {
        let midnight = day.and_time(chrono::NaiveTime::MIN);
        // Where clocks skip midnight the day begins when they have.
        let tries = (0..=96).map(|step| midnight + Duration::minutes(step * STEP_MINUTES));
        let found = tries.map(|local| self.zone.from_local_datetime(&local).earliest()).find_map(|found| found);
        found.and_then(|found| found.timestamp_nanos_opt()).unwrap_or(0)
    }
}

impl std::fmt::Display for Calendar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, unit) = match self.length {
            Length::Months(months) if months.is_multiple_of(12) => (months / 12, "year"),
            Length::Months(months) => (months, "month"),
            Length::Days(days) if days.is_multiple_of(7) => (days / 7, "week"),
            Length::Days(days) => (days, "day"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })?;
        if self.zone == Tz::UTC { Ok(()) } else { write!(f, " in {}", self.zone.name()) }
    }
}

/// A length of the calendar such as `1 month`, where `unit` is that of a bare number; `None` when it is none.
pub(crate) fn length(text: &str, unit: Option<&str>) -> Option<Length> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, name) = text.split_at(digits);
    let count: u32 = number.parse().ok().filter(|count| *count > 0)?;
    let name = match name.trim() {
        "" => unit?.to_lowercase(),
        name => name.to_lowercase(),
    };
    let months = |each: u32| count.checked_mul(each).filter(|months| *months <= MAX_MONTHS).map(Length::Months);
    let days = |each: u32| count.checked_mul(each).filter(|days| *days <= MAX_MONTHS * 30).map(Length::Days);
    match name.as_str() {
        "day" | "days" | "d" => days(1),
        "week" | "weeks" | "w" => days(7),
        "month" | "months" | "mon" | "mons" => months(1),
        "quarter" | "quarters" => months(3),
        "year" | "years" | "y" => months(12),
        _ => None,
    }
}

/// The time zone of a name; `None`: there is none.
pub(crate) fn zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).expect("a time").timestamp_nanos_opt().expect("it fits")
    }

    fn windows(length: Length, zone: &str, from: &str, count: usize) -> Vec<i64> {
        let calendar = Calendar::new(length, super::zone(zone).expect("a zone"));
        let first = calendar.floor(at(from));
        std::iter::successors(Some(first), |start| Some(calendar.next(*start))).take(count).collect()
    }

    #[test]
    fn months_have_their_days() {
        let starts = ["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"].map(at);
        assert_eq!(windows(Length::Months(1), "UTC", "2024-01-31T23:59:59Z", 3), starts);
        assert_eq!(windows(Length::Months(12), "UTC", "2024-05-01T00:00:00Z", 1), [at("2024-01-01T00:00:00Z")]);
        assert_eq!(windows(Length::Months(3), "UTC", "1969-12-31T00:00:00Z", 1), [at("1969-10-01T00:00:00Z")]);
        assert_eq!(windows(Length::Days(7), "UTC", "2024-01-03T00:00:00Z", 1), [at("2024-01-01T00:00:00Z")]);
    }

    #[test]
    fn days_have_23_and_25_hours_where_clocks_are_set() {
        let hours = |starts: Vec<i64>| -> Vec<i64> {
            starts.windows(2).map(|pair| (pair[1] - pair[0]) / (DAY_NS / 24)).collect()
        };
        let of = |zone: &str, from: &str| hours(windows(Length::Days(1), zone, from, 4));
        assert_eq!(of("Europe/Paris", "2024-03-30T12:00:00Z"), [24, 23, 24]);
        assert_eq!(of("Europe/Paris", "2024-10-26T12:00:00Z"), [24, 25, 24]);
        // There midnight itself was skipped, and came twice.
        assert_eq!(of("America/Sao_Paulo", "2018-11-03T12:00:00Z"), [24, 23, 24]);
        assert_eq!(of("America/Sao_Paulo", "2018-02-16T12:00:00Z"), [24, 25, 24]);
    }

    #[test]
    fn every_instant_is_in_its_window() {
        for zone in ["UTC", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe"] {
            for length in [Length::Days(1), Length::Days(7), Length::Days(3), Length::Months(1), Length::Months(12)] {
                let calendar = Calendar::new(length, super::zone(zone).expect("a zone"));
                for step in 0..3_000 {
                    let instant = at("2017-10-01T00:00:00Z") + step * 7_654_321_000_000;
                    let start = calendar.floor(instant);
                    assert!(start <= instant && instant < calendar.next(start), "{zone} {length:?} {instant}");
                    assert_eq!(calendar.floor(start), start);
                }
                let (first, last) = calendar.range();
                assert!(calendar.next(calendar.floor(last)) > last && first < last);
            }
        }
    }
}
