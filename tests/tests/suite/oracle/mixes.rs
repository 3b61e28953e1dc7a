//! Queries that put several things on top of each other, drawn by lot, in both dialects: expressions in keys, aggregates
//! and conditions; windows over joins, unions, DISTINCT, sub-queries and other windows.

use squilla_tests::random::Random;

use super::queries::Pair;

/// Deepest nesting of an expression.
const MAX_DEPTH: u32 = 3;
const SIZES_MS: [i64; 4] = [1_000, 2_500, 7_000, 20_000];

/// Draws a query of one kind.
type Mix = fn(&mut Random) -> Pair;

/// All kinds, for a test that wants each.
pub(super) const MIXES: [(&str, Mix); 9] = [
    ("expressions", expressions),
    ("windows over near rows", over_interval_join),
    ("groups of joined groups", over_window_join),
    ("union of windows", union_of_windows),
    ("distinct rows of windows", distinct),
    ("rows with partners, grouped", over_exists),
    ("a part of the whole", part_of_whole),
    ("windows on windows", on_windows),
    ("first of groups", first_of_groups),
];

/// Expressions over `id, k, g, n, x, flag` that read the same in both.
struct Draw<'r> {
    random: &'r mut Random,
    depth: u32,
}

impl<'r> Draw<'r> {
    fn new(random: &'r mut Random) -> Self {
        Self { random, depth: 0 }
    }

    fn leaf(&mut self, percent: u64) -> bool {
        self.depth >= MAX_DEPTH || self.random.percent(percent)
    }

    fn deeper(&mut self, draw: impl FnOnce(&mut Self) -> String) -> String {
        self.depth += 1;
        let drawn = draw(self);
        self.depth -= 1;
        drawn
    }

    fn small(&mut self) -> u64 {
        self.random.below(12)
    }

    fn number(&mut self) -> String {
        if self.leaf(35) {
            return (*self.random.pick(&["n", "g", "id % 7", "n", "(4 + 1)"])).to_owned();
        }
        self.deeper(|own| match own.random.below(12) {
            0 | 1 => format!("({} {} {})", own.number(), own.random.pick(&["+", "-"]), own.number()),
            2 => format!("({} * {})", own.number(), own.small()),
            3 => format!("abs({})", own.number()),
            4 => format!("CASE WHEN {} THEN {} ELSE {} END", own.truth(), own.number(), own.number()),
            5 => format!("CASE g WHEN {} THEN {} WHEN 2 THEN n END", own.small(), own.number()),
            6 => format!("coalesce({}, {})", own.number(), own.number()),
            7 => format!("nullif({}, {})", own.number(), own.small()),
            8 => format!("length({})", own.text()),
            9 => format!("{}({}, {})", own.random.pick(&["greatest", "least"]), own.number(), own.number()),
            10 => format!("strpos({}, 'e')", own.text()),
            _ => format!("({} % {})", own.number(), 2 + own.small()),
        })
    }

    fn text(&mut self) -> String {
        if self.leaf(35) {
            return (*self.random.pick(&["k", "k", "k", "'a text'", "''"])).to_owned();
        }
        self.deeper(|own| match own.random.below(15) {
            0 => format!("{}({})", own.random.pick(&["lower", "upper", "trim", "reverse"]), own.text()),
            1 => format!("({} || {})", own.text(), own.text()),
            2 => format!("CAST({} AS VARCHAR)", own.number()),
            3 => format!("CASE WHEN {} THEN {} END", own.truth(), own.text()),
            4 => format!("substr({}, {}, {})", own.text(), 1 + own.random.below(4), own.random.below(5)),
            5 => format!("coalesce({}, {})", own.text(), own.text()),
            6 => format!("concat({}, '-', {})", own.text(), own.text()),
            7 => format!("{}({}, {})", own.random.pick(&["left", "right"]), own.text(), 1 + own.random.below(4)),
            8 => format!("replace({}, 'e', '{}')", own.text(), own.random.pick(&["E", "", "ee"])),
            9 => format!("split_part({}, ' ', {})", own.text(), 1 + own.random.below(2)),
            10 => format!("lpad({}, {}, '*')", own.text(), 1 + own.small()),
            11 => format!("repeat({}, {})", own.text(), own.random.below(3)),
            12 => format!("nullif({}, {})", own.text(), own.text()),
            13 => format!("translate({}, 'aeé', 'AE')", own.text()),
            _ => format!("md5({})", own.text()),
        })
    }

