//! JSON values to the values of columns.

use std::borrow::Cow;

use super::cursor;
use crate::format::column::{Cells, Misfit};
use crate::format::scalar::{self, TimestampUnit};

/// The largest whole number that every JSON reader reads exactly. Larger ones are written as strings, and read so.
const MAX_EXACT: i128 = (1 << 53) - 1;

/// How JSON values are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonCells;

/// What stands between the quotes of a string; `None`: it is another value.
fn quoted(raw: &[u8]) -> Option<&[u8]> {
    match raw {
        [b'"', inside @ .., b'"'] => Some(inside),
        _ => None,
    }
}

fn is_number(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'-' | b'0'..=b'9'))
}

impl Cells for JsonCells {
    #[inline]
    fn is_null(raw: &[u8]) -> bool {
        raw == b"null"
    }

    fn found(raw: &[u8]) -> String {
        match raw.first() {
            Some(b'"') => "a string".to_owned(),
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b't' | b'f') => "a boolean".to_owned(),
            _ => format!("the number {}", String::from_utf8_lossy(&raw[..raw.len().min(40)])),
        }
    }

    #[inline]
    fn plain_integer(raw: &[u8]) -> Option<i64> {
        scalar::plain_integer(raw)
    }

    #[inline]
    fn integer(raw: &[u8]) -> Result<i128, Misfit> {
        if let Some(value) = scalar::plain_integer(raw) {
            return Ok(value.into());
        }
        if is_number(raw) {
            return Ok(scalar::integer(raw)?);
        }
        // As we write them ourselves.
        let text = quoted(raw).ok_or(Misfit::Expected("a whole number"))?;
        match scalar::integer(text) {
            Ok(value) if value.abs() > MAX_EXACT => Ok(value),
            _ => Err(Misfit::Expected("a whole number")),
        }
    }

    fn float(raw: &[u8]) -> Result<f64, Misfit> {
        match raw {
            b"\"NaN\"" => return Ok(f64::NAN),
            b"\"Infinity\"" => return Ok(f64::INFINITY),
            b"\"-Infinity\"" => return Ok(f64::NEG_INFINITY),
            _ if !is_number(raw) => return Err(Misfit::Expected("a number")),
            _ => {}
        }
        let text = std::str::from_utf8(raw).map_err(|_| Misfit::Expected("a number"))?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err(Misfit::Range),
            Err(_) => Err(Misfit::Expected("a number")),
        }
    }

    fn boolean(raw: &[u8]) -> Result<bool, Misfit> {
        match raw {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(Misfit::Expected("true or false")),
        }
    }

    fn decimal(raw: &[u8], scale: i8) -> Result<i128, Misfit> {
        let text = if is_number(raw) { raw } else { quoted(raw).ok_or(Misfit::Expected("a decimal number"))? };
        Ok(scalar::scaled(text, scale.into(), true)?)
    }

    fn date(raw: &[u8]) -> Result<i32, Misfit> {
        quoted(raw).and_then(scalar::date).ok_or(Misfit::Expected("a date such as \"2024-02-29\""))
    }

    #[inline]
    fn timestamp(raw: &[u8], unit: TimestampUnit) -> Result<i64, Misfit> {
        const EXPECTED: Misfit = Misfit::Expected("an RFC 3339 timestamp or a number");
        match quoted(raw) {
            Some(text) => scalar::timestamp_or_number(text, unit).ok_or(EXPECTED),
            None if is_number(raw) => Ok(scalar::epoch(raw, unit)?),
            None => Err(EXPECTED),
        }
    }

    #[inline]
    fn text(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        let Some(inside) = quoted(raw) else {
            out.extend_from_slice(raw);
            return Ok(());
        };
        // One pass without branches, which the compiler turns into vector instructions.
        let special = inside.iter().fold(false, |special, byte| special | (*byte < 0x20) | (*byte == b'\\'));
        if !special {
            out.extend_from_slice(inside);
            return Ok(());
        }
        if inside.iter().any(|byte| *byte < 0x20) {
            return Err(Misfit::Invalid("control character in a string"));
        }
        cursor::unescape(inside, out).map_err(|fault| Misfit::Invalid(fault.what))
    }

    fn json(raw: &[u8]) -> Result<Cow<'_, [u8]>, Misfit> {
        match cursor::value(raw, 0, 0) {
            Ok(end) if end == raw.len() => Ok(Cow::Borrowed(raw)),
            Ok(_) => Err(Misfit::Invalid("text behind the value")),
            Err(fault) => Err(Misfit::Invalid(fault.what)),
        }
    }

    fn object(raw: &[u8], mut field: impl FnMut(&[u8], std::ops::Range<usize>)) -> Result<(), Misfit> {
        if raw.first() != Some(&b'{') {
            return Err(Misfit::Expected("an object"));
        }
        let shown = cursor::object(raw, 0, 1, |key, value| {
            field(&cursor::key_text(&raw[key]), value);
            Ok(())
        });
        shown.map(drop).map_err(|fault| Misfit::Invalid(fault.what))
    }

    fn array(raw: &[u8], mut element: impl FnMut(std::ops::Range<usize>)) -> Result<(), Misfit> {
        if raw.first() != Some(&b'[') {
            return Err(Misfit::Expected("an array"));
        }
        let shown = cursor::array(raw, 0, 1, |value| {
            element(value);
            Ok(())
        });
        shown.map(drop).map_err(|fault| Misfit::Invalid(fault.what))
    }
}
