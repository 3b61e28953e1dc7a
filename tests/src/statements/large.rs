//! Statements that are large in one way, up to the caps.

/// In what a statement is large, how large it is at the most, and the statement of a size.
pub type Large = (&'static str, usize, fn(usize) -> String);

/// A source of as many columns as a statement can declare, in the statement that creates it.
pub fn wide() -> String {
    let columns = numbered(WIDE_COLUMNS, ", ", |i| format!("c{i} BIGINT"));
    format!("CREATE SOURCE wide ({columns}, ts TIMESTAMP) WITH (connector = 'replay')")
}

const WIDE_COLUMNS: usize = 900;

/// Statements over [`super::RELATIONS`] and [`wide`] that grow evenly.
pub const LARGE: [Large; 30] = [
    ("sum of columns", 400, |n| format!("SELECT {} AS x FROM bids", vec!["price"; n].join(" + "))),
    ("alternatives", 400, |n| format!("SELECT ts FROM bids WHERE {}", numbered(n, " OR ", |i| format!("price = {i}")))),
    ("conditions", 400, |n| format!("SELECT ts FROM bids WHERE {}", numbered(n, " AND ", |i| format!("price <> {i}")))),
    ("list", 1_500, |n| format!("SELECT ts FROM bids WHERE price IN ({})", numbered(n, ", ", |i| i.to_string()))),
    ("branches", 300, |n| {
        format!("SELECT CASE {} END AS x FROM bids", numbered(n, " ", |i| format!("WHEN price = {i} THEN {i}")))
    }),
    ("columns", 380, |n| format!("SELECT {} FROM bids", numbered(n, ", ", |i| format!("price + {i} AS c{i}")))),
    ("aggregates", 300, |n| {
        let list = numbered(n, ", ", |i| format!("sum(price + {i}) AS c{i}"));
        format!("SELECT {list} FROM bids GROUP BY tumble('1s')")
    }),
    ("keys", 300, |n| {
        let list = numbered(n, ", ", |i| format!("price + {i}"));
        format!("SELECT count(*) AS n FROM bids GROUP BY tumble('1s'), {list}")
    }),
    ("sub-queries", 40, |n| {
        let open = "SELECT * FROM (".repeat(n);
        format!("{open}SELECT price FROM bids{}", ") WHERE price > 1".repeat(n))
    }),
    ("unions", 32, |n| vec!["SELECT price FROM bids WHERE price > 1"; n].join(" UNION ALL ")),
    ("joins", 15, |n| {
        let joins = numbered(n, " ", |i| format!("JOIN bids AS b{i} ON a.price = b{i}.price"));
        format!("SELECT a.price FROM bids AS a {joins}")
    }),
    ("columns through sub-queries", 150, |n| {
        let list = numbered(n, ", ", |i| format!("price + {i} AS c{i}"));
        format!("{}SELECT {list} FROM bids{}", "SELECT * FROM (".repeat(30), ") WHERE c1 > 1".repeat(30))
    }),
    ("windows before", 160, |n| {
        let call = |i| format!("lag(n, {}) OVER (PARTITION BY auction ORDER BY window_end) AS c{i}", i + 1);
        format!("SELECT {} FROM counts", numbered(n, ", ", call))
    }),
    ("names of names", 240, |n| {
        let list = numbered(n, ", ", |i| format!("count(*) AS c{i}"));
        format!(
            "SELECT {list} FROM bids GROUP BY tumble('1s') HAVING {}",
            numbered(n, " AND ", |i| format!("c{i} > 1"))
        )
    }),
    ("text", 60_000, |n| format!("SELECT ts FROM bids WHERE channel = '{}'", "x".repeat(n))),
    ("alternatives of conditions", 150, |n| {
        let both = |i| format!("(price = {i} AND auction > {i})");
        format!("SELECT ts FROM bids WHERE {}", numbered(n, " OR ", both))
    }),
    ("conditions of alternatives", 150, |n| {
        let either = |i| format!("(price = {i} OR auction > {i})");
        format!("SELECT ts FROM bids WHERE {}", numbered(n, " AND ", either))
    }),
    ("parts of texts", 400, |n| {
        format!("SELECT {} AS x FROM bids", numbered(n, " || ", |i| format!("'{i}'")).replacen("'0'", "channel", 1))
    }),
    ("list of texts", 1_500, |n| {
        format!("SELECT ts FROM bids WHERE channel NOT IN ({})", numbered(n, ", ", |i| format!("'text {i}'")))
    }),
    ("patterns", 300, |n| {
        format!("SELECT ts FROM bids WHERE {}", numbered(n, " OR ", |i| format!("channel LIKE '%{i}_'")))
    }),
    ("ranges", 240, |n| {
        format!("SELECT ts FROM bids WHERE {}", numbered(n, " OR ", |i| format!("price BETWEEN {i} AND {i} + 5")))
    }),
    ("levels", 46, |n| format!("SELECT {}price{} AS x FROM bids", "(1 + ".repeat(n), ")".repeat(n))),
    ("calls in calls", 46, |n| format!("SELECT {}channel{} AS x FROM bids", "lower(".repeat(n), ")".repeat(n))),
    ("branches in branches", 22, |n| {
        let open = numbered(n, " ", |i| format!("CASE WHEN price > {i} THEN {i} ELSE ("));
        format!("SELECT {open} 0 {} AS x FROM bids", ") END".repeat(n))
    }),
    ("names of sub-queries", 150, |n| {
        let next = |i: usize| {
            let from = i.checked_sub(1).map_or_else(|| "bids".to_owned(), |before| format!("c{before}"));
            format!("c{i} AS (SELECT price, ts FROM {from} WHERE price > {i})")
        };
        format!("WITH {} SELECT price FROM c{}", numbered(n, ", ", next), n - 1)
    }),
    ("columns of a source", 900, |n| {
        let columns = numbered(n, ", ", |i| format!("c{i} BIGINT"));
        format!("CREATE SOURCE x ({columns}, ts TIMESTAMP) WITH (connector = 'replay')")
    }),
    ("sub-queries of many columns", 40, |n| {
        format!("{}SELECT * FROM wide{}", "SELECT * FROM (".repeat(n), ") WHERE c1 > 1".repeat(n))
    }),
    ("joins of many columns", 8, |n| {
        let joins = numbered(n, " ", |i| {
            format!("JOIN wide AS b{i} ON a.c0 = b{i}.c0 AND b{i}.ts BETWEEN a.ts - INTERVAL '1s' AND a.ts")
        });
        format!("SELECT a.c1 FROM wide AS a {joins}")
    }),
    ("unions of many columns", 32, |n| vec!["SELECT * FROM wide"; n].join(" UNION ALL ")),
    ("unions of windows", 30, |n| {
        let part = |i| {
            format!(
                "SELECT window_start, window_end, count(*) AS n FROM bids WHERE price > {i} GROUP BY tumble('1s'), channel"
            )
        };
        numbered(n, " UNION ALL ", part)
    }),
];

/// Statements of another kind, each as large as the caps let it be or just too large.
pub fn crowded() -> Vec<(&'static str, String)> {
    let doubled = |levels: usize| {
        let next = |i| format!("c{} AS (SELECT * FROM c{i} UNION ALL SELECT * FROM c{i})", i + 1);
        format!("WITH c0 AS (SELECT * FROM bids), {} SELECT price FROM c{levels}", numbered(levels, ", ", next))
    };
    let joined = |levels: usize| {
        let next = |i| {
            let (own, other) = (format!("c{}", i + 1), format!("c{i}"));
            format!("{own} AS (SELECT a.price, a.ts FROM {other} AS a JOIN {other} AS b ON a.price = b.price)")
        };
        format!("WITH c0 AS (SELECT price, ts FROM bids), {} SELECT price FROM c{levels}", numbered(levels, ", ", next))
    };
    vec![
        ("names that stand for twice as much, planned", doubled(7)),
        ("names that stand for twice as much, too often", doubled(25)),
        ("joins that stand for twice as much, planned", joined(6)),
        ("joins that stand for twice as much, too often", joined(25)),
        ("all combinations of keys", {
            let keys = numbered(8, ", ", |i| format!("price + {i}"));
            format!("SELECT count(*) AS n FROM bids GROUP BY tumble('1s'), CUBE ({keys})")
        }),
        ("sets of keys", {
            let sets = numbered(60, ", ", |i| format!("(price + {i}, auction)"));
            format!("SELECT count(*) AS n FROM bids GROUP BY tumble('1s'), GROUPING SETS ({sets})")
        }),
        ("sets times sets", {
            let sets = numbered(12, ", ", |i| format!("(price + {i})"));
            let sets = vec![format!("GROUPING SETS ({sets})"); 5].join(", ");
            format!("SELECT count(*) AS n FROM bids GROUP BY tumble('1s'), {sets}")
        }),
        ("a long name", format!("SELECT \"{}\" FROM bids", "x".repeat(60_000))),
        ("a long remark", format!("SELECT price /* {} */ FROM bids", "x ".repeat(30_000))),
        ("a long pattern", format!("SELECT ts FROM bids WHERE channel ~ '{}'", "(a|b)*c?".repeat(7_000))),
        ("a long like", format!("SELECT ts FROM bids WHERE channel LIKE '{}'", "%a_".repeat(20_000))),
        ("a long number", format!("SELECT {} AS x FROM bids", "9".repeat(60_000))),
        ("long lists of lists", {
            let list = numbered(900, ", ", |i| i.to_string());
            format!("SELECT array_length(make_array({list})) AS x FROM bids")
        }),
        ("mistakes", format!("SELECT {} FROM bids", numbered(900, ", ", |i| format!("missing_{i}")))),
        ("mistakes beside many names", format!("SELECT {} FROM wide", numbered(900, ", ", |i| format!("d{i}")))),
        ("wrong calls", format!("SELECT {} FROM bids", numbered(450, ", ", |i| format!("lower_{i}(price)")))),
        ("wrong types", format!("SELECT {} FROM bids", numbered(300, ", ", |i| format!("channel + extra - {i}")))),
        ("all columns often", format!("SELECT {} FROM wide", vec!["*"; 30].join(", "))),
        ("a key of many columns", {
            let keys = numbered(890, ", ", |i| format!("c{i}"));
            format!("SELECT count(*) AS n FROM wide GROUP BY tumble('1s'), {keys}")
        }),
        ("distinct rows of many columns", "SELECT DISTINCT * FROM TUMBLE(TABLE wide, DESCRIPTOR(ts), '1s')".to_owned()),
        ("the first of many columns", {
            let rank = "ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY c1) AS place";
            format!("SELECT * FROM (SELECT *, {rank} FROM TUMBLE(TABLE wide, DESCRIPTOR(ts), '1s')) WHERE place <= 3")
        }),
        ("aggregates of all kinds", {
            let call = |i: usize| {
                let name = ["sum", "avg", "median", "stddev", "approx_distinct", "array_agg"][i % 6];
                format!("{name}(DISTINCT price + {i}) FILTER (WHERE auction > {i}) AS c{i}")
            };
            format!("SELECT {} FROM bids GROUP BY hop('1s', '10s')", numbered(120, ", ", call))
        }),
    ]
}

fn numbered(count: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(between)
}