    fn truth(&mut self) -> String {
        if self.leaf(15) {
            return (*self.random.pick(&["flag", "n > 0", "g = 2", "k IS NULL", "x < 100"])).to_owned();
        }
        self.deeper(|own| match own.random.below(12) {
            0..=2 => {
                let sign = *own.random.pick(&["=", "<>", "<", ">=", "IS DISTINCT FROM"]);
                format!("{} {sign} {}", own.number(), own.number())
            }
            3 => format!("{} {} '%{}%'", own.text(), own.random.pick(&["LIKE", "NOT LIKE", "ILIKE"]), own.small()),
            4 => format!("({} {} {})", own.truth(), own.random.pick(&["AND", "OR"]), own.truth()),
            5 => format!("NOT ({})", own.truth()),
            6 => format!("{} {}IN (1, 2, {})", own.number(), own.random.pick(&["", "NOT "]), own.small()),
            7 => format!("{} IS {}NULL", own.text(), own.random.pick(&["", "NOT "])),
            8 => format!("{} BETWEEN -100 AND {}", own.number(), own.number()),
            9 => format!("{} < {}", own.text(), own.text()),
            10 => format!("starts_with({}, 'D')", own.text()),
            _ => format!("({}) IS NOT TRUE", own.truth()),
        })
    }

    fn filter(&mut self) -> String {
        if self.random.percent(30) { format!(" FILTER (WHERE {})", self.truth()) } else { String::new() }
    }

    /// An aggregate in both dialects.
    fn aggregate(&mut self) -> [String; 2] {
        let (number, text, filter) = (self.number(), self.text(), self.filter());
        let same = match self.random.below(10) {
            0 => format!("count(*){filter}"),
            1 => format!("count({text}){filter}"),
            2 => format!("count(DISTINCT {text}){filter}"),
            3 => format!("count(DISTINCT {number}){filter}"),
            4 => format!("avg({number}){filter}"),
            5 => format!("{}({number}){filter}", self.random.pick(&["min", "max"])),
            6 => format!("{}({text}){filter}", self.random.pick(&["min", "max"])),
            7 => format!("bool_or({}){filter}", self.truth()),
            _ => {
                let distinct = if self.random.percent(30) { "DISTINCT " } else { "" };
                let sum = format!("sum({distinct}{number}){filter}");
                // DuckDB's sums of whole numbers are of 128 bits.
                return [sum.clone(), format!("CAST({sum} AS BIGINT)")];
            }
        };
        [same.clone(), same]
    }

    /// Aggregates `a0, a1, …` in both dialects.
    fn aggregates(&mut self) -> [String; 2] {
        let all: Vec<[String; 2]> = (0..1 + self.random.below(4)).map(|_| self.aggregate()).collect();
        [0, 1].map(|of| {
            let named = all.iter().enumerate().map(|(at, both)| format!("{} AS a{at}", both[of]));
            named.collect::<Vec<_>>().join(", ")
        })
    }

    fn key(&mut self) -> String {
        match self.random.below(4) {
            0 => self.number(),
            1 => self.truth(),
            _ => self.text(),
        }
    }

    fn condition(&mut self) -> String {
        if self.random.percent(60) { format!(" WHERE {}", self.truth()) } else { String::new() }
    }

    fn having(&mut self) -> String {
        match self.random.below(4) {
            0 => " HAVING count(*) > 2".to_owned(),
            1 => format!(" HAVING max({}) IS NOT NULL AND count(*) <> 7", self.number()),
            _ => String::new(),
        }
    }

