//! Text to numbers, dates and timestamps, exactly: what does not fit is refused, never cut.

/// How a whole number is read as a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampUnit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl TimestampUnit {
    /// Nanoseconds of one.
    pub(crate) fn nanoseconds(self) -> i64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
            Self::Microsecond => 1_000,
            Self::Nanosecond => 1,
        }
    }
}

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// A whole number in digits alone, with or without a sign. `None`: something else, or too large.
#[inline]
pub(crate) fn plain_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut sum: u64 = 0;
    let mut rest = digits;
    while let Some((eight, behind)) = rest.split_first_chunk() {
        sum = sum * 100_000_000 + eight_digits(*eight)?;
        rest = behind;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nineteen digits are at most 10^19 - 1, which fits.
        sum = sum * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(sum) } else { i64::try_from(sum).ok() }
}

/// The number that eight digits are, found by three multiplications instead of eight (D. Lemire, "Quickly parsing eight
/// digits", 2018).
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let text = u64::from_le_bytes(text);
    // The upper halves are those of digits, and stay so when the lower ones are moved up by six.
    let upper =
        (text & 0xf0f0_f0f0_f0f0_f0f0) | ((text.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0) >> 4);
    if upper != 0x3333_3333_3333_3333 {
        return None;
    }
    let pairs = (text & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(2_561) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    Some((fours & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32)
}

/// Why a number does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not a number.
    NotANumber,
    /// It has a fraction where none may be.
    Fraction,
    /// It is out of range.
    Range,
}

/// A number in JSON's grammar that is whole: `7`, `1e3`, `2.0`.
pub(crate) fn integer(text: &[u8]) -> Result<i128, Unfit> {
    match plain_integer(text) {
        Some(value) => Ok(value.into()),
        None => scaled(text, 0, false),
    }
}

/// A number times ten to the `scale`, exactly; digits beyond are rounded half away from zero when `round`, else
/// refused.
pub(crate) fn scaled(text: &[u8], scale: i32, round: bool) -> Result<i128, Unfit> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (mantissa, exponent) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let (whole, fraction) = match memchr::memchr(b'.', mantissa) {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(Unfit::NotANumber);
    }
    // The digits d1 d2 … stand for 0.d1d2… times ten to the `point`; those before `point + scale` are kept.
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let kept = point.saturating_add(exponent).saturating_add(scale.into());
    let mut sum: i128 = 0;
    let (mut round_up, mut lost) = (false, false);
    let mut position = 0i64;
    for byte in whole.iter().chain(fraction) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Unfit::NotANumber);
        }
        if position < kept {
            sum = sum.checked_mul(10).and_then(|sum| sum.checked_add(digit.into())).ok_or(Unfit::Range)?;
        } else {
            round_up |= position == kept && digit >= 5;
            lost |= digit != 0;
        }
        position += 1;
    }
    while sum != 0 && position < kept {
        sum = sum.checked_mul(10).ok_or(Unfit::Range)?;
        position += 1;
    }
    if lost && !round {
        return Err(Unfit::Fraction);
    }
    sum += i128::from(round_up);
    Ok(if negative { -sum } else { sum })
}

fn exponent(text: &[u8]) -> Result<i64, Unfit> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Unfit::NotANumber);
    }
    // An exponent beyond the range of i64 moves all digits out of sight just as well.
    let size = digits.iter().fold(0i64, |sum, digit| sum.saturating_mul(10).saturating_add((digit - b'0').into()));
    Ok(sign * size.min(i64::MAX / 4))
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar; `None`: there is no such day.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = LENGTHS.get(usize::try_from(month - 1).ok()?)? + i64::from(leap && month == 2);
    if day < 1 || day > length {
        return None;
    }
    // Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of a number of days since 1970-01-01.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn fixed_digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Days since 1970-01-01 of `2024-02-29`.
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *text else { return None };
    let days = days_from_civil(fixed_digits(&[y0, y1, y2, y3])?, fixed_digits(&[m0, m1])?, fixed_digits(&[d0, d1])?)?;
    i32::try_from(days).ok()
}

