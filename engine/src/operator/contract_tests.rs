//! The contract of joins, filled windows, windows by the calendar and running ranks, whatever batches rows come in.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::{cast, col, lit};
use datafusion_functions_aggregate::expr_fn::{count, sum};
use squilla_query::{
    Catalog, FillValue, JoinKey, JoinKind, Plan, RankFunction, RankSpec, RankTime, Relation, RelationKind, Statement,
    TimeAttribute, WindowSpec, analyze, timestamp_type,
};

use super::check::Checked;
use super::testing::{Feed, MS, Row, aggregate, lines, named, run, sorted_lines, tumble, visible};
use super::{
    Fill, FillInput, FillSpec, IntervalJoin, IntervalJoinSpec, JoinInputs, Operator, Output, RankUpdates, WindowJoin,
    WindowJoinSpec,
};
use crate::batch::{RowKind, StreamBatch, physical_schema, visible_schema};
use crate::clock::EventTime;
use crate::counters::Counters;

const KINDS: [JoinKind; 6] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];

/// Rows up to 40 ms out of order, some with null keys; with a delay of 20 ms some are late.
fn rows(count: i64, step: i64) -> Vec<Row> {
    let row = |at: i64| (at * step + (at * 7 % 5) * 8, (at % 11 != 0).then_some(at * 5 % 7), Some(at % 4));
    (0..count).map(row).collect()
}

/// Batches of so many rows, of both sides in turn.
fn batches(size: usize) -> Vec<StreamBatch> {
    let (left, right) = (rows(120, 6), rows(90, 8));
    let mut feed = Feed::new(20, 2);
    let mut batches = Vec::new();
    let (mut left, mut right) = (left.chunks(size), right.chunks(size));
    loop {
        let both = [left.next(), right.next()];
        if both.iter().all(Option::is_none) {
            return batches;
        }
        for (partition, rows) in both.into_iter().enumerate() {
            batches.extend(rows.map(|rows| feed.batch(partition, rows)));
        }
    }
}

pub(super) fn inputs(kind: JoinKind) -> JoinInputs {
    let own = visible();
    let named = |prefix: &str| {
        let renamed =
            |field: &Arc<Field>| Field::new(format!("{prefix}{}", field.name()), field.data_type().clone(), true);
        own.fields().iter().map(renamed).collect::<Vec<_>>()
    };
    let mut fields = named("");
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        fields.extend(named("r_"));
    }
    JoinInputs {
        inputs: [physical_schema(&visible()), physical_schema(&visible())],
        fields: [visible(), visible()],
        right: vec![false, true],
        on: vec![JoinKey { left: col("k"), right: col("k"), nulls: false }],
        filter: None,
        kind,
        schema: Arc::new(Schema::new(fields)),
        state_limit_bytes: 1 << 30,
    }
}

/// What an operator of two partitions makes of the rows, in batches of one, seven and all; it must be the same.
fn same_for_all<O: Operator>(what: &str, make: impl Fn(Arc<Counters>) -> O) -> Vec<String> {
    let mut first: Option<Vec<String>> = None;
    for size in [1, 7, 1000] {
        let counters = Arc::new(Counters::default());
        let mut operator = Checked::new(make(Arc::clone(&counters)), 2);
        let told = sorted_lines(&run(&mut operator, &counters, batches(size), 2).rows);
        assert_eq!(counters.snapshot().unaccounted(), 0, "{what} at {size} rows");
        assert_eq!(first.get_or_insert_with(|| told.clone()), &told, "{what} at {size} rows");
    }
    first.unwrap_or_default()
}

#[test]
fn joins_by_time_keep_the_contract() {
    let mut told = BTreeMap::new();
    for kind in KINDS {
        let lines = same_for_all(&format!("{kind:?}"), |counters| {
            let (least_ns, most_ns) = (-30 * MS, 50 * MS);
            let (join, kept, start) = (inputs(kind), [false; 2], EventTime::MIN);
            IntervalJoin::new(IntervalJoinSpec { join, least_ns, most_ns, kept, start }, counters).unwrap()
        });
        told.insert(format!("{kind:?}"), lines.len());
    }
    assert!(told["Left"] > told["Inner"] && told["Right"] > told["Inner"], "{told:?}");
    assert_eq!(told["Full"] + told["Inner"], told["Left"] + told["Right"], "{told:?}");
}