    fn size(&mut self) -> i64 {
        *self.random.pick(&SIZES_MS)
    }
}

fn interval(ms: i64) -> String {
    format!("INTERVAL '{ms} milliseconds'")
}

fn pair(squilla: String, duckdb: String, keys: &[&str], times: &[&'static str]) -> Pair {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Pair { setup: String::new(), squilla, duckdb, keys, times: times.to_vec() }
}

fn tumble(ms: i64) -> String {
    format!("TUMBLE(TABLE events, DESCRIPTOR(ts), {})", interval(ms))
}

/// Rows of DuckDB with their window.
fn tumbled(from: &str, ms: i64) -> String {
    format!("(SELECT *, ts - ts % {ms} AS window_start, ts - ts % {ms} + {ms} AS window_end FROM {from})")
}

/// Both dialects' FROM: windows of the events.
fn windows(ms: i64) -> [String; 2] {
    [tumble(ms), tumbled("events", ms)]
}

/// Groups of a window and a key, in the one form and the other.
fn expressions(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (key, [own, batch], ms) = (draw.key(), draw.aggregates(), draw.size());
    let (filter, having) = (draw.condition(), draw.having());
    let below = if draw.random.percent(50) {
        let (text, number, filter) = (draw.text(), draw.number(), draw.condition());
        format!("(SELECT id, {text} AS k, {number} AS n, g, x, flag, ts FROM events{filter})")
    } else {
        "events".to_owned()
    };
    let from = if below == "events" { below.clone() } else { format!("{below} AS q") };
    pair(
        format!(
            "SELECT window_start, {key} AS key, {own} FROM {from}{filter} GROUP BY {key}, tumble('{ms}ms'){having}"
        ),
        format!(
            "SELECT window_start, {key} AS key, {batch} FROM {}{filter} GROUP BY window_start, {key}{having}",
            tumbled(&below, ms)
        ),
        &["window_start", "key"],
        &["window_start"],
    )
}

fn over_interval_join(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (key, [own, batch], ms, having) = (draw.key(), draw.aggregates(), draw.size(), draw.having());
    let join = *draw.random.pick(&["JOIN", "JOIN", "LEFT JOIN", "FULL JOIN"]);
    let on = *draw.random.pick(&["l.k = r.k", "l.k = r.k AND l.g = r.g", "l.g IS NOT DISTINCT FROM r.g"]);
    let near = *draw.random.pick(&[100, 400]);
    let joined = |time: &str, near: &str| {
        format!(
            "(SELECT coalesce(l.id, r.id) AS id, coalesce(r.k, l.k) AS k, l.g AS g, coalesce(l.n - r.n, l.n) AS n, r.x AS x, \
             l.flag AS flag{time} FROM (SELECT * FROM events WHERE n > 300) AS l {join} (SELECT * FROM events WHERE n < -300) \
             AS r ON {on} AND l.ts BETWEEN r.ts - {near} AND r.ts + {near})"
        )
    };
    pair(
        format!(
            "SELECT window_start, {key} AS key, {own} FROM {} AS q GROUP BY {key}, tumble('{ms}ms'){having}",
            joined("", &interval(near))
        ),
        format!(
            "SELECT window_start, {key} AS key, {batch} FROM {} GROUP BY window_start, {key}{having}",
            tumbled(&joined(", greatest(l.ts, r.ts) AS ts", &near.to_string()), ms)
        ),
        &["window_start", "key"],
        &["window_start"],
    )
}

/// A side of a join: groups of windows. Columns are named as those of events, so that expressions fit.
fn groups(from: &str, predicate: &str) -> String {
    format!(
        "(SELECT window_start, window_end, g, k, count(*) AS n, max(id) AS id, max(x) AS x, bool_or(flag) AS flag FROM {from} \
         WHERE {predicate} GROUP BY window_start, window_end, g, k)"
    )
}

fn over_window_join(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (key, both, ms, having) = (draw.key(), draw.aggregates(), draw.size(), draw.having());
    let join = *draw.random.pick(&["JOIN", "LEFT JOIN"]);
    let on = *draw.random.pick(&["l.g = r.g", "l.g = r.g AND l.n >= r.n", "l.k IS NOT DISTINCT FROM r.k"]);
    let [squilla, duckdb] = [0, 1].map(|of| {
        let from = &windows(ms)[of];
        format!(
            "SELECT window_start, {key} AS key, {} FROM (SELECT l.window_start AS window_start, l.window_end AS window_end, l.g \
             AS g, coalesce(r.k, l.k) AS k, l.n + coalesce(r.n, 0) AS n, l.id AS id, r.x AS x, l.flag AS flag FROM {} AS l {join} \
             {} AS r ON l.window_start = r.window_start AND l.window_end = r.window_end AND {on}) AS q GROUP BY window_start, \
             window_end, {key}{having}",
            both[of],
            groups(from, "n > -300"),
            groups(from, "flag OR n < 200"),
        )
    });
    pair(squilla, duckdb, &["window_start", "key"], &["window_start"])
}

fn union_of_windows(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let ms = draw.size();
    let numbers = [draw.number(), draw.number()];
    let texts = [draw.text(), draw.text()];
    let conditions = [draw.condition(), draw.condition()];
    let having = draw.having();
    let again = draw.random.percent(40);
    let [squilla, duckdb] = [0, 1].map(|of| {
        let from = &windows(ms)[of];
        let branch = |at: usize| {
            let (number, text, condition) = (&numbers[at], &texts[at], &conditions[at]);
            format!(
                "SELECT 'part {at}' AS part, window_start, window_end, {text} AS key, count(*) AS a0, max({number}) AS a1 FROM \
                 {from} AS e{condition} GROUP BY window_start, window_end, {text}{having}"
            )
        };
        let all = format!("{} UNION ALL {}", branch(0), branch(1));
        if again {
            format!(
                "SELECT window_start, part, '' AS key, count(*) AS a0, max(a1) AS a1 FROM ({all}) AS q GROUP BY window_start, \
                 window_end, part"
            )
        } else {
            format!("SELECT window_start, part, key, a0, a1 FROM ({all}) AS q")
        }
    });
    pair(squilla, duckdb, &["window_start", "part", "key"], &["window_start"])
}

fn distinct(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (ms, text, number, condition) = (draw.size(), draw.text(), draw.number(), draw.condition());
    let again = draw.random.percent(50);
    let [squilla, duckdb] = windows(ms).map(|from| {
        let rows = format!(
            "SELECT DISTINCT window_start, window_end, {text} AS key, {number} AS value FROM {from} AS e{condition}"
        );
        if again {
            format!(
                "SELECT window_start, key, count(*) AS value, max(value) AS most FROM ({rows}) AS q GROUP BY window_start, \
                 window_end, key"
            )
        } else {
            format!("SELECT window_start, key, value FROM ({rows}) AS q")
        }
    });
    pair(squilla, duckdb, &["window_start", "key", "value"], &["window_start"])
}

fn over_exists(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (key, both, ms, having) = (draw.key(), draw.aggregates(), draw.size(), draw.having());
    let not = *draw.random.pick(&["", "NOT "]);
    let on = *draw.random.pick(&["o.g = e.g", "o.k = e.k AND o.n > e.n", "o.g = e.g AND o.flag = e.flag"]);
    let few = *draw.random.pick(&["x < -900", "n > 900", "id % 50 = 3"]);
    let [squilla, duckdb] = [0, 1].map(|of| {
        let from = &windows(ms)[of];
        format!(
            "SELECT window_start, {key} AS key, {} FROM (SELECT * FROM (SELECT * FROM {from} WHERE n > 0) AS e WHERE {not}EXISTS \
             (SELECT 1 FROM (SELECT * FROM {from} WHERE {few}) AS o WHERE o.window_start = e.window_start AND o.window_end = \
             e.window_end AND {on})) AS q GROUP BY window_start, window_end, {key}{having}",
            both[of]
        )
    });
    pair(squilla, duckdb, &["window_start", "key"], &["window_start"])
}

fn part_of_whole(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (key, number, ms, condition) = (draw.key(), draw.number(), draw.size(), draw.condition());
    let [squilla, duckdb] = windows(ms).map(|from| {
        format!(
            "WITH per AS (SELECT window_start, window_end, {key} AS key, count(*) AS n, avg({number}) AS mean FROM {from} AS \
             e{condition} GROUP BY window_start, window_end, {key}), whole AS (SELECT window_start, window_end, count(*) AS n, \
             avg({number}) AS mean FROM {from} AS e GROUP BY window_start, window_end) SELECT per.window_start AS window_start, \
             per.key AS key, per.n * 100.0 / whole.n AS share, CASE WHEN per.mean > whole.mean THEN 'above' WHEN per.mean IS \
             NULL THEN 'none' ELSE 'below' END AS side FROM per JOIN whole ON per.window_start = whole.window_start AND \
             per.window_end = whole.window_end"
        )
    });
    pair(squilla, duckdb, &["window_start", "key"], &["window_start"])
}

fn on_windows(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (key, number, having) = (draw.key(), draw.number(), draw.having());
    let ms = *draw.random.pick(&[500, 1_000]);
    let outer = ms * (2 + i64::try_from(draw.random.below(8)).expect("small"));
    let filter = *draw.random.pick(&["", " WHERE n > 2", " WHERE most IS NOT NULL AND n < 20"]);
    let chosen = *draw.random.pick(&["key", "n % 3", "CASE WHEN n > 5 THEN 'many' ELSE 'few' END"]);
    let values = "count(*) AS a0, max(most) AS a1, min(n) AS a2, count(DISTINCT n) FILTER (WHERE most > 0) AS a3";
    let squilla = format!(
        "SELECT window_start, {chosen} AS part, {values} FROM (SELECT window_time, {key} AS key, count(*) AS n, max({number}) AS \
         most FROM events GROUP BY {key}, tumble('{ms}ms'){having}) AS q{filter} GROUP BY {chosen}, tumble('{outer}ms')"
    );
    let below = format!(
        "(SELECT window_end - 1 AS ts, {key} AS key, count(*) AS n, max({number}) AS most FROM {} GROUP BY window_end, \
         {key}{having})",
        tumbled("events", ms)
    );
    let duckdb = format!(
        "SELECT ts - ts % {outer} AS window_start, {chosen} AS part, {values} FROM {below} AS q{filter} GROUP BY 1, {chosen}"
    );
    pair(squilla, duckdb, &["window_start", "part"], &["window_start"])
}

fn first_of_groups(random: &mut Random) -> Pair {
    let mut draw = Draw::new(random);
    let (key, [own, batch], ms) = (draw.text(), draw.aggregates(), draw.size());
    let (limit, condition, having) = (1 + draw.random.below(4), draw.condition(), draw.having());
    let order =
        *draw.random.pick(&["a0 DESC NULLS LAST, key NULLS FIRST", "key DESC NULLS LAST", "a0, key NULLS LAST"]);
    let query = |from: String, values: String| {
        format!(
            "SELECT window_start, key, place FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY \
             {order}) AS place FROM (SELECT window_start, window_end, {key} AS key, {values} FROM {from} AS e{condition} GROUP BY \
             window_start, window_end, {key}{having}) AS q) AS r WHERE place <= {limit}"
        )
    };
    let [from, from_batch] = windows(ms);
    // Where nulls go is said in one dialect as in the other.
    let order_is_said = order.replace("a0, ", "a0 NULLS LAST, ");
    pair(
        query(from, own).replace(order, &order_is_said),
        query(from_batch, batch).replace(order, &order_is_said),
        &["window_start", "place"],
        &["window_start"],
    )
}
