//! The clauses and statements of the language as editors tell them: how each is written, what it does, an example.

use ClausePlace::{End, From, Group, Select, Statement, With};

/// Where a clause stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClausePlace {
    /// At the start of a statement.
    Statement,
    /// In the SELECT list, behind an aggregate.
    Select,
    /// In FROM, behind a relation's name or in its place.
    From,
    /// Behind the keys of GROUP BY.
    Group,
    /// At the end of a query.
    End,
    /// In or before the options of a definition.
    With,
}

/// A clause or statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ClauseInfo {
    /// What is typed first, in capitals.
    pub name: &'static str,
    /// Where it stands.
    pub place: ClausePlace,
    /// How it is written.
    pub syntax: &'static str,
    /// What it does, in a line.
    pub description: &'static str,
    /// A statement that has it, over `bids (auction, bidder, price, channel, ts)` and the stream `minutes`.
    pub example: &'static str,
}

const fn clause(
    name: &'static str,
    place: ClausePlace,
    syntax: &'static str,
    description: &'static str,
    example: &'static str,
) -> ClauseInfo {
    ClauseInfo { name, place, syntax, description, example }
}

/// All of them; those that stand at one place in the order in which they are offered.
pub fn clauses() -> Vec<ClauseInfo> {
    [&STATEMENTS[..], &FROMS, &SELECTS, &GROUPS, &ENDS, &WITHS].concat()
}

const STATEMENTS: [ClauseInfo; 17] = [
    clause(
        "SELECT",
        Statement,
        "SELECT … FROM … [WHERE …] [GROUP BY …] [HAVING …] [EMIT …]",
        "A live query: it runs until it is stopped.",
        "SELECT auction, price FROM bids WHERE price > 100",
    ),
    clause(
        "CREATE SOURCE",
        Statement,
        "CREATE SOURCE name (column TYPE, …, WATERMARK FOR ts AS ts - INTERVAL '2 seconds') WITH (connector = '…', …)",
        "Rows from outside. Columns may be left out where the connector knows them or events define them.",
        "CREATE SOURCE clicks (who VARCHAR, ts TIMESTAMP) WITH (connector = 'http')",
    ),
    clause(
        "CREATE STREAM",
        Statement,
        "CREATE STREAM name [WITH (durability = 'durable', …)] AS SELECT …",
        "A named query that runs by itself, is run once for all who read it, and is read like a source.",
        "CREATE STREAM dear WITH (retention = '1h') AS SELECT * FROM bids WHERE price > 1000",
    ),
    clause(
        "CREATE STREAM FROM QUERY",
        Statement,
        "CREATE STREAM name FROM QUERY 'id'",
        "Names a live query while it runs; it keeps what it has counted so far.",
        "CREATE STREAM watched FROM QUERY 'q17'",
    ),
    clause(
        "CREATE TABLE",
        Statement,
        "CREATE TABLE name (id BIGINT, …, PRIMARY KEY (id)) WITH (connector = '…', …)",
        "The latest row of each key, to look up in.",
        "CREATE TABLE people (id BIGINT, name VARCHAR, PRIMARY KEY (id)) WITH (connector = 'http')",
    ),
    clause(
        "CREATE VIEW",
        Statement,
        "CREATE VIEW name AS SELECT …",
        "A name for a query's text; it runs where it is read.",
        "CREATE VIEW cheap AS SELECT * FROM bids WHERE price < 10",
    ),
    clause(
        "CREATE SINK",
        Statement,
        "CREATE SINK name WITH (connector = '…', …) AS SELECT …",
        "Writes a query's rows to the outside as they come.",
        "CREATE SINK kept WITH (connector = 'file', path = 'kept.ndjson') AS SELECT * FROM bids",
    ),
    clause(
        "INSERT INTO",
        Statement,
        "INSERT INTO sink SELECT …",
        "Writes a query's rows to a sink that is there.",
        "INSERT INTO out SELECT * FROM bids",
    ),
    clause(
        "EXPLAIN",
        Statement,
        "EXPLAIN SELECT …",
        "What would run, what it keeps, and what it would share with others.",
        "EXPLAIN SELECT channel, count(*) FROM bids GROUP BY channel, tumble('10s')",
    ),
    clause(
        "EXPLAIN ANALYZE",
        Statement,
        "EXPLAIN ANALYZE ['5s'] SELECT …",
        "Runs the query for some seconds and tells rows, bytes, state and time of each job.",
        "EXPLAIN ANALYZE '5s' SELECT channel, count(*) FROM bids GROUP BY channel, tumble('10s')",
    ),
    clause(
        "SHOW",
        Statement,
        "SHOW STREAMS | SOURCES | TABLES | SINKS | VIEWS | QUERIES | JOBS | LOSSES",
        "What there is, what runs, and who has lost rows.",
        "SHOW JOBS",
    ),
    clause(
        "DESCRIBE",
        Statement,
        "DESCRIBE name",
        "Columns, event time, options and state of a relation.",
        "DESCRIBE bids",
    ),
    clause(
        "DROP",
        Statement,
        "DROP STREAM | SOURCE | TABLE | VIEW | SINK [IF EXISTS] name [CASCADE]",
        "Ends it; with CASCADE what reads it too.",
        "DROP STREAM minutes CASCADE",
    ),
    clause(
        "ALTER STREAM",
        Statement,
        "ALTER STREAM [IF EXISTS] name AS SELECT …",
        "Gives it another query while it runs: the old one tells up to a place, the new one from there on.",
        "ALTER STREAM minutes AS SELECT auction, count(*) AS n, max(price) AS top FROM bids GROUP BY auction, tumble('1m')",
    ),
    clause(
        "PAUSE",
        Statement,
        "PAUSE STREAM name | QUERY 'id'",
        "Lets it rest: its state stays, what comes waits in the logs that it reads.",
        "PAUSE STREAM minutes",
    ),
    clause(
        "RESUME",
        Statement,
        "RESUME STREAM name [FROM LATEST] | QUERY 'id'",
        "Goes on from where it was; FROM LATEST skips what came, and counts it.",
        "RESUME STREAM minutes FROM LATEST",
    ),
    clause("KILL QUERY", Statement, "KILL QUERY 'id'", "Ends a live query for all who read it.", "KILL QUERY 'q17'"),
];

