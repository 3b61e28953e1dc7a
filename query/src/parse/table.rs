//! What tables with a key have beside sources: `PRIMARY KEY` where they are made, `FOR SYSTEM_TIME AS OF` where they are
//! joined.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::create::Columns;
use super::{Reader, Reads, expected, unsupported};
use crate::diagnostic::{Diagnostic, Span};
use crate::statement::PrimaryKey;
use crate::text::{Text, is_word};

/// Name of the call that `FOR SYSTEM_TIME AS OF a.ts` is written as, behind the table's name: `t (__as_of(a.ts))`.
pub(crate) const AS_OF: &str = "__as_of";

impl Columns {
    pub(super) fn set_key(&mut self, key: PrimaryKey) -> Reads<()> {
        if self.key.is_some() {
            return Err(Diagnostic::new("invalid", "there are two primary keys")
                .at(key.span)
                .help("a key of several columns is one clause: PRIMARY KEY (a, b)"));
        }
        self.key = Some(key);
        Ok(())
    }
}

impl Reader<'_> {
    /// `[CONSTRAINT name] PRIMARY KEY (a, b) [NOT ENFORCED]` among the columns; `None`: something else stands there.
    pub(super) fn key_clause(&mut self) -> Reads<Option<PrimaryKey>> {
        let start = self.here();
        let word_at = |reader: &Self, at: usize, word: &str| is_word(&reader.parser.peek_nth_token(at).token, word);
        if word_at(self, 0, "constraint") && word_at(self, 2, "primary") {
            self.parser.next_token();
            self.parser.next_token();
        }
        if !(word_at(self, 0, "primary") && word_at(self, 1, "key")) {
            return Ok(None);
        }
        self.parser.next_token();
        self.parser.next_token();
        self.expect(&Token::LParen)?;
        let mut columns: Vec<String> = Vec::new();
        loop {
            let (name, at) = self.name("a column of the key")?;
            if columns.contains(&name) {
                return Err(Diagnostic::new("invalid", format!("\"{name}\" stands twice in the key"))
                    .at(at)
                    .help("name each column of the key once"));
            }
            columns.push(name);
            if self.parser.consume_token(&Token::RParen) {
                break;
            }
            if !self.parser.consume_token(&Token::Comma) {
                return Err(self.expected("\",\" or \")\""));
            }
        }
        let span = self.since(start);
        self.not_enforced()?;
        Ok(Some(PrimaryKey { columns, span }))
    }

    /// `PRIMARY KEY [NOT ENFORCED]` behind a column.
    pub(super) fn primary_key_words(&mut self) -> Reads<Option<Span>> {
        let start = self.here();
        self.expect_word("primary")?;
        self.expect_word("key")?;
        let span = self.since(start);
        self.not_enforced()?;
        Ok(span)
    }

    /// As Flink has it: nobody checks keys here either.
    fn not_enforced(&mut self) -> Reads<()> {
        if is_word(&self.parser.peek_nth_token(1).token, "enforced") && self.take("not") {
            self.expect_word("enforced")?;
        }
        Ok(())
    }

    /// From a place to the token that was read last.
    fn since(&self, start: Option<Span>) -> Option<Span> {
        let end = self.text.span(self.parser.get_current_token().span).or(start)?;
        Some(Span { start: start?.start, end: end.end })
    }
}

/// `t FOR SYSTEM_TIME AS OF a.ts [AS s]`, or with the other name before it, as `t (__as_of(a.ts)) [AS s]`. Other tokens
/// stay, and all keep their places.
pub(super) fn with_versions(tokens: Vec<TokenWithSpan>, text: &Text<'_>) -> Reads<Vec<TokenWithSpan>> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let word = |ahead: usize, word: &str| tokens.get(at + ahead).is_some_and(|next| is_word(&next.token, word));
        if !(word(0, "for")
            && ["system_time", "version", "timestamp"].iter().any(|kind| word(1, kind))
            && word(2, "as"))
        {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        if !word(1, "system_time") {
            let said = text.span(tokens[at + 1].span);
            return Err(unsupported("a table is looked up as it stands: it has no other versions", said)
                .help("write FOR SYSTEM_TIME AS OF a.ts, or leave it out"));
        }
        let end = moment(&tokens, at + 4);
        if !word(3, "of") || end == at + 4 {
            let found = tokens.get(at + 3 + usize::from(word(3, "of")));
            let mistake = match found {
                Some(found) => expected("a column of event time or PROCTIME()", found, text),
                None => Diagnostic::new("syntax", "expected a column of event time or PROCTIME(), found the end")
                    .at(text.end_span()),
            };
            return Err(mistake.help("write JOIN t FOR SYSTEM_TIME AS OF a.ts ON a.id = t.id"));
        }
        let like = |token: Token| TokenWithSpan { token, span: tokens[at].span };
        let name = Word { value: AS_OF.to_owned(), quote_style: None, keyword: Keyword::NoKeyword };
        let mut call: Vec<TokenWithSpan> = [Token::LParen, Token::Word(name), Token::LParen].map(like).into();
        call.extend_from_slice(&tokens[at + 4..end]);
        call.extend([Token::RParen, Token::RParen].map(like));
        let place = behind_name(&out);
        out.splice(place..place, call);
        at = end;
    }
    Ok(out)
}

/// Behind `a.ts`, `ts` or `PROCTIME()` that starts at `at`; `at` itself when nothing such does.
fn moment(tokens: &[TokenWithSpan], at: usize) -> usize {
    let is = |place: usize, wanted: &Token| tokens.get(place).is_some_and(|token| token.token == *wanted);
    let is_name = |place: usize| tokens.get(place).is_some_and(|token| matches!(token.token, Token::Word(_)));
    if !is_name(at) {
        return at;
    }
    let mut end = at + 1;
    while is(end, &Token::Period) && is_name(end + 1) {
        end += 2;
    }
    if is(end, &Token::LParen) && is(end + 1, &Token::RParen) { end + 2 } else { end }
}

/// Where a table's name ends, when nothing but another name for it follows.
fn behind_name(tokens: &[TokenWithSpan]) -> usize {
    let end = tokens.len();
    let before = |back: usize| end.checked_sub(back).map(|at| &tokens[at].token);
    match before(2) {
        Some(token) if is_word(token, "as") => end - 2,
        Some(token @ Token::Word(_)) if !["join", "from"].iter().any(|word| is_word(token, word)) => end - 1,
        _ => end,
    }
}