#[test]
fn joins_of_windows_keep_the_contract() {
    let mut told = BTreeMap::new();
    for kind in KINDS {
        let lines = same_for_all(&format!("{kind:?}"), |counters| {
            let width = 100 * MS;
            let end = cast(cast(col("ts"), DataType::Int64) / lit(width) * lit(width) + lit(width), timestamp_type());
            let (join, ends, told_from) = (inputs(kind), [end.clone(), end], EventTime::MIN);
            WindowJoin::new(WindowJoinSpec { join, ends, grace_ns: 0, told_from }, counters).unwrap()
        });
        told.insert(format!("{kind:?}"), lines.len());
    }
    assert!(told["Left"] >= told["Inner"] && told["Inner"] > 0, "{told:?}");
    assert_eq!(told["Full"] + told["Inner"], told["Left"] + told["Right"], "{told:?}");
}

/// Counts and sums by key, in windows of one partition's rows.
fn counted(window: WindowSpec, size: usize) -> (Vec<StreamBatch>, SchemaRef) {
    let calls = vec![count(lit(1i64)), sum(col("v"))];
    let (mut operator, counters) = aggregate(window, &[named(col("k"), "k")], calls, 0, 1);
    let mut feed = Feed::new(20, 1);
    let all = rows(150, 9);
    let batches = all.chunks(size).map(|rows| feed.batch(0, rows)).collect();
    let told = run(&mut operator, &counters, batches, 1).rows;
    assert_eq!(counters.snapshot().unaccounted(), 0);
    (told, operator.schema().clone())
}

#[test]
fn filled_windows_keep_the_contract() {
    for value in [FillValue::Null, FillValue::Zero, FillValue::Previous] {
        let mut first: Option<Vec<String>> = None;
        for size in [1, 7, 1000] {
            let (batches, input) = counted(tumble(50), size);
            let fields = visible_schema(&input);
            let fields = fields.fields().iter().enumerate();
            let fields: Vec<Field> = fields.map(|(at, field)| Field::clone(field).with_nullable(at > 1)).collect();
            let schema = Arc::new(Schema::new(fields));
            let input = FillInput { input, schema, partitions: 1, state_limit_bytes: 1 << 30 };
            let spec = FillSpec { window: tumble(50), keys: 1, value, empty_windows: 2 };
            let counters = Arc::new(Counters::default());
            let mut operator = Checked::new(Fill::new(spec, input, Arc::clone(&counters)).unwrap(), 1);
            let told = sorted_lines(&run(&mut operator, &counters, batches, 1).rows);
            assert_eq!(counters.snapshot().unaccounted(), 0);
            assert_eq!(first.get_or_insert_with(|| told.clone()), &told, "{value:?} at {size} rows");
        }
    }
}

/// A source `s` with a time.
struct OneSource;

impl Catalog for OneSource {
    fn relation(&self, name: &str) -> Option<Relation> {
        let (name, kind, time) = (name.to_owned(), RelationKind::Source, TimeAttribute::Column("ts".into()));
        Some(Relation { name, kind, schema: visible(), time, windows: None, late: None, replay: false })
    }

    fn names(&self) -> Vec<String> {
        vec!["s".into()]
    }
}

/// The windows that SQL means.
fn windows(call: &str) -> WindowSpec {
    fn find(plan: &Plan) -> Option<WindowSpec> {
        match plan {
            Plan::Aggregate { window, .. } => Some(*window),
            other => other.inputs().into_iter().find_map(|input| find(input)),
        }
    }
    let sql = format!("SELECT count(*) FROM s GROUP BY {call}");
    let Statement::Select(query) = analyze(&sql, &OneSource).unwrap() else { panic!("a query") };
    find(&query.plan).unwrap()
}