const FROMS: [ClauseInfo; 5] = [
    clause(
        "SINCE",
        From,
        "FROM s SINCE INTERVAL '5 minutes' | TIMESTAMP '…' | EARLIEST [UNTIL INTERVAL '…' | TIMESTAMP '…']",
        "Starts with what was kept, and goes on with the rows that come, or ends where UNTIL says.",
        "SELECT * FROM bids SINCE INTERVAL '5 minutes' WHERE price > 1000",
    ),
    clause(
        "TABLESAMPLE",
        From,
        "FROM s TABLESAMPLE BERNOULLI (percent) [BY (key)] [REPEATABLE (seed)]",
        "A share of the rows, or of the keys with all of their rows; counts and sums are scaled.",
        "SELECT count(*) AS n FROM bids TABLESAMPLE BERNOULLI (5) BY (bidder) GROUP BY tumble('10s')",
    ),
    clause(
        "LATE",
        From,
        "FROM LATE(stream)",
        "The rows that came too late for a named stream, with late_reason, late_by_ms and late_at.",
        "SELECT auction, late_reason, late_by_ms FROM LATE(minutes)",
    ),
    clause(
        "FOR SYSTEM_TIME AS OF",
        From,
        "JOIN table FOR SYSTEM_TIME AS OF s.ts AS t ON s.key = t.key",
        "Looks rows up in a table as it is when they come.",
        "SELECT b.price, s.name FROM bids AS b LEFT JOIN sellers FOR SYSTEM_TIME AS OF b.ts AS s ON b.auction = s.id",
    ),
    clause(
        "CROSS JOIN UNNEST",
        From,
        "FROM s CROSS JOIN UNNEST(list) [WITH ORDINALITY] AS t(element)",
        "A row for each element of a list.",
        "SELECT auction, word FROM bids CROSS JOIN UNNEST(string_to_array(channel, ' ')) AS t(word)",
    ),
];

