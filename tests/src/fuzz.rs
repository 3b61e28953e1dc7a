//! What a fuzzer runs: any bytes are a script or a seed, and nothing may make planning panic.

use std::sync::LazyLock;

use squilla_query::{analyze, split_statements};

use crate::names::Names;
use crate::random::Random;
use crate::statements::{RELATIONS, Statements};

/// What statements may read.
static KNOWN: LazyLock<Names> = LazyLock::new(|| Names::of(&RELATIONS));

/// Statements of a script that are planned; more of them show nothing new.
const MAX_STATEMENTS: usize = 8;

/// Plans the script that the bytes are, each statement with what those before it define; and a statement drawn from the
/// bytes as a seed. Of a case file the script is taken.
///
/// # Panics
/// If a statement is refused without a word, or at a place that is not in its text.
pub fn plan(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let script = text.split_once("=== sql\n").map_or(text, |(_, rest)| rest.split("\n=== ").next().unwrap_or(rest));
        let names = KNOWN.clone();
        check(script, &names);
        for statement in split_statements(script).unwrap_or_default().iter().take(MAX_STATEMENTS) {
            check(&statement.sql, &names);
        }
    }
    if let Some(seed) = data.first_chunk::<8>() {
        let sql = Statements::new(&mut Random::new(u64::from_le_bytes(*seed))).statement();
        check(&sql, &KNOWN.clone());
    }
}

fn check(sql: &str, names: &Names) {
    match analyze(sql, names) {
        Ok(statement) => names.define(&statement),
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused without a word: {sql}");
            for mistake in mistakes {
                assert_ne!(mistake.code, "internal", "{mistake:?} for {sql}");
                let inside = |span: squilla_query::Span| sql.get(span.start..span.end).is_some();
                assert!(mistake.span.is_none_or(inside), "the place is not in the text: {mistake:?} for {sql}");
            }
        }
    }
}
