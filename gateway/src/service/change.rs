//! Parameters of a query that runs: which may change, and what the query is with other values.

use squilla_query::{Diagnostic, Params, Query, Span};

use super::{Refusal, Service};

impl Service {
    /// The live query `sql` with the values `new` instead of `old`, to be read on from where the old one is.
    ///
    /// # Errors
    /// Mistakes of the query with the new values; a value on which more than filters depends, by name.
    pub async fn with_other_params(&self, sql: &str, old: &Params, new: &Params) -> Result<Query, Refusal> {
        let (before, after) = (self.query(sql, old).await?, self.query(sql, new).await?);
        if before.differs_in_filters_alone(&after) {
            return Ok(after);
        }
        let mut fixed = None;
        for (name, value) in new.iter().filter(|(name, value)| old.get(*name) != Some(value)) {
            let mut one = old.clone();
            one.insert(name.clone(), value.clone());
            let alone = self.query(sql, &one).await;
            if alone.is_ok_and(|alone| !before.differs_in_filters_alone(&alone)) {
                fixed = Some(name);
                break;
            }
        }
        let message = match fixed {
            Some(name) => {
                format!("parameter ${name} cannot change while the query runs: more than filters depends on it")
            }
            None => "these parameters cannot change while the query runs: more than filters depends on them".to_owned(),
        };
        let mistake = Diagnostic::new("parameter", message).at(fixed.and_then(|name| place_of(name, sql)));
        Err(Refusal::mistake(mistake.help(
            "subscribe again with the other value: windows, keys, columns, results that change, and what is counted or \
             joined are made with the value that they had",
        )))
    }
}

fn place_of(name: &str, sql: &str) -> Option<Span> {
    let wanted = format!("${name}");
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let found = sql.match_indices(&wanted).find(|(at, _)| !sql.as_bytes().get(at + wanted.len()).is_some_and(is_word));
    found.map(|(start, _)| Span { start, end: start + wanted.len() })
}
