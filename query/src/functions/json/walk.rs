//! Places of values in the text of a JSON value, found without making an object tree.
//!
//! What is read here was checked when it came in, or is a text that may be anything: then nothing is found in it, or
//! something that is no JSON. Nothing panics.

use std::borrow::Cow;
use std::ops::Range;

/// One step into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A field of an object. Of a key that comes twice the last counts.
    Key(String),
    /// An element of an array, from 0; from the end when negative.
    Index(i64),
}

/// Where the value at the end of a path stands; `None`: there is none, or it is `null`.
pub(super) fn find(json: &str, path: &[Step]) -> Option<Range<usize>> {
    let bytes = json.as_bytes();
    let start = skip_space(bytes, 0);
    let mut place = start..value(bytes, start)?;
    for step in path {
        place = match step {
            Step::Key(key) => field(bytes, place.start, key)?,
            Step::Index(index) => element(bytes, place.start, *index)?,
        };
    }
    (&bytes[place.clone()] != b"null").then_some(place)
}

/// Shows the key, quotes included, and the value of each field of an object. `None`: it is no object.
pub(super) fn fields(bytes: &[u8], at: usize, mut show: impl FnMut(Range<usize>, Range<usize>)) -> Option<()> {
    let mut at = skip_space(bytes, at);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Some(());
    }
    loop {
        let key = at..string(bytes, at)?;
        at = skip_space(bytes, key.end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        let start = skip_space(bytes, at + 1);
        let end = value(bytes, start)?;
        show(key, start..end);
        at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b'}') => return Some(()),
            _ => return None,
        }
    }
}

/// Shows each element of an array. `None`: it is no array.
pub(super) fn elements(bytes: &[u8], at: usize, mut show: impl FnMut(Range<usize>)) -> Option<()> {
    let mut at = skip_space(bytes, at);
    if bytes.get(at) != Some(&b'[') {
        return None;
    }
    at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Some(());
    }
    loop {
        let end = value(bytes, at)?;
        show(at..end);
        at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b']') => return Some(()),
            _ => return None,
        }
    }
}

/// What a string value says; any other value as its JSON text.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => Some(Cow::Borrowed(raw)),
        Some(inside) if !inside.contains('\\') => Some(Cow::Borrowed(inside)),
        Some(_) => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
    }
}

fn field(bytes: &[u8], at: usize, wanted: &str) -> Option<Range<usize>> {
    let mut found = None;
    fields(bytes, at, |key, value| {
        let raw = &bytes[key.clone()];
        let inside = &raw[1..raw.len() - 1];
        let same = if inside.contains(&b'\\') {
            serde_json::from_slice::<String>(raw).is_ok_and(|key| key == wanted)
        } else {
            inside == wanted.as_bytes()
        };
        if same {
            found = Some(value);
        }
    })?;
    found
}

fn element(bytes: &[u8], at: usize, index: i64) -> Option<Range<usize>> {
    let wanted = if index >= 0 {
        index
    } else {
        let mut count = 0i64;
        elements(bytes, at, |_| count += 1)?;
        count.checked_add(index).filter(|index| *index >= 0)?
    };
    let (mut number, mut found) = (0i64, None);
    elements(bytes, at, |place| {
        if number == wanted {
            found = Some(place);
        }
        number += 1;
    })?;
    found
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where the string whose quote is at `at` ends.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value at `at` ends. What nests is skipped by its brackets alone.
fn value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string(bytes, at),
        b'{' | b'[' => {
            let (mut at, mut depth) = (at, 0usize);
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = string(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\r' | b'\n');
            let length = bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
            (length > 0).then_some(at + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_value() {
        let json = r#" { "a" : [ {"b\n": "x\"y"}, 2.5, null ], "c":{"d":true}, "c": {"d": 7} } "#;
        let at = |path: &[Step]| find(json, path).map(|place| &json[place]);
        let (key, index) = (|key: &str| Step::Key(key.to_owned()), Step::Index);
        assert_eq!(at(&[key("a"), index(0), key("b\n")]), Some(r#""x\"y""#));
        assert_eq!(at(&[key("a"), index(1)]), Some("2.5"));
        assert_eq!(at(&[key("a"), index(-2)]), Some("2.5"));
        assert_eq!(at(&[key("a"), index(-1)]), None);
        assert_eq!(at(&[key("a"), index(-4)]), None);
        assert_eq!(at(&[key("c"), key("d")]), Some("7"));
        assert_eq!(at(&[key("c"), index(0)]), None);
        assert_eq!(at(&[]), Some(json.trim()));
        assert_eq!(text(r#""x\"y""#).as_deref(), Some("x\"y"));
    }

    #[test]
    fn what_is_no_json_has_no_values() {
        for json in
            ["", "{", "[1", "{\"a\"", "{\"a\":", "{\"a\":}", "\"", "\"\\", "{a:1}", "[,]", "}", "{\"a\" 1}", "é"]
        {
            assert_eq!(find(json, &[Step::Key("a".into())]), None, "{json}");
            assert_eq!(find(json, &[Step::Index(0)]), None, "{json}");
        }
    }
}
