//! Statements drawn from a grammar with types: nearly all of them can be planned.

use super::{Statements, WINDOW_LENGTHS};

/// Deepest nesting of a typed expression.
const MAX_TYPED_DEPTH: u32 = 4;

impl Statements<'_> {
    /// A statement in which types fit; over `bids (auction, price, channel, ts)`, `people (id, name, ts)` and the windows
    /// `counts (window_start, window_end, auction, n)`.
    pub(super) fn typed(&mut self) -> String {
        let query = match self.random.below(10) {
            0..=2 => self.typed_rows("bids"),
            3..=5 => self.typed_groups(),
            6 => self.typed_join(),
            7 => self.typed_follow(),
            8 => self.typed_first(),
            _ => format!("{} UNION ALL {}", self.typed_rows("bids"), self.typed_rows("bids")),
        };
        match self.random.below(10) {
            0 => format!("CREATE VIEW v{} AS {query}", self.random.below(3)),
            1 => format!("EXPLAIN {query}"),
            2 => format!("SELECT count(*) AS n, min(a0) AS least FROM ({query}) AS q GROUP BY tumble('1m')"),
            _ => query,
        }
    }

    fn typed_rows(&mut self, relation: &str) -> String {
        let from = match self.random.below(4) {
            0 if self.depth < MAX_TYPED_DEPTH => {
                let (number, text, filter) = (self.number(), self.text(), self.filter());
                self.deeper(|own| {
                    let inner = own.typed_source(relation);
                    format!(
                        "(SELECT {number} AS price, auction, {text} AS channel, ts FROM {inner}{filter}) AS q{}",
                        own.random.below(3)
                    )
                })
            }
            _ => self.typed_source(relation),
        };
        let (a, b, filter) = (self.number(), self.text(), self.filter());
        format!("SELECT {a} AS a0, {b} AS a1, ts FROM {from}{filter}")
    }

    fn typed_source(&mut self, relation: &str) -> String {
        let sample = self.maybe(10, |own| format!(" TABLESAMPLE BERNOULLI ({})", 1 + own.random.below(99)));
        format!("{relation}{sample}")
    }

    fn filter(&mut self) -> String {
        self.maybe(60, |own| format!(" WHERE {}", own.truth()))
    }

    fn typed_groups(&mut self) -> String {
        let (first, second, filter) = (self.typed_aggregate(), self.typed_aggregate(), self.filter());
        let length = self.one(&WINDOW_LENGTHS);
        let key = if self.random.percent(50) { self.text() } else { self.number() };
        let having = self.maybe(30, |own| format!(" HAVING {} > {}", own.typed_aggregate(), own.random.below(9)));
        let emit = self.maybe(20, |own| format!(" EMIT ON WINDOW CLOSE GRACE {}", own.one(&WINDOW_LENGTHS)));
        let columns = format!("window_start, window_end, {key} AS key, {first} AS a0, {second} AS a1");
        if self.random.percent(50) {
            let window = match self.random.below(4) {
                0 => format!("hop('1s', {length})"),
                1 => format!("session({length})"),
                2 => format!("cumulate({length}, '1 day')"),
                _ => format!("tumble({length})"),
            };
            format!("SELECT {columns} FROM bids{filter} GROUP BY {key}, {window}{having}{emit}")
        } else {
            format!(
                "SELECT {columns} FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL {length}){filter} GROUP BY window_start, \
                 window_end, {key}{having}{emit}"
            )
        }
    }

    fn typed_join(&mut self) -> String {
        let kind = self.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let apart = self.one(&WINDOW_LENGTHS);
        let more = self.maybe(40, |own| format!(" AND b.price > {}", own.random.below(9)));
        format!(
            "SELECT b.price + p.id AS a0, upper(p.name) AS a1, b.ts FROM bids AS b {kind} people AS p ON b.auction = p.id AND \
             b.ts BETWEEN p.ts - INTERVAL {apart} AND p.ts + INTERVAL {apart}{more}"
        )
    }

    fn typed_follow(&mut self) -> String {
        let call = match self.random.below(4) {
            0 => format!("lag(n, {})", 1 + self.random.below(5)),
            1 => format!("robust_zscore(n, {})", 3 + self.random.below(30)),
            2 => "ewma(n, 0.25)".to_owned(),
            _ => "rate_of_change(n)".to_owned(),
        };
        let over = "OVER (PARTITION BY auction ORDER BY window_end)";
        let qualify = self.maybe(40, |own| format!(" QUALIFY a0 > {}", own.random.below(9)));
        format!("SELECT window_end, {call} {over} AS a0, n - {call} {over} AS a1 FROM counts{qualify}")
    }

    fn typed_first(&mut self) -> String {
        let (order, limit, length) = (self.number(), 1 + self.random.below(9), self.one(&WINDOW_LENGTHS));
        format!(
            "SELECT price AS a0, channel AS a1 FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY \
             {order} DESC) AS place FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL {length})) WHERE place <= {limit}"
        )
    }

    fn typed_aggregate(&mut self) -> String {
        let (number, text) = (self.number(), self.text());
        let filter = self.maybe(25, |own| format!(" FILTER (WHERE {})", own.truth()));
        match self.random.below(9) {
            0 | 1 => format!("count(*){filter}"),
            2 => format!("sum({number}){filter}"),
            3 => format!("avg({number})"),
            4 => format!("max({number}){filter}"),
            5 => format!("count(DISTINCT {text}){filter}"),
            6 => format!("length(max({text}))"),
            7 => format!("median({number})"),
            _ => format!("approx_distinct({text})"),
        }
    }

    fn number(&mut self) -> String {
        if self.depth >= MAX_TYPED_DEPTH || self.random.percent(40) {
            let literal = self.random.below(100).to_string();
            return self.random.pick(&["price".to_owned(), "auction".to_owned(), literal]).clone();
        }
        self.deeper(|own| match own.random.below(8) {
            0..=2 => format!("({} {} {})", own.number(), own.one(&["+", "-", "*"]), own.number()),
            3 => format!("abs({})", own.number()),
            4 => format!("CASE WHEN {} THEN {} ELSE {} END", own.truth(), own.number(), own.number()),
            5 => format!("coalesce({}, {})", own.number(), own.number()),
            6 => format!("length({})", own.text()),
            _ => format!("nullif({}, {})", own.number(), own.number()),
        })
    }

    fn text(&mut self) -> String {
        if self.depth >= MAX_TYPED_DEPTH || self.random.percent(40) {
            return self.one(&["channel", "channel", "'a text'", "''"]).to_owned();
        }
        self.deeper(|own| match own.random.below(6) {
            0 => format!("lower({})", own.text()),
            1 => format!("({} || {})", own.text(), own.text()),
            2 => format!("CAST({} AS VARCHAR)", own.number()),
            3 => format!("CASE WHEN {} THEN {} END", own.truth(), own.text()),
            4 => format!("substr({}, 1, {})", own.text(), 1 + own.random.below(5)),
            _ => format!("coalesce({}, {})", own.text(), own.text()),
        })
    }

    fn truth(&mut self) -> String {
        if self.depth >= MAX_TYPED_DEPTH {
            return "price > 1".to_owned();
        }
        self.deeper(|own| match own.random.below(8) {
            0..=2 => format!("{} {} {}", own.number(), own.one(&["=", "<>", "<", ">="]), own.number()),
            3 => format!("{} LIKE '%a_'", own.text()),
            4 => format!("({} {} {})", own.truth(), own.one(&["AND", "OR"]), own.truth()),
            5 => format!("NOT ({})", own.truth()),
            6 => format!("{} IN (1, 2, {})", own.number(), own.random.below(9)),
            _ => format!("{} IS NOT NULL", own.text()),
        })
    }
}
