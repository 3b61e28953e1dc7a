//! Statements that planning must bear: drawn by lot from a grammar or from other statements that are torn up and put
//! together anew, and large ones of many shapes.

pub mod large;
mod typed;
pub mod written;

use crate::random::Random;

/// What statements of this module read, in statements that create it.
pub const RELATIONS: [&str; 4] = [
    "CREATE SOURCE bids (auction BIGINT, price BIGINT, channel VARCHAR, extra STRUCT<url VARCHAR, tags VARCHAR[]>, \
     ts TIMESTAMP) WITH (connector = 'replay')",
    "CREATE SOURCE people (id BIGINT, name VARCHAR, \"Quoted\" DOUBLE, ts TIMESTAMP) WITH (connector = 'replay')",
    "CREATE STREAM counts AS SELECT window_start, window_end, window_time, auction, count(*) AS n FROM bids \
     GROUP BY auction, tumble('1s')",
    "CREATE VIEW cheap AS SELECT * FROM bids WHERE price < 10",
];

/// Deepest nesting of what is drawn; the caps allow more.
const MAX_DEPTH: u32 = 5;
/// Tears that a statement suffers at most.
const MAX_TEARS: u64 = 6;

const READ: [&str; 9] = ["bids", "bids", "bids", "bids", "cheap", "bids AS b", "people", "counts", "nowhere"];
const COLUMNS: [&str; 20] = [
    "auction",
    "price",
    "price",
    "price",
    "auction",
    "auction",
    "channel",
    "channel",
    "price",
    "auction",
    "ts",
    "extra",
    "id",
    "name",
    "n",
    "window_start",
    "window_end",
    "b.price",
    "missing",
    "\"Quoted\"",
];
const LITERALS: [&str; 14] = [
    "1",
    "0",
    "-7",
    "2.5",
    "1e300",
    "9223372036854775807",
    "NULL",
    "true",
    "'a text'",
    "''",
    "'2026-01-01'",
    "INTERVAL '1' SECOND",
    "TIMESTAMP '2026-01-01 00:00:00'",
    "DATE '2026-02-30'",
];
const BINARY: [&str; 24] = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<>",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "=",
    ">",
    "AND",
    "OR",
    "||",
    "LIKE",
    "IS DISTINCT FROM",
    "->",
    "->>",
    "~",
    "<<",
    "@>",
];
const FUNCTIONS: [&str; 20] = [
    "abs",
    "lower",
    "coalesce",
    "to_char",
    "date_trunc",
    "regexp_match",
    "array_length",
    "now",
    "random",
    "nullif",
    "split_part",
    "round",
    "concat",
    "struct",
    "make_array",
    "array_transform",
    "date_bin",
    "cast",
    "md5",
    "unnest",
];
const AGGREGATES: [&str; 13] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "approx_distinct",
    "array_agg",
    "stddev",
    "first_value",
    "median",
    "rate",
    "string_agg",
    "approx_percentile_cont",
];
const LENGTHS: [&str; 9] = [
    "'10s'",
    "INTERVAL '10' SECOND",
    "INTERVAL '1 hour'",
    "'0s'",
    "INTERVAL '-1' SECOND",
    "INTERVAL '1' MONTH",
    "10",
    "'2 parsecs'",
    "'100 years'",
];
const TYPES: [&str; 8] = ["BIGINT", "VARCHAR", "DOUBLE", "TIMESTAMP", "DECIMAL(38, 10)", "BOOLEAN[]", "JSON", "DATE"];
const WINDOWS: [&str; 5] = ["TUMBLE", "HOP", "CUMULATE", "SESSION", "COUNT_WINDOW"];
const JOINS: [&str; 8] =
    ["JOIN", "LEFT JOIN", "FULL OUTER JOIN", "CROSS JOIN", "LEFT SEMI JOIN", "NATURAL JOIN", "ASOF JOIN", ","];

/// Lengths that any window may have.
const WINDOW_LENGTHS: [&str; 4] = ["'1 second'", "'5 seconds'", "'1 minute'", "'1 hour'"];
/// Of a hundred statements so many are drawn with types that fit.
const TYPED_PERCENT: u64 = 60;

/// Draws statements.
pub struct Statements<'r> {
    random: &'r mut Random,
    depth: u32,
}