const SELECTS: [ClauseInfo; 3] = [
    clause(
        "FILTER",
        Select,
        "aggregate(…) FILTER (WHERE …)",
        "Only rows that fit go into this aggregate.",
        "SELECT count(*) FILTER (WHERE price > 100) AS dear, count(*) AS n FROM bids GROUP BY tumble('1m')",
    ),
    clause(
        "WITHIN GROUP",
        Select,
        "approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY x)",
        "The order by which a percentile is taken.",
        "SELECT approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY price) AS p99 FROM bids GROUP BY tumble('1m')",
    ),
    clause(
        "OVER",
        Select,
        "row_number() OVER (PARTITION BY window_start, window_end ORDER BY x DESC)",
        "Numbers rows within a window, or follows a key from window to window.",
        "SELECT window_end, auction, n - lag(n) OVER (PARTITION BY auction ORDER BY window_end) AS step FROM minutes",
    ),
];

const GROUPS: [ClauseInfo; 6] = [
    clause(
        "HAVING",
        Group,
        "HAVING condition",
        "Only groups that fit.",
        "SELECT channel, count(*) AS n FROM bids GROUP BY channel, tumble('10s') HAVING count(*) > 5",
    ),
    clause(
        "FILL",
        Group,
        "FILL (NULL | 0 | PREVIOUS)",
        "A row for a known group in every window, also in those without rows.",
        "SELECT window_start, channel, count(*) AS n FROM bids GROUP BY channel, tumble('10s') FILL (0)",
    ),
    clause(
        "QUALIFY",
        Group,
        "QUALIFY condition",
        "Only rows whose rank or score fits.",
        "SELECT window_end, channel, count(*) AS n, robust_zscore(count(*), 30) AS z FROM bids GROUP BY channel, \
         tumble('1s') QUALIFY abs(z) > 3.5",
    ),
    clause(
        "ROLLUP",
        Group,
        "GROUP BY tumble('1m'), ROLLUP (a, b)",
        "Totals beside the groups.",
        "SELECT channel, count(*) AS n FROM bids GROUP BY tumble('1m'), ROLLUP (channel)",
    ),
    clause(
        "CUBE",
        Group,
        "GROUP BY tumble('1m'), CUBE (a, b)",
        "Totals over every combination of keys.",
        "SELECT channel, bidder, count(*) AS n FROM bids GROUP BY tumble('1m'), CUBE (channel, bidder)",
    ),
    clause(
        "GROUPING SETS",
        Group,
        "GROUP BY tumble('1m'), GROUPING SETS ((a), ())",
        "Several groupings in one pass.",
        "SELECT channel, count(*) AS n FROM bids GROUP BY tumble('1m'), GROUPING SETS ((channel), ())",
    ),
];

const ENDS: [ClauseInfo; 8] = [
    clause(
        "EMIT ON WINDOW CLOSE",
        End,
        "EMIT ON WINDOW CLOSE [GRACE INTERVAL '1 minute']",
        "Each window once, when no more of its rows are expected: what happens unless said otherwise.",
        "SELECT channel, count(*) AS n FROM bids GROUP BY channel, tumble('10s') EMIT ON WINDOW CLOSE",
    ),
    clause(
        "EMIT EVERY",
        End,
        "EMIT EVERY INTERVAL '1 second'",
        "Running results of the groups that changed, and final ones at a window's close.",
        "SELECT window_start, channel, count(*) AS n FROM bids GROUP BY channel, tumble('10s') EMIT EVERY INTERVAL '1 second'",
    ),
    clause(
        "EMIT CHANGES",
        End,
        "EMIT CHANGES",
        "Every change of a result as it happens.",
        "SELECT window_start, channel, count(*) AS n FROM bids GROUP BY channel, tumble('10s') EMIT CHANGES",
    ),
    clause(
        "GRACE",
        End,
        "EMIT ON WINDOW CLOSE GRACE INTERVAL '1 minute'",
        "How long after its end a window still takes late rows.",
        "SELECT channel, count(*) AS n FROM bids GROUP BY channel, tumble('10s') EMIT ON WINDOW CLOSE GRACE INTERVAL '1 minute'",
    ),
    clause(
        "STATE TTL",
        End,
        "STATE TTL INTERVAL '1 day'",
        "How long what has no windows is remembered after its last row; an hour unless said.",
        "SELECT channel, count(*) AS n FROM bids GROUP BY channel STATE TTL INTERVAL '1 day'",
    ),
    clause(
        "ORDER BY",
        End,
        "ORDER BY column [DESC] LIMIT n",
        "The first rows of each window.",
        "SELECT window_start, auction, count(*) AS n FROM bids GROUP BY auction, tumble('10s') ORDER BY n DESC LIMIT 10",
    ),
    clause(
        "LIMIT",
        End,
        "LIMIT n",
        "The first rows, then the query is complete; behind ORDER BY so many of each window.",
        "SELECT auction, price FROM bids WHERE price > 100 LIMIT 10",
    ),
    clause(
        "FETCH FIRST",
        End,
        "FETCH FIRST n ROWS ONLY | WITH TIES",
        "As LIMIT; WITH TIES, behind ORDER BY: with all that are equal to the last.",
        "SELECT auction, price FROM bids WHERE price > 100 FETCH FIRST 10 ROWS ONLY",
    ),
];

