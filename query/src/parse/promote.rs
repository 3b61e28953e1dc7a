//! `CREATE STREAM name [WITH (…)] FROM QUERY id`: a live query becomes a named stream while it runs.

use super::{EmitKind, Parsed, Reader, Reads, emit, limit, since, state_ttl};
use crate::diagnostic::Span;
use crate::statement::Promote;
use crate::text::Text;

impl Reader<'_> {
    /// What follows the name and the options.
    pub(super) fn promote(&mut self, name: String) -> Reads<Parsed> {
        let end = self.here().map_or(0, |from| from.start);
        let head = self.text.slice(Span { start: 0, end });
        self.expect_word("from")?;
        if !self.take("query") {
            let help =
                "CREATE STREAM name FROM QUERY 'q17' keeps a live query; CREATE STREAM name AS SELECT … makes one";
            return Err(self.expected("QUERY").help(help));
        }
        let start = self.here();
        let query = self.query_id(None)?;
        let span = match (start, self.text.end_span()) {
            (Some(start), Some(end)) => Some(Span { start: start.start, end: end.end }),
            (start, _) => start,
        };
        self.end_without_emit().map_err(|mistake| mistake.help("CREATE STREAM name FROM QUERY 'q17' is all"))?;
        Ok(Parsed::Promote(Promote { name, head, query, span }))
    }
}

/// A query's text without what belongs to its reader: when it is told, where it starts, and how many rows are wanted.
pub(crate) fn without_reader(text: &Text<'_>) -> Reads<String> {
    let (tokens, _) = state_ttl::cut(text)?;
    let (tokens, told) = emit::cut(tokens, text)?;
    let (tokens, from) = since::cut(text, tokens)?;
    let (_, first) = limit::cut(tokens, text)?;
    // How long windows wait belongs to the query.
    let told = told.filter(|told| !matches!(told.kind, EmitKind::OnWindowClose { .. })).and_then(|told| told.span);
    let from = from.and_then(|from| from.span);
    let first = first.and_then(|first| first.span);
    let mut cuts: Vec<Span> = told.into_iter().chain(from).chain(first).collect();
    cuts.sort_by_key(|cut| cut.start);
    let (mut out, mut start) = (String::new(), 0);
    for cut in cuts {
        out.push_str(text.slice(Span { start, end: cut.start }).trim_end());
        out.push(' ');
        start = cut.end;
    }
    out.push_str(&text.slice(Span { start, end: text.sql().len() }));
    Ok(out.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_what_its_reader_chose() {
        let plain = |sql: &str| without_reader(&Text::read(sql).expect("tokens")).expect("reads");
        assert_eq!(plain("SELECT n FROM a SINCE '5m' WHERE n > 1"), "SELECT n FROM a WHERE n > 1");
        assert_eq!(
            plain("SELECT count(*) FROM a SINCE EARLIEST GROUP BY tumble('1s') EMIT EVERY '1s'"),
            "SELECT count(*) FROM a GROUP BY tumble('1s')"
        );
        let graced = "SELECT count(*) FROM a GROUP BY tumble('1s') EMIT ON WINDOW CLOSE GRACE '1s'";
        assert_eq!(plain(graced), graced);
        assert_eq!(plain("SELECT 'EMIT CHANGES' AS since FROM a"), "SELECT 'EMIT CHANGES' AS since FROM a");
        assert_eq!(plain("SELECT n FROM a LIMIT 3 EMIT CHANGES"), "SELECT n FROM a");
        assert_eq!(plain("SELECT n FROM a SINCE '5m' EMIT CHANGES LIMIT 3"), "SELECT n FROM a");
        assert_eq!(plain("SELECT n FROM a FETCH FIRST ROW ONLY"), "SELECT n FROM a");
        let top = "SELECT count(*) AS n FROM a GROUP BY k, tumble('1s') ORDER BY n LIMIT 3";
        assert_eq!(plain(&format!("{top} EMIT CHANGES")), top);
        let kept = "SELECT k, count(*) AS n FROM a GROUP BY k STATE TTL '1h'";
        assert_eq!(plain(&format!("{kept} EMIT CHANGES")), kept);
    }
}
