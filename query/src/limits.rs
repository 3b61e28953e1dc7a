//! Caps that hold before anything is parsed or planned: planning a flat chain of thousands of operators takes
//! seconds, and a deep one overflows the stack.

use datafusion_sql::sqlparser::tokenizer::Token;

use crate::diagnostic::{Diagnostic, Span};
use crate::text::{Text, is_word, word};

/// Stack that reading and planning a statement takes, at the most: what these caps let through fits several times over,
/// in builds without optimisation too. A thread that has less gets another stack each time.
pub const PLANNING_STACK_BYTES: usize = 64 << 20;
/// Bytes of one statement.
pub(crate) const MAX_STATEMENT_BYTES: usize = 64 << 10;
/// Bytes of a script: each of its statements has [`MAX_STATEMENT_BYTES`].
pub(crate) const MAX_SCRIPT_BYTES: usize = 1 << 20;
/// Names, literals and operators of one statement.
const MAX_NODES: usize = 2_000;
/// Operators of one flat chain (`a + b + …`, `a OR b OR …`).
const MAX_CHAIN: usize = 500;
/// Parentheses, brackets, `CASE`s and prefix operators inside each other.
pub(crate) const MAX_DEPTH: usize = 50;
/// Set operations of one statement.
const MAX_UNIONS: usize = 32;
/// Parts of one dotted name.
const MAX_NAME_PARTS: usize = 16;
/// Plan nodes after CTEs and views were put in place of their names: names can be used many times.
pub(crate) const MAX_PLAN_NODES: usize = 1_000;
/// Views that stand on views.
pub(crate) const MAX_VIEW_DEPTH: usize = 16;

/// The statement is short enough to be read at all.
pub(crate) fn check_length(sql: &str, limit: usize, what: &str) -> Result<(), Diagnostic> {
    if sql.len() <= limit {
        return Ok(());
    }
    let message = format!("too many bytes of {what}: {}, the limit is {limit}", sql.len());
    let span = Span { start: sql.floor_char_boundary(limit), end: sql.len() };
    Err(Diagnostic::new("limit", message).at(span).help(
        "send it in parts: long lists of values belong in a table that is joined, statements of a script each in a \
         request of its own",
    ))
}

#[derive(Default)]
struct Level {
    logic: usize,
    arithmetic: usize,
}

/// The statement's size and shape are within bounds.
pub(crate) fn check_shape(text: &Text<'_>) -> Result<(), Diagnostic> {
    let mut nodes = 0;
    let mut unions = 0;
    let mut prefix = 0;
    let mut parts = 0;
    let mut cases = 0_usize;
    let mut angles = 0_usize;
    let mut arrays = 0_usize;
    let mut levels = vec![Level::default()];
    let mut previous: Option<&Token> = None;
    for token in text.tokens() {
        let place = token.span;
        let token = &token.token;
        nodes += usize::from(!is_punctuation(token));
        prefix = if is_operator(token) || is_word(token, "not") { prefix + 1 } else { 0 };
        parts = match token {
            Token::Period => parts + 1,
            Token::Word(_) if matches!(previous, Some(Token::Period)) => parts,
            _ => 0,
        };
        arrays = match token {
            Token::LBracket if matches!(previous, Some(Token::RBracket)) => arrays + 1,
            Token::LBracket | Token::RBracket => arrays,
            _ => 0,
        };
        unions += usize::from(["union", "intersect"].iter().any(|name| is_word(token, name)));
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level::default()),
            Token::RParen | Token::RBracket | Token::RBrace if levels.len() > 1 => {
                levels.pop();
            }
            Token::Lt if previous.is_some_and(opens_type) => angles += 1,
            _ => {}
        }
        if is_word(token, "case") {
            cases += 1;
        } else if is_word(token, "end") {
            cases = cases.saturating_sub(1);
        }
        let chain = count_chain(levels.last_mut(), token);
        previous = Some(token);
        for (what, limit, actual) in [
            ("names, literals and operators in one statement", MAX_NODES, nodes),
            ("operators in one chain", MAX_CHAIN, chain),
            ("levels of nesting", MAX_DEPTH, levels.len() - 1 + cases + angles),
            ("operators in a row", MAX_DEPTH, prefix),
            ("dimensions", MAX_DEPTH, arrays),
            ("parts in one name", MAX_NAME_PARTS, parts),
            ("set operations in one statement", MAX_UNIONS, unions),
        ] {
            if actual > limit {
                return Err(refuse(text, what, limit, actual, text.span(place)));
            }
        }
    }
    Ok(())
}