impl<'r> Statements<'r> {
    /// Statements that follow from a generator.
    pub fn new(random: &'r mut Random) -> Self {
        Self { random, depth: 0 }
    }

    /// A statement.
    pub fn statement(&mut self) -> String {
        if self.random.percent(TYPED_PERCENT) {
            return self.typed();
        }
        let query = self.query();
        let emit = self.emit();
        match self.random.below(12) {
            0 => format!("CREATE STREAM s{} AS {query}", self.random.below(3)),
            1 => format!("CREATE VIEW v AS {query}"),
            2 => format!("EXPLAIN {query}{emit}"),
            3 => format!("CREATE SINK k WITH (connector = 'file', path = {}) AS {query}{emit}", self.one(&LITERALS)),
            4 => {
                let (a, b) = (self.one(&TYPES), self.one(&TYPES));
                let watermark = self.expr();
                format!(
                    "CREATE SOURCE x (a {a}, b {b} NOT NULL, ts TIMESTAMP, WATERMARK FOR ts AS {watermark}) \
                     WITH (connector = 'http', retention = {})",
                    self.one(&LITERALS)
                )
            }
            _ => format!("{query}{emit}"),
        }
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.random.below(len as u64)).expect("an index fits")
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        self.random.pick::<&'static str>(of)
    }

    fn list(&mut self, most: u64, item: impl Fn(&mut Self) -> String) -> String {
        let count = 1 + self.random.below(most);
        (0..count).map(|_| item(self)).collect::<Vec<_>>().join(", ")
    }

    fn maybe(&mut self, percent: u64, text: impl FnOnce(&mut Self) -> String) -> String {
        if self.random.percent(percent) { text(self) } else { String::new() }
    }

    fn deeper<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> T {
        self.depth += 1;
        let drawn = draw(self);
        self.depth -= 1;
        drawn
    }

    fn emit(&mut self) -> String {
        let length = self.one(&LENGTHS);
        match self.random.below(6) {
            0 => format!(" EMIT EVERY {length}"),
            1 => format!(" EMIT ON WINDOW CLOSE GRACE {length}"),
            2 => " EMIT CHANGES".into(),
            _ => String::new(),
        }
    }

    fn query(&mut self) -> String {
        self.deeper(|own| {
            let with = own.maybe(15, |own| format!("WITH c AS ({}) ", own.query_or_scan()));
            let body = own.select();
            let union = own.maybe(10, |own| format!(" UNION ALL {}", own.select()));
            let order = own.maybe(15, |own| format!(" ORDER BY {} DESC NULLS LAST", own.expr()));
            let limit = own.maybe(10, |own| format!(" LIMIT {}", own.one(&LITERALS)));
            format!("{with}{body}{union}{order}{limit}")
        })
    }

    fn query_or_scan(&mut self) -> String {
        if self.depth >= MAX_DEPTH { "SELECT * FROM bids".into() } else { self.query() }
    }

    fn select(&mut self) -> String {
        let grouped = self.random.percent(40);
        let distinct = self.maybe(5, |_| "DISTINCT ".into());
        let items = if self.random.percent(15) {
            "*".to_owned()
        } else {
            self.list(4, |own| {
                let item = if grouped && own.random.percent(60) { own.aggregate() } else { own.expr() };
                let alias = own.maybe(40, |own| format!(" AS a{}", own.random.below(4)));
                format!("{item}{alias}")
            })
        };
        let from = self.relation();
        let join = self.maybe(15, |own| {
            let (join, other, condition) = (own.one(&JOINS), own.relation(), own.expr());
            format!(" {join} {other} ON {condition}")
        });
        let filter = self.maybe(40, |own| format!(" WHERE {}", own.expr()));
        let window = self.maybe(70, |_| "tumble('10s'), ".into());
        let group = if grouped { format!(" GROUP BY {window}{}", self.list(2, Self::key)) } else { String::new() };
        let having = self
            .maybe(if grouped { 15 } else { 2 }, |own| format!(" HAVING {} > {}", own.aggregate(), own.one(&LITERALS)));
        format!("SELECT {distinct}{items} FROM {from}{join}{filter}{group}{having}")
    }

    fn key(&mut self) -> String {
        let (a, b) = (self.one(&LENGTHS), self.one(&LENGTHS));
        match self.random.below(9) {
            0 => format!("tumble({a})"),
            1 => format!("hop({a}, {b})"),
            2 => format!("session({a})"),
            3 => "window_start, window_end".into(),
            4 => format!("ROLLUP ({}, {})", self.one(&COLUMNS), self.one(&COLUMNS)),
            5 => self.random.below(5).to_string(),
            _ => self.expr(),
        }
    }

    fn relation(&mut self) -> String {
        match self.random.below(8) {
            0 | 1 if self.depth < MAX_DEPTH => {
                let query = self.deeper(Self::query_or_scan);
                format!("({query}) AS q{}", self.random.below(3))
            }
            2 | 3 => {
                let (window, length, other) = (self.one(&WINDOWS), self.one(&LENGTHS), self.one(&LENGTHS));
                let more = self.maybe(50, |_| format!(", {other}"));
                format!("{window}(TABLE {}, DESCRIPTOR({}), {length}{more})", self.one(&READ), self.one(&COLUMNS))
            }
            4 => format!("{} TABLESAMPLE BERNOULLI ({})", self.one(&READ), self.one(&LITERALS)),
            _ => self.one(&READ).to_owned(),
        }
    }

    fn aggregate(&mut self) -> String {
        let (name, argument) = (self.one(&AGGREGATES), self.expr());
        let distinct = self.maybe(20, |_| "DISTINCT ".into());
        let order = self.maybe(10, |own| format!(" ORDER BY {}", own.one(&COLUMNS)));
        let filter = self.maybe(15, |own| format!(" FILTER (WHERE {})", own.expr()));
        let over =
            self.maybe(6, |own| format!(" OVER (PARTITION BY {} ORDER BY {})", own.one(&COLUMNS), own.one(&COLUMNS)));
        if self.random.percent(25) {
            "count(*)".into()
        } else {
            format!("{name}({distinct}{argument}{order}){filter}{over}")
        }
    }

    fn expr(&mut self) -> String {
        if self.depth >= MAX_DEPTH || self.random.percent(55) {
            return if self.random.percent(65) { self.one(&COLUMNS).into() } else { self.one(&LITERALS).into() };
        }
        self.deeper(|own| match own.random.below(12) {
            0..=3 => format!("{} {} {}", own.expr(), own.one(&BINARY), own.expr()),
            4 => format!("({})", own.expr()),
            5 => format!("NOT {}", own.expr()),
            6 => format!("CASE WHEN {} THEN {} ELSE {} END", own.expr(), own.expr(), own.expr()),
            7 => format!("CAST({} AS {})", own.expr(), own.one(&TYPES)),
            8 => format!("{} IN ({})", own.expr(), own.list(3, Self::expr)),
            9 => format!("{} BETWEEN {} AND {}", own.expr(), own.expr(), own.expr()),
            10 if own.random.percent(30) => format!("EXISTS ({})", own.query_or_scan()),
            10 => format!("{}[{}]", own.one(&COLUMNS), own.expr()),
            _ => format!("{}({})", own.one(&FUNCTIONS), own.list(3, Self::expr)),
        })
    }

    /// A statement of the pieces of others: words dropped, doubled, swapped, or taken from another one.
    ///
    /// # Panics
    /// If there is none.
    pub fn torn(&mut self, of: &[String]) -> String {
        let words = |text: &str| -> Vec<String> {
            text.split_inclusive([' ', '(', ')', ',', '.', '\n', '\'']).map(str::to_owned).collect()
        };
        let mut all = words(self.random.pick::<String>(of));
        for _ in 0..=self.random.below(MAX_TEARS) {
            if all.is_empty() {
                break;
            }
            let (a, b) = (self.index(all.len()), self.index(all.len()));
            match self.random.below(5) {
                0 => drop(all.remove(a)),
                1 => all.insert(a, all[b].clone()),
                2 => all.swap(a, b),
                3 => all.truncate(a.max(1)),
                _ => {
                    let other = words(self.random.pick::<String>(of));
                    let from = self.index(other.len());
                    all.splice(a..a, other.into_iter().skip(from).take(4));
                }
            }
        }
        all.concat()
    }
}