#[test]
fn windows_by_the_calendar_keep_the_contract() {
    for call in ["tumble('1 day', 'America/Sao_Paulo')", "tumble(INTERVAL '1' MONTH)"] {
        let window = windows(call);
        let mut first: Option<Vec<String>> = None;
        let day = 86_400_000;
        for size in [1, 7, 1000] {
            let (mut operator, counters) = aggregate(window, &[named(col("k"), "k")], vec![count(lit(1i64))], 0, 1);
            let mut feed = Feed::new(day, 1);
            let all: Vec<Row> = rows(300, 1).into_iter().map(|(at, key, value)| (at * day / 3, key, value)).collect();
            let batches = all.chunks(size).map(|rows| feed.batch(0, rows)).collect();
            let told = sorted_lines(&run(&mut operator, &counters, batches, 1).rows);
            assert_eq!(counters.snapshot().unaccounted(), 0);
            assert_eq!(first.get_or_insert_with(|| told.clone()), &told, "{call} at {size} rows");
        }
    }
}

/// The number of a key of each window that is told, by following what is told.
type Shown = BTreeMap<(String, String, String), String>;

fn follow(shown: &mut Shown, batches: &[StreamBatch]) {
    for batch in batches {
        for line in lines(std::slice::from_ref(batch)) {
            let cells: Vec<String> = line.split('|').map(str::to_owned).collect();
            let [start, end, key, rest @ ..] = cells.as_slice() else { panic!("{line}") };
            let key = (start.clone(), end.clone(), key.clone());
            match batch.kind {
                RowKind::Delete => assert!(shown.remove(&key).is_some(), "{line} was not told"),
                _ => drop(shown.insert(key, rest.join("|"))),
            }
        }
    }
}

/// The first two by count, then key, of what an aggregate has come to.
fn expected(groups: &Shown) -> Shown {
    let mut windows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((start, end, key), rest) in groups {
        let count: i64 = rest.split('|').next().unwrap().parse().unwrap();
        windows.entry((start, end)).or_default().push((-count, key, rest));
    }
    let mut first = Shown::new();
    for ((start, end), mut groups) in windows {
        groups.sort();
        for (number, (_, key, rest)) in (1..).zip(groups.into_iter().take(2)) {
            first.insert((start.clone(), end.clone(), key.clone()), format!("{rest}|{number}"));
        }
    }
    first
}

#[test]
fn running_ranks_are_those_of_the_groups_as_they_stand() {
    for size in [1, 5, 40] {
        let (mut groups, counted) = aggregate(tumble(100), &[named(col("k"), "k")], vec![count(lit(1i64))], 0, 1);
        groups.operator().track_updates(true);
        let input = groups.schema().clone();
        let mut fields = visible_schema(&input).fields().to_vec();
        fields.push(Arc::new(Field::new("rn", DataType::Int64, false)));
        let (start, end) = ("window_start".to_owned(), "window_end".to_owned());
        let rank = RankSpec {
            function: RankFunction::RowNumber,
            partition_by: Vec::new(),
            order_by: vec![col("a0").sort(false, false), col("k").sort(true, true)],
            limit: Some(2),
            column: Some("rn".into()),
            ordered: false,
            time: RankTime::Window { start, end, grace_ns: 0, assigned: None },
        };
        let counters = Arc::new(Counters::default());
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let operator = RankUpdates::new(&input, &rank, &[0, 1, 2], &output, Arc::clone(&counters)).unwrap();
        let mut ranks = Checked::new(operator, 1);
        let (mut feed, mut all, mut shown) = (Feed::new(20, 1), Shown::new(), Shown::new());
        let mut pass = |told: Output, last: bool| {
            follow(&mut all, &told.updates);
            let mut ranked = Output::default();
            for batch in told.updates {
                counters.rows_in.fetch_add(batch.rows.num_rows() as u64, Relaxed);
                ranks.process(batch, &mut ranked).unwrap();
            }
            counters.passed.fetch_add(ranked.updates.iter().map(|batch| batch.rows.num_rows() as u64).sum(), Relaxed);
            follow(&mut shown, &ranked.updates);
            assert_eq!(shown, expected(&all), "in batches of {size}");
            assert_eq!(counters.snapshot().unaccounted(), 0);
            assert!(!last || ranks.operator().state_bytes() < 1 << 20);
        };
        for rows in rows(200, 5).chunks(size) {
            let mut told = Output::default();
            counted.rows_in.fetch_add(rows.len() as u64, Relaxed);
            groups.process(feed.batch(0, rows), &mut told).unwrap();
            groups.tick(&mut told).unwrap();
            pass(told, false);
        }
        let mut told = Output::default();
        groups.end_partition(0, &mut told).unwrap();
        pass(told, true);
    }
}