fn refuse(text: &Text<'_>, what: &str, limit: usize, actual: usize, at: Option<Span>) -> Diagnostic {
    let diagnostic =
        Diagnostic::new("limit", format!("too many {what}: the limit is {limit}")).at(at.or_else(|| text.end_span()));
    let diagnostic = diagnostic.note(format!("counting stopped at {actual}"));
    match what {
        "operators in one chain" => diagnostic.help("a long OR of equalities is shorter as IN (…)"),
        _ => diagnostic.help("split the work: name a part with CREATE STREAM or CREATE VIEW and query that"),
    }
}

fn opens_type(token: &Token) -> bool {
    ["array", "struct", "map", "row", "list"].iter().any(|name| is_word(token, name))
}

fn count_chain(level: Option<&mut Level>, token: &Token) -> usize {
    let Some(level) = level else { return 0 };
    match token {
        Token::Comma | Token::SemiColon => *level = Level::default(),
        _ if is_operator(token) => level.arithmetic += 1,
        Token::Word(_) => match word(token).as_deref() {
            Some("and" | "or" | "xor") => {
                level.logic += 1;
                level.arithmetic = 0;
            }
            Some("is" | "like" | "ilike" | "in" | "between" | "collate") => level.arithmetic += 1,
            Some(
                "select" | "from" | "where" | "group" | "having" | "union" | "when" | "then" | "else" | "order"
                | "limit",
            ) => *level = Level::default(),
            _ => {}
        },
        _ => {}
    }
    level.logic.max(level.arithmetic)
}

fn is_punctuation(token: &Token) -> bool {
    matches!(
        token,
        Token::Comma
            | Token::Period
            | Token::SemiColon
            | Token::LParen
            | Token::RParen
            | Token::LBracket
            | Token::RBracket
            | Token::LBrace
            | Token::RBrace
            | Token::EOF
    )
}

fn is_operator(token: &Token) -> bool {
    !is_punctuation(token)
        && !matches!(
            token,
            Token::Word(_)
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::DoubleQuotedString(_)
                | Token::DollarQuotedString(_)
                | Token::EscapedStringLiteral(_)
                | Token::UnicodeStringLiteral(_)
                | Token::NationalStringLiteral(_)
                | Token::HexStringLiteral(_)
                | Token::SingleQuotedByteStringLiteral(_)
                | Token::DoubleQuotedByteStringLiteral(_)
                | Token::SingleQuotedRawStringLiteral(_)
                | Token::DoubleQuotedRawStringLiteral(_)
                | Token::Placeholder(_)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sql: &str) -> Option<String> {
        let text = Text::read(sql).expect("reads");
        check_shape(&text).err().map(|diagnostic| {
            assert_eq!(diagnostic.code, "limit");
            diagnostic.message
        })
    }

    #[test]
    fn chains_depth_and_unions_are_capped() {
        let chain = |terms: usize| format!("SELECT {} FROM t", vec!["1"; terms].join("+"));
        assert_eq!(refused(&chain(501)), None);
        assert!(refused(&chain(502)).is_some_and(|message| message.contains("chain")));
        let or = |terms: usize| format!("SELECT 1 FROM t WHERE {}", vec!["a = 1"; terms].join(" OR "));
        assert_eq!(refused(&or(490)), None);
        assert!(refused(&or(502)).is_some());
        let deep = |levels: usize| format!("SELECT {}1{}", "(".repeat(levels), ")".repeat(levels));
        assert_eq!(refused(&deep(50)), None);
        assert!(refused(&deep(51)).is_some_and(|message| message.contains("nesting")));
        let unions = |count: usize| vec!["SELECT a FROM t"; count + 1].join(" UNION ALL ");
        assert_eq!(refused(&unions(32)), None);
        assert!(refused(&unions(33)).is_some_and(|message| message.contains("set operations")));
        assert!(refused(&format!("SELECT {}a FROM t", "NOT ".repeat(60))).is_some());
        assert!(refused(&format!("SELECT {}1 FROM t", "- ".repeat(60))).is_some());
        let list = format!("SELECT 1 FROM t WHERE a IN ({})", vec!["1"; 2_000].join(","));
        assert!(refused(&list).is_some_and(|message| message.contains("names, literals")));
        assert!(refused(&format!("SELECT {}1{} FROM t", "CASE WHEN a THEN ".repeat(51), " END".repeat(51))).is_some());
    }
}
