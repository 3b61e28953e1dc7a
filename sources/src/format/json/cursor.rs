//! A strict reader of JSON text (RFC 8259) that yields places, not values: where a field's value begins and ends.

use std::borrow::Cow;
use std::ops::Range;

/// Deepest nesting that is read. Deeper values are not decoded.
const MAX_DEPTH: usize = 128;

/// Why text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Byte at which reading stopped.
    pub(crate) at: usize,
    /// Why.
    pub(crate) what: &'static str,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at + 1)
    }
}

fn fault<T>(at: usize, what: &'static str) -> Result<T, Fault> {
    Err(Fault { at, what })
}

/// The first byte at or behind `at` that is not white space.
#[inline]
pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Checks the value that begins at `at`, and says where it ends.
pub(crate) fn value(bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'"') => string(bytes, at),
        Some(b'-' | b'0'..=b'9') => number(bytes, at),
        Some(b'{') => object(bytes, at, depth, |_, _| Ok(())),
        Some(b'[') => array(bytes, at, depth, |_| Ok(())),
        Some(b't') => word(bytes, at, b"true"),
        Some(b'f') => word(bytes, at, b"false"),
        Some(b'n') => word(bytes, at, b"null"),
        Some(_) => fault(at, "expected a value"),
        None => fault(at, "the text ends where a value is expected"),
    }
}

fn word(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    if bytes[at..].starts_with(word) { Ok(at + word.len()) } else { fault(at, "expected a value") }
}

/// Checks the string whose opening quote is at `at`; its end is behind the closing one.
pub(crate) fn string(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let mut at = at + 1;
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape(bytes, at)?.1,
            Some(0..0x20) => return fault(at, "control character in a string"),
            Some(_) => at += 1,
            None => return fault(at, "the text ends inside a string"),
        }
    }
}

/// Reads the escape whose backslash is at `at`: the character and where it ends.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let character = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes, at),
        _ => return fault(at, "unknown escape in a string"),
    };
    Ok((character, at + 2))
}

fn unicode_escape(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let first = hex4(bytes, at + 2).ok_or(Fault { at, what: "\\u without four hexadecimal digits" })?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, at + 6));
    }
    let lone = Fault { at, what: "half of a surrogate pair" };
    if first >= 0xdc00 || !bytes[at + 6..].starts_with(b"\\u") {
        return Err(lone);
    }
    let second = hex4(bytes, at + 8).filter(|unit| (0xdc00..0xe000).contains(unit)).ok_or(lone)?;
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Ok((char::from_u32(code).expect("a surrogate pair is a character"), at + 12))
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

/// Writes what stands between a string's quotes, escapes resolved.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut at = 0;
    while let Some(skip) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + skip]);
        let (character, end) = escape(raw, at + skip)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        at = end;
    }
    out.extend_from_slice(&raw[at..]);
    Ok(())
}

/// The text of a key that was checked already.
pub(crate) fn key_text(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut text = Vec::with_capacity(raw.len());
    unescape(raw, &mut text).expect("the key was checked");
    Cow::Owned(text)
}

/// Checks a number.
#[inline]
pub(crate) fn number(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let mut at = at + usize::from(bytes.get(at) == Some(&b'-'));
    let first = at;
    at = digits(bytes, at)?;
    if bytes[first] == b'0' && at > first + 1 {
        return fault(first, "number with a leading zero");
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits(bytes, at)?;
    }
    Ok(at)
}

#[inline]
fn digits(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let mut end = at;
    while let Some(eight) = bytes.get(end..).and_then(|rest| rest.first_chunk()) {
        let count = leading_digits(*eight);
        end += count;
        if count < eight.len() {
            return if end == at { fault(at, "number without digits") } else { Ok(end) };
        }
    }
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    if end == at { fault(at, "number without digits") } else { Ok(end) }
}

/// How many of eight bytes, from the first on, are digits.
#[inline]
fn leading_digits(text: [u8; 8]) -> usize {
    // Digits become 0 to 9, and only what is greater comes to the uppermost bit of its byte, without a carry.
    let values = u64::from_le_bytes(text) ^ 0x3030_3030_3030_3030;
    let others = (((values & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    (others.trailing_zeros() / 8) as usize
}

/// Checks the object that begins at `at` and shows each field: the key between its quotes, and the value's place.
pub(crate) fn object(
    bytes: &[u8],
    at: usize,
    depth: usize,
    mut field: impl FnMut(Range<usize>, Range<usize>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    if bytes.get(at) != Some(&b'{') {
        return fault(at, "expected an object");
    }
    if depth >= MAX_DEPTH {
        return fault(at, "nested too deeply");
    }
    let mut at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if bytes.get(at) != Some(&b'"') {
            return fault(at, "expected a key in double quotes");
        }
        let key_end = string(bytes, at)?;
        let key = at + 1..key_end - 1;
        at = skip_space(bytes, key_end);
        if bytes.get(at) != Some(&b':') {
            return fault(at, "expected a colon");
        }
        let start = skip_space(bytes, at + 1);
        let end = value(bytes, start, depth + 1)?;
        field(key, start..end)?;
        at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return fault(at, "expected a comma or the end of the object"),
        }
    }
}

/// Checks the array that begins at `at` and shows each element's place.
pub(crate) fn array(
    bytes: &[u8],
    at: usize,
    depth: usize,
    mut element: impl FnMut(Range<usize>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    if bytes.get(at) != Some(&b'[') {
        return fault(at, "expected an array");
    }
    if depth >= MAX_DEPTH {
        return fault(at, "nested too deeply");
    }
    let mut at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        let end = value(bytes, at, depth + 1)?;
        element(at..end)?;
        at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return fault(at, "expected a comma or the end of the array"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole text is one value.
    fn valid(text: &str) -> bool {
        let bytes = text.as_bytes();
        value(bytes, skip_space(bytes, 0), 0).is_ok_and(|end| skip_space(bytes, end) == bytes.len())
    }

    #[test]
    fn accepts_what_the_grammar_allows() {
        for text in
            ["0", "-0", "1.5e-3", "1E+2", r#""a\u00e9\ud83d\ude00\/""#, "[]", " { } ", r#"{"a":[1,{"b":null}]}"#]
        {
            assert!(valid(text), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_does_not() {
        for text in [
            "",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "tru",
            "nan",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\u12\"",
            "\"\n\"",
            "\"abc",
            "[1",
            "{\"a\":1",
            "1 2",
        ] {
            assert!(!valid(text), "{text}");
        }
    }

    #[test]
    fn numbers_end_where_their_digits_do() {
        for length in 1..30 {
            let digits: String = ('0'..='9').cycle().skip(1).take(length).collect();
            for behind in ["", ",", "}", "/", ":", "e", "\u{80}", "\u{b0}", "\n", " 123456789"] {
                let text = format!("{digits}{behind}");
                let expected = if behind == "e" { None } else { Some(length) };
                assert_eq!(number(text.as_bytes(), 0).ok(), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn nesting_has_a_bottom() {
        assert!(valid(&("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH))));
        assert!(!valid(&("[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1))));
        assert!(!valid(&"[".repeat(100_000)));
    }

    #[test]
    fn unescapes() {
        let mut out = Vec::new();
        unescape(br#"a\n\u00e9\ud83d\ude00"#, &mut out).expect("valid escapes");
        assert_eq!(out, "a\né😀".as_bytes());
    }
}
