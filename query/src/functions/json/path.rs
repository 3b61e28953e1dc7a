//! Paths into JSON values: keys, indexes, and JSONPath's `$.a.b[0]`.

use datafusion_common::{Result, plan_err};

use super::walk::Step;

/// The steps of a path argument: a text that starts with `$` is a JSONPath, any other a key.
///
/// # Errors
/// What cannot be read of a JSONPath.
pub(super) fn steps(text: &str, out: &mut Vec<Step>) -> Result<()> {
    let is_path = text.strip_prefix('$').is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    if !is_path {
        out.push(Step::Key(text.to_owned()));
        return Ok(());
    }
    let mut rest = &text[1..];
    while let Some(first) = rest.chars().next() {
        let (step, behind) = match first {
            '.' => name(&rest[1..], text)?,
            '[' => bracket(&rest[1..], text)?,
            _ => return plan_err!("the path {text} has \"{first}\" where a . or [ must stand"),
        };
        out.push(step);
        rest = behind;
    }
    Ok(())
}

fn name<'t>(rest: &'t str, text: &str) -> Result<(Step, &'t str)> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let Some((key, behind)) = quoted.split_once('"') else { return plan_err!("the path {text} has an open quote") };
        return Ok((Step::Key(key.to_owned()), behind));
    }
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    match &rest[..end] {
        "" => plan_err!("the path {text} has no name behind a dot"),
        "*" => plan_err!("the path {text} has a *: json_get_array and UNNEST give each element a row"),
        key => Ok((Step::Key(key.to_owned()), &rest[end..])),
    }
}

fn bracket<'t>(rest: &'t str, text: &str) -> Result<(Step, &'t str)> {
    let Some((inside, behind)) = rest.split_once(']') else { return plan_err!("the path {text} has an open bracket") };
    let quoted = |quote: char| inside.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(key) = quoted('\'').or_else(|| quoted('"')) {
        return Ok((Step::Key(key.to_owned()), behind));
    }
    match inside.trim().parse() {
        Ok(index) => Ok((Step::Index(index), behind)),
        Err(_) if inside == "*" => {
            plan_err!("the path {text} has a *: json_get_array and UNNEST give each element a row")
        }
        Err(_) => plan_err!("the path {text} has [{inside}], which is neither a number nor a quoted key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        let read = |text: &str| {
            let mut out = Vec::new();
            steps(text, &mut out).map(|()| out)
        };
        let key = |key: &str| Step::Key(key.into());
        assert_eq!(read("a.b").expect("a key"), [key("a.b")]);
        assert_eq!(read("$").expect("the root"), []);
        assert_eq!(read("$x").expect("a key"), [key("$x")]);
        let path = read("$.a[0].\"b c\"['d'][-1]").expect("a path");
        assert_eq!(path, [key("a"), Step::Index(0), key("b c"), key("d"), Step::Index(-1)]);
        for wrong in ["$.", "$..a", "$[a]", "$[0", "$[*]", "$.a.*", "$.\"a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
