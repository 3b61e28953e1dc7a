//! `PARTITION BY` among the arguments of a window table function and `FILL` behind GROUP BY, which `sqlparser` does not
//! read, written as calls.

use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::text::is_word;

/// Name of the call that `PARTITION BY a, b` is written as.
pub(crate) const PARTITION_BY: &str = "__partition_by";

/// Name of the call, the last in a GROUP BY, that `FILL (…)` is written as.
pub(crate) const FILL: &str = "__fill";

const WINDOW_FUNCTIONS: [&str; 5] = ["tumble", "hop", "session", "cumulate", "count_window"];

/// True right behind `TUMBLE(` and its like, and behind `DATA =>`.
pub(super) fn names_relation(tokens: &[TokenWithSpan], at: usize) -> bool {
    let named = || matches!(tokens[at - 1].token, Token::RArrow) && is_word(&tokens[at - 2].token, "data");
    opens_windows(tokens, at) || (at >= 2 && named())
}

/// True right behind `TUMBLE(` and its like.
fn opens_windows(tokens: &[TokenWithSpan], at: usize) -> bool {
    at >= 2
        && matches!(tokens[at - 1].token, Token::LParen)
        && WINDOW_FUNCTIONS.iter().any(|name| is_word(&tokens[at - 2].token, name))
}

/// `GROUP BY a FILL (0)` as `GROUP BY a, __fill(0)`, and `SESSION(TABLE t PARTITION BY a, b, DESCRIPTOR(ts), gap)` as `SESSION(TABLE t, __partition_by(a, b), DESCRIPTOR(ts),
/// gap)`. Other tokens stay, and all keep their places.
pub(super) fn as_calls(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // For each open parenthesis whether it is a window function's, and the innermost call that is being written.
    let mut open: Vec<bool> = Vec::new();
    let mut writing: Option<usize> = None;
    let mut grouped = false;
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        let here = open.last() == Some(&true);
        let like = |kind: Token| TokenWithSpan { token: kind, span: token.span };
        if writing == Some(open.len()) {
            let ends = match token.token {
                Token::Comma => {
                    let named = tokens.get(at + 2).is_some_and(|next| matches!(next.token, Token::RArrow));
                    named || tokens.get(at + 1).is_none_or(starts_lengths)
                }
                Token::RParen => true,
                _ => false,
            };
            if ends {
                out.push(like(Token::RParen));
                writing = None;
            }
        }
        let by = tokens.get(at + 1).is_some_and(|next| is_word(&next.token, "by"));
        if here && writing.is_none() && by && is_word(&token.token, "partition") {
            let name = Word { value: PARTITION_BY.to_owned(), quote_style: None, keyword: no_keyword() };
            out.extend([Token::Comma, Token::Word(name), Token::LParen].map(like));
            writing = Some(open.len());
            at += 2;
            continue;
        }
        grouped |= is_word(&token.token, "group");
        let before = at.checked_sub(1).map(|before| &tokens[before].token);
        let item_ends = before.is_some_and(|before| !matches!(before, Token::Comma | Token::LParen | Token::Period));
        let call_follows = tokens.get(at + 1).is_some_and(|next| matches!(next.token, Token::LParen));
        if grouped && item_ends && call_follows && is_word(&token.token, "fill") {
            let name = Word { value: FILL.to_owned(), quote_style: None, keyword: no_keyword() };
            out.extend([Token::Comma, Token::Word(name)].map(like));
            at += 1;
            continue;
        }
        match token.token {
            Token::LParen => open.push(opens_windows(&tokens, at + 1)),
            Token::RParen => {
                open.pop();
            }
            _ => {}
        }
        out.push(token.clone());
        at += 1;
    }
    out
}

fn no_keyword() -> datafusion_sql::sqlparser::keywords::Keyword {
    datafusion_sql::sqlparser::keywords::Keyword::NoKeyword
}

/// True for what stands behind the partitions: `DESCRIPTOR(…)`, a length or a number.
fn starts_lengths(token: &TokenWithSpan) -> bool {
    is_word(&token.token, "descriptor")
        || is_word(&token.token, "interval")
        || matches!(token.token, Token::Number(..) | Token::SingleQuotedString(_))
}
