//! `TABLESAMPLE BERNOULLI (p) BY (keys)`: the keys move to the percentage, where the parser takes any expression.

use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::bind::SAMPLE_BY;
use crate::text::is_word;

/// The tokens with `(__sample_by(p, keys))` in the place of `(p) BY (keys)`; REPEATABLE may stand on either side.
pub(super) fn with_keys(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "tablesample")) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 4);
    let mut at = 0;
    while at < tokens.len() {
        out.push(tokens[at].clone());
        at += 1;
        if !is_word(&tokens[at - 1].token, "tablesample") {
            continue;
        }
        if tokens.get(at).is_some_and(|next| matches!(next.token, Token::Word(_))) {
            out.push(tokens[at].clone());
            at += 1;
        }
        let Some(percent) = group(&tokens, at) else { continue };
        let mut behind = percent;
        let seed = tokens.get(percent).is_some_and(|next| is_word(&next.token, "repeatable"));
        if seed && let Some(end) = group(&tokens, percent + 1) {
            behind = end;
        }
        let by = tokens.get(behind).is_some_and(|next| is_word(&next.token, "by"));
        let Some(keys) = group(&tokens, behind + 1).filter(|_| by) else { continue };
        out.push(tokens[at].clone());
        out.extend(call());
        out.extend_from_slice(&tokens[at..percent - 1]);
        out.push(TokenWithSpan::new(Token::Comma, tokens[behind].span));
        out.extend_from_slice(&tokens[behind + 2..keys]);
        out.push(tokens[keys - 1].clone());
        out.extend_from_slice(&tokens[percent..behind]);
        at = keys;
    }
    out
}

fn call() -> Vec<TokenWithSpan> {
    Tokenizer::new(&GenericDialect {}, SAMPLE_BY).tokenize_with_location().unwrap_or_default()
}

/// Behind the bracket that closes the one at `at`.
fn group(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    if !matches!(tokens.get(at)?.token, Token::LParen) {
        return None;
    }
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place + 1);
        }
    }
    None
}
