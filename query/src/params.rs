//! Parameters: `$name` in a statement, whose values are given with it.
//!
//! A value takes the parameter's place among the tokens, as the literal that it is: it can never become a name or a
//! clause. Its type follows from where it stands, as that of any literal, or from a cast: `$name::BIGINT`.

use std::collections::{BTreeMap, BTreeSet};

use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::diagnostic::{Diagnostic, Span};
use crate::suggest;

/// Values by the parameters' names, without the `$`.
pub type Params = BTreeMap<String, ParamValue>;

/// Places of parameters, and the text that stands there now.
pub(crate) type Placed = Vec<(Span, String)>;

/// What a parameter stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamValue {
    /// NULL.
    Null,
    /// TRUE or FALSE.
    Boolean(bool),
    /// A number as SQL writes it, its sign included.
    Number(String),
    /// A text; also an interval or a time where one is wanted.
    Text(String),
}

impl ParamValue {
    /// A number when it reads as one, else a text: what a person types.
    pub fn typed(text: &str) -> Self {
        let number = Self::Number(text.to_owned());
        if number.tokens().is_some() { number } else { Self::Text(text.to_owned()) }
    }

    /// The literal's tokens; `None` when it is none.
    fn tokens(&self) -> Option<Vec<Token>> {
        Some(match self {
            Self::Null => vec![Token::make_keyword("NULL")],
            Self::Boolean(true) => vec![Token::make_keyword("TRUE")],
            Self::Boolean(false) => vec![Token::make_keyword("FALSE")],
            Self::Text(text) => vec![Token::SingleQuotedString(text.clone())],
            Self::Number(number) => {
                let digits = number.strip_prefix('-').unwrap_or(number);
                let plain = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
                if !plain || digits.parse::<f64>().ok().is_none_or(|value| !value.is_finite()) {
                    return None;
                }
                let digits = Token::Number(digits.to_owned(), false);
                if number.starts_with('-') {
                    vec![Token::LParen, Token::Minus, digits, Token::RParen]
                } else {
                    vec![digits]
                }
            }
        })
    }

    /// The literal as text.
    fn sql(&self) -> String {
        match self {
            Self::Null => "NULL".into(),
            Self::Boolean(value) => value.to_string(),
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Self::Number(number) if number.starts_with('-') => format!("({number})"),
            Self::Number(number) => number.clone(),
        }
    }
}

/// Puts values in the place of parameters. Given back are the tokens, and for each parameter its place and what stands
/// there now.
///
/// # Errors
/// Parameters without a value, values without a parameter, numbers that are none.
pub(crate) fn put_in_place(
    tokens: Vec<TokenWithSpan>,
    params: &Params,
    place: &dyn Fn(&TokenWithSpan) -> Option<Span>,
) -> Result<(Vec<TokenWithSpan>, Placed), Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let mut used = BTreeSet::new();
    let mut placed = Vec::new();
    let mut out = Vec::with_capacity(tokens.len());
    for token in tokens {
        let Some(name) = name(&token.token) else {
            out.push(token);
            continue;
        };
        let at = place(&token);
        let Some(value) = params.get(&name) else {
            mistakes.push(missing(&name, params, at));
            continue;
        };
        used.insert(name.clone());
        match value.tokens() {
            Some(literal) => {
                placed.extend(at.map(|at| (at, value.sql())));
                out.extend(literal.into_iter().map(|literal| TokenWithSpan { token: literal, span: token.span }));
            }
            None => {
                let message = format!("the value of parameter ${name} is not a number: {}", value.sql());
                mistakes.push(
                    Diagnostic::new("parameter", message)
                        .at(at)
                        .help("a parameter behind INTERVAL, LIMIT and the like is given as a number"),
                );
            }
        }
    }
    for name in params.keys().filter(|name| !used.contains(*name)) {
        let mistake =
            Diagnostic::new("parameter", format!("a value is given for ${name}, which the statement does not have"));
        mistakes.push(mistake.help("leave it out, or write the parameter where the value is to stand"));
    }
    if mistakes.is_empty() { Ok((out, placed)) } else { Err(mistakes) }
}

/// Names of the parameters among tokens.
pub(crate) fn names(tokens: &[TokenWithSpan]) -> BTreeSet<String> {
    tokens.iter().filter_map(|token| name(&token.token)).collect()
}

fn name(token: &Token) -> Option<String> {
    match token {
        Token::Placeholder(name) => Some(name.trim_start_matches(['$', ':', '?']).to_owned()),
        _ => None,
    }
}

fn missing(name: &str, params: &Params, at: Option<Span>) -> Diagnostic {
    let mistake = Diagnostic::new("parameter", format!("parameter ${name} has no value")).at(at);
    match suggest::nearest(name, params.keys().map(String::as_str)) {
        Some(nearest) => mistake.help(format!("a value is given for ${nearest}")),
        None => mistake.help("give it with the statement: \"params\": {…} in a request, --param name=value in a shell"),
    }
}