const WITHS: [ClauseInfo; 2] = [
    clause(
        "WATERMARK FOR",
        With,
        "WATERMARK FOR ts AS ts - INTERVAL '2 seconds'",
        "Which column is the event time, and how far behind the greatest one rows may come.",
        "CREATE SOURCE clicks (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds') WITH (connector = 'http')",
    ),
    clause(
        "WITH",
        With,
        "WITH (name = 'value', …)",
        "Options: of a source its connector, format and log; of a stream durability, retention and retention_size.",
        "CREATE STREAM dear WITH (durability = 'durable') AS SELECT * FROM bids WHERE price > 1000",
    ),
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;
    use crate::catalog::{Catalog, Relation, RelationKind, TimeAttribute};
    use crate::{analyze, late_name};

    struct Names(Vec<Relation>);

    impl Catalog for Names {
        fn relation(&self, name: &str) -> Option<Relation> {
            self.0.iter().find(|relation| relation.name == name).cloned()
        }

        fn names(&self) -> Vec<String> {
            self.0.iter().map(|relation| relation.name.clone()).collect()
        }
    }

    fn names() -> Names {
        let mut names = Names(Vec::new());
        for (name, columns) in [
            ("bids", "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP"),
            ("sellers", "id BIGINT PRIMARY KEY, name VARCHAR"),
        ] {
            let made = if name == "bids" { "SOURCE" } else { "TABLE" };
            let sql = format!("CREATE {made} {name} ({columns}) WITH (connector = 'x')");
            let Ok(crate::Statement::CreateSource(created)) = analyze(&sql, &names) else { panic!("{sql}") };
            let schema = created.visible(created.schema.as_ref().expect("columns"));
            let kind = created.key.map_or(RelationKind::Source, |key| RelationKind::Table { key: key.columns });
            add(&mut names, name, kind, schema, TimeAttribute::Column("ts".into()));
        }
        let sql = "CREATE STREAM minutes AS SELECT window_start, window_end, window_time, auction, count(*) AS n FROM bids \
                   GROUP BY auction, tumble('1m')";
        let Ok(crate::Statement::CreateStream(stream)) = analyze(sql, &names) else { panic!("{sql}") };
        let plan = &stream.query.plan;
        let find = |name: &str| names.relation(name);
        let late = plan.late_stream(&|name| find(name).map(|relation| (relation.schema, relation.time)));
        let time = plan.time_attribute(&|name| find(name).map(|relation| relation.time));
        let windows = plan.named_windows(&|name| find(name).and_then(|relation| relation.windows));
        let schema = plan.schema().clone();
        let kind = RelationKind::Stream;
        let minutes = Relation { name: "minutes".into(), kind, schema, time, windows, late, replay: false };
        names.0.extend(minutes.late_rows().map(|late| Relation { name: late_name("minutes"), ..late }));
        names.0.push(minutes);
        add(&mut names, "out", RelationKind::Sink, Arc::new(Schema::empty()), TimeAttribute::Arrival);
        names
    }

    fn add(names: &mut Names, name: &str, kind: RelationKind, schema: Arc<Schema>, time: TimeAttribute) {
        let name = name.to_owned();
        names.0.push(Relation { name, kind, schema, time, windows: None, late: None, replay: false });
    }

    #[test]
    fn every_example_is_a_statement_and_has_its_clause() {
        let names = names();
        for ClauseInfo { name, example, .. } in clauses() {
            if let Err(mistakes) = analyze(example, &names) {
                panic!("{example}: {mistakes:?}");
            }
            let words: Vec<&str> = name.split(' ').collect();
            assert!(words.iter().all(|word| example.contains(word)), "{name} is not in: {example}");
        }
    }
}