/// Nanoseconds since 1970 of an RFC 3339 timestamp: `T`, `t` or a space between, fraction and zone optional (UTC
/// when absent), a date alone is its midnight. Digits beyond nanoseconds are dropped. `None`: not such a text, or out
/// of range.
pub(crate) fn timestamp(text: &[u8]) -> Option<i64> {
    let day = i64::from(date(text.get(..10)?)?);
    if text.len() == 10 {
        return day.checked_mul(DAY_NS);
    }
    let [b'T' | b't' | b' ', h0, h1, b':', m0, m1, rest @ ..] = &text[10..] else { return None };
    let (hour, minute) = (fixed_digits(&[*h0, *h1])?, fixed_digits(&[*m0, *m1])?);
    let (second, rest) = match rest {
        [b':', s0, s1, rest @ ..] => (fixed_digits(&[*s0, *s1])?, rest),
        rest => (0, rest),
    };
    // A leap second is read as the first of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = match rest {
        [b'.' | b',', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kept = digits.min(9);
            let scale = 10i64.pow(9 - u32::try_from(kept).expect("at most nine"));
            ((digits > 0).then(|| fixed_digits(&rest[..kept]))?? * scale, &rest[digits..])
        }
        rest => (0, rest),
    };
    let seconds = hour * 3_600 + minute * 60 + second - zone_seconds(rest)?;
    // In 128 bits: the first day of the range begins before the range does.
    let total = i128::from(day) * i128::from(DAY_NS) + i128::from(seconds) * 1_000_000_000 + i128::from(fraction);
    i64::try_from(total).ok()
}

/// Seconds east of UTC.
fn zone_seconds(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, digits) = match text {
        [] | [b'Z' | b'z'] | b"UTC" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h0, h1, b':', m0, m1] | [h0, h1, m0, m1] => (fixed_digits(&[h0, h1])?, fixed_digits(&[m0, m1])?),
        [h0, h1] => (fixed_digits(&[h0, h1])?, 0),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Nanoseconds since 1970 of a number of `unit`s, exactly; digits beyond nanoseconds are rounded.
#[inline]
pub(crate) fn epoch(text: &[u8], unit: TimestampUnit) -> Result<i64, Unfit> {
    let ns = match plain_integer(text) {
        Some(number) => i128::from(number) * i128::from(unit.nanoseconds()),
        None => scaled(text, unit.nanoseconds().ilog10().cast_signed(), true)?,
    };
    i64::try_from(ns).map_err(|_| Unfit::Range)
}

