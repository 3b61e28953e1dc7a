//! Formats of times as other systems write them: `to_char(ts, 'YYYY-MM-DD')` would give that very text.

use datafusion_sql::sqlparser::ast;

use super::Binder;
use crate::diagnostic::Diagnostic;

/// Functions whose second argument is a format.
const FORMATTERS: [&str; 2] = ["to_char", "date_format"];

/// Letters of Java's and PostgreSQL's formats, the longer first, and what they are here.
const PIECES: [(&str, &str); 17] = [
    ("YYYY", "%Y"),
    ("yyyy", "%Y"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("SSS", "%3f"),
    ("yy", "%y"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("dd", "%d"),
    ("HH", "%H"),
    ("hh", "%I"),
    ("MI", "%M"),
    ("mm", "%M"),
    ("MS", "%3f"),
    ("SS", "%S"),
    ("ss", "%S"),
];

/// Refuses a constant format without a `%` but with such letters.
pub(super) fn check(binder: &Binder<'_>, name: &str, function: &ast::Function) -> Option<Diagnostic> {
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    let [_, ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(value)))] = list.args.as_slice()
    else {
        return None;
    };
    let ast::Value::SingleQuotedString(format) = &value.value else { return None };
    if !FORMATTERS.contains(&name) || format.contains('%') {
        return None;
    }
    let ours = translated(format);
    if ours == *format {
        return None;
    }
    let message = format!("\"{format}\" has no field of a time in it: these start with %");
    Some(Diagnostic::new("invalid", message).at(binder.text.span(value.span)).help(format!("write '{ours}'")))
}

fn translated(format: &str) -> String {
    let (mut ours, mut rest) = (String::new(), format);
    while let Some(first) = rest.chars().next() {
        match PIECES.iter().find(|(theirs, _)| rest.starts_with(theirs)) {
            Some((theirs, piece)) => {
                ours.push_str(piece);
                rest = &rest[theirs.len()..];
            }
            None => {
                ours.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    ours
}
