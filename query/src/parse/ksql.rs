//! Windows as ksqlDB spells them: `FROM t WINDOW TUMBLING (SIZE 1 MINUTE) … GROUP BY k` is read as
//! `GROUP BY tumble('1 minute'), k`, and `WINDOWSTART` and `WINDOWEND` as the bounds of the window.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::Reads;
use super::emit::Clause;
use crate::diagnostic::Diagnostic;
use crate::text::{Text, is_word};

/// Names of a window's bounds in ksqlDB, and here.
const BOUNDS: [(&str, &str); 2] = [("windowstart", crate::WINDOW_START), ("windowend", crate::WINDOW_END)];
const HELP: &str = "write WINDOW TUMBLING (SIZE 1 MINUTE), HOPPING (SIZE 1 MINUTE, ADVANCE BY 10 SECONDS) or SESSION \
                    (30 SECONDS); EMIT ON WINDOW CLOSE GRACE INTERVAL '1 minute' waits for late rows";

/// The tokens with those windows in GROUP BY.
pub(super) fn into_group_by(mut tokens: Vec<TokenWithSpan>, text: &Text<'_>) -> Reads<Vec<TokenWithSpan>> {
    let mut any = false;
    while let Some(at) = (0..tokens.len()).find(|at| opens(&tokens, *at)) {
        let mut clause = Clause { text, tokens: &tokens, at: at + 1 };
        let call = clause.window()?;
        let end = clause.at;
        let Some(by) = group_by(&tokens, end) else {
            let mistake =
                Diagnostic::new("invalid", "a WINDOW clause goes with GROUP BY").at(text.span(tokens[at].span));
            return Err(mistake.help("write FROM t WINDOW TUMBLING (SIZE 1 MINUTE) GROUP BY k"));
        };
        let span = tokens[at].span;
        let call = call.into_iter().map(|token| TokenWithSpan { token, span });
        tokens.splice(by..by, call);
        tokens.drain(at..end);
        any = true;
    }
    if any {
        for token in &mut tokens {
            let bound = BOUNDS.iter().find(|(name, _)| is_word(&token.token, name));
            if let Some((_, ours)) = bound {
                token.token = name(ours);
            }
        }
    }
    Ok(tokens)
}

/// `WINDOW TUMBLING (` and its like.
fn opens(tokens: &[TokenWithSpan], at: usize) -> bool {
    let is = |at: usize, words: &[&str]| words.iter().any(|word| is_word(&tokens[at].token, word));
    at + 2 < tokens.len()
        && is(at, &["window"])
        && is(at + 1, &["tumbling", "hopping", "session"])
        && tokens[at + 2].token == Token::LParen
}

/// The place behind the next `GROUP BY` of the same query.
fn group_by(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for at in from..tokens.len() {
        match tokens[at].token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.checked_sub(1)?,
            _ => {}
        }
        let by = tokens.get(at + 1).is_some_and(|next| is_word(&next.token, "by"));
        if depth == 0 && by && is_word(&tokens[at].token, "group") {
            return Some(at + 2);
        }
    }
    None
}

impl Clause<'_> {
    /// What stands behind WINDOW, as a call with a comma behind it.
    fn window(&mut self) -> Reads<Vec<Token>> {
        let kind = ["tumbling", "hopping"].iter().find(|kind| self.take(kind)).copied().unwrap_or("session");
        self.at += usize::from(kind == "session") + 1;
        let (function, lengths) = match kind {
            "tumbling" => {
                self.words(&["size"])?;
                ("tumble", vec![self.length()?])
            }
            "hopping" => {
                self.words(&["size"])?;
                let size = self.length()?;
                if self.tokens.get(self.at).is_some_and(|token| token.token == Token::Comma) {
                    self.at += 1;
                }
                self.words(&["advance", "by"])?;
                ("hop", vec![self.length()?, size])
            }
            _ => ("session", vec![self.length()?]),
        };
        if self.tokens.get(self.at).is_none_or(|token| token.token != Token::RParen) {
            return Err(self.expected("\")\"").help(HELP));
        }
        self.at += 1;
        let mut call = vec![name(function), Token::LParen];
        for (at, length) in lengths.into_iter().enumerate() {
            call.extend((at > 0).then_some(Token::Comma));
            call.push(Token::SingleQuotedString(length));
        }
        call.extend([Token::RParen, Token::Comma]);
        Ok(call)
    }

    fn words(&mut self, words: &[&str]) -> Reads<()> {
        match words.iter().find(|word| !self.take(word)) {
            Some(word) => Err(self.expected(&word.to_uppercase()).help(HELP)),
            None => Ok(()),
        }
    }

    /// `30 SECONDS`.
    fn length(&mut self) -> Reads<String> {
        let at = |at: usize| self.tokens.get(at).map(|token| &token.token);
        match (at(self.at), at(self.at + 1)) {
            (Some(Token::Number(count, _)), Some(Token::Word(unit))) => {
                let length = format!("{count} {}", unit.value.to_lowercase());
                self.at += 2;
                Ok(length)
            }
            _ => Err(self.expected("a length of time").help(HELP)),
        }
    }
}

fn name(value: &str) -> Token {
    Token::Word(Word { value: value.to_owned(), quote_style: None, keyword: Keyword::NoKeyword })
}