/// A timestamp as text: RFC 3339, or a number of `unit`s since 1970.
pub(crate) fn timestamp_or_number(text: &[u8], unit: TimestampUnit) -> Option<i64> {
    match plain_integer(text) {
        Some(number) => number.checked_mul(unit.nanoseconds()),
        None => timestamp(text).or_else(|| epoch(text, unit).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_at_the_edges() {
        assert_eq!(plain_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(plain_integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(plain_integer(b"9223372036854775808"), None);
        assert_eq!(plain_integer(b"99999999999999999999"), None);
        assert_eq!(plain_integer(b"1700000000123"), Some(1_700_000_000_123));
        for at in 0..13 {
            for wrong in [b'/', b':', b' ', 0xb0, b'-', b'.'] {
                let mut text = *b"1234567890123";
                text[at] = wrong;
                let is_sign = at == 0 && wrong == b'-';
                assert_eq!(plain_integer(&text), is_sign.then_some(-234_567_890_123));
            }
        }
        assert_eq!(plain_integer(b""), None);
        assert_eq!(plain_integer(b"-"), None);
        assert_eq!(integer(b"18446744073709551615"), Ok(u64::MAX.into()));
        assert_eq!(integer(b"1e3"), Ok(1_000));
        assert_eq!(integer(b"2.50e1"), Ok(25));
        assert_eq!(integer(b"-1.0"), Ok(-1));
        assert_eq!(integer(b"1.5"), Err(Unfit::Fraction));
        assert_eq!(integer(b"1e-1"), Err(Unfit::Fraction));
        assert_eq!(integer(b"1e400"), Err(Unfit::Range));
        assert_eq!(integer(b"0e999999999999999999999"), Ok(0));
        assert_eq!(integer(b"5e-999999999999999999999"), Err(Unfit::Fraction));
        assert_eq!(integer(b"abc"), Err(Unfit::NotANumber));
    }

    #[test]
    fn decimals_round_half_away_from_zero() {
        assert_eq!(scaled(b"1.005", 2, true), Ok(101));
        assert_eq!(scaled(b"-1.005", 2, true), Ok(-101));
        assert_eq!(scaled(b"1.0049", 2, true), Ok(100));
        assert_eq!(scaled(b"0.005", 2, true), Ok(1));
        assert_eq!(scaled(b"0.0005", 2, true), Ok(0));
        assert_eq!(scaled(b"12", 2, true), Ok(1_200));
        assert_eq!(scaled(b"5e-3", 2, true), Ok(1));
    }

    #[test]
    fn timestamps_in_their_spellings() {
        let moment = 1_700_000_000_000_000_000;
        assert_eq!(timestamp(b"2023-11-14T22:13:20Z"), Some(moment));
        assert_eq!(timestamp(b"2023-11-14 22:13:20"), Some(moment));
        assert_eq!(timestamp(b"2023-11-14t23:13:20+01:00"), Some(moment));
        assert_eq!(timestamp(b"2023-11-14T20:43:20-0130"), Some(moment));
        assert_eq!(timestamp(b"2023-11-14T22:13:20.123Z"), Some(moment + 123_000_000));
        assert_eq!(timestamp(b"2023-11-14T22:13:20.1234567899Z"), Some(moment + 123_456_789));
        assert_eq!(timestamp(b"1970-01-02"), Some(DAY_NS));
        assert_eq!(timestamp(b"1677-09-21T00:12:43.145224193Z"), Some(i64::MIN + 1));
        for wrong in ["2023-02-29T00:00:00Z", "2023-13-01", "2023-11-14T24:00:00Z", "2300-01-01T00:00:00Z", "nonsense"]
        {
            assert_eq!(timestamp(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(timestamp_or_number(b"1700000000000", TimestampUnit::Millisecond), Some(moment));
        assert_eq!(timestamp_or_number(b"9223372036854775807", TimestampUnit::Second), None);
    }

    #[test]
    fn fractions_of_epochs_are_read_without_a_float_between() {
        let moment = 1_700_000_000_000_000_000;
        let second = TimestampUnit::Second;
        assert_eq!(epoch(b"1700000000", second), Ok(moment));
        assert_eq!(epoch(b"1700000000.123456789", second), Ok(moment + 123_456_789));
        assert_eq!(epoch(b"1700000000.1234567895", second), Ok(moment + 123_456_790));
        assert_eq!(epoch(b"1.7e9", second), Ok(moment));
        assert_eq!(epoch(b"-0.5", second), Ok(-500_000_000));
        assert_eq!(epoch(b"1700000000000.25", TimestampUnit::Millisecond), Ok(moment + 250_000));
        assert_eq!(epoch(b"1700000000000000.5", TimestampUnit::Microsecond), Ok(moment + 500));
        assert_eq!(epoch(b"1700000000000000000.4", TimestampUnit::Nanosecond), Ok(moment));
        assert_eq!(epoch(b"9223372036.854775807", second), Ok(i64::MAX));
        assert_eq!(epoch(b"9223372036.854775808", second), Err(Unfit::Range));
        assert_eq!(epoch(b"1e300", second), Err(Unfit::Range));
        assert_eq!(epoch(b"x", second), Err(Unfit::NotANumber));
        assert_eq!(timestamp_or_number(b"1700000000.5", second), Some(moment + 500_000_000));
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-800_000..800_000).step_by(37) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), Some(days));
        }
    }
}
