//! Operators that are saved, and replaced by others that restore their state, tell what one that never was tells.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::{Expr, cast, col, lit};
use datafusion_functions_aggregate::expr_fn::{avg, count_distinct, last_value, sum};
use proptest::collection::vec;
use proptest::prelude::*;
use squilla_query::{
    FillValue, JoinKey, JoinKind, RankFunction, RankTime, TrackCall, TrackFunction, WINDOW_END, WINDOW_START,
    WINDOW_TIME, timestamp_type,
};

use super::check::Checked;
use super::testing::{self, Feed, MS, Row, hop, lines, named, tumble, visible};
use super::{
    Aggregate, AggregateRunning, AssignWindow, ByArrival, CountWindow, Deduplicate, Fill, FillInput, FillSpec,
    IntervalJoin, IntervalJoinSpec, KeepLatest, LookupJoin, LookupSpec, Operator, Output, Part, Rank, RankInput,
    RankRunning, Session, State, Track, WindowJoin, WindowJoinSpec,
};
use super::{
    contract_tests, count_window_tests, functions_tests, rank_tests, running_tests, session_tests, track_tests,
};
use crate::batch::{StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, CountersSnapshot, add};
use crate::error::EngineError;

/// Makes an operator of two partitions.
type Make = Box<dyn Fn(Arc<Counters>) -> Box<dyn Operator>>;

impl Operator for Box<dyn Operator> {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        self.as_ref().schema()
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.as_mut().process(batch, output)
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        self.as_mut().end_partition(partition, output)
    }

    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        self.as_mut().tick(output)
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        self.as_mut().snapshot()
    }

    fn track_updates(&mut self, on: bool) {
        self.as_mut().track_updates(on);
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.as_mut().save(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.as_mut().restore(state)
    }

    fn state_bytes(&self) -> usize {
        self.as_ref().state_bytes()
    }
}

fn make<O: Operator + 'static>(operator: impl Fn(Arc<Counters>) -> Result<O, EngineError> + 'static) -> Make {
    Box::new(move |counters| Box::new(operator(counters).unwrap()))
}

/// Sums of tenths: their last digits tell in which order they were added. Variances are left out: DataFusion rounds them
/// once more when they are merged.
fn calls() -> Vec<Expr> {
    let tenth = || col("f") * lit(0.1);
    vec![sum(tenth()), avg(tenth()), count_distinct(col("s")), last_value(col("s"), vec![])]
}

/// Rows with the windows that they are in.
fn assigned(counters: Arc<Counters>) -> AssignWindow {
    let mut fields = visible().fields().to_vec();
    fields.extend(
        [WINDOW_START, WINDOW_END, WINDOW_TIME].map(|name| Arc::new(Field::new(name, timestamp_type(), false))),
    );
    AssignWindow::new(&physical_schema(&visible()), tumble(20), &Arc::new(Schema::new(fields)), counters).unwrap()
}

/// Two operators behind each other.
struct Chain<A, B> {
    first: A,
    second: B,
    /// Partitions of the first that have not ended, where its output is one; `None`: it has the same partitions.
    left: Option<u32>,
}

impl<A: Operator, B: Operator> Chain<A, B> {
    fn pass(&mut self, told: Output, output: &mut Output) -> Result<(), EngineError> {
        told.rows.into_iter().try_for_each(|batch| self.second.process(batch, output))
    }
}

impl<A: Operator, B: Operator> Operator for Chain<A, B> {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        self.second.schema()
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let mut told = Output::default();
        self.first.process(batch, &mut told)?;
        self.pass(told, output)
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        let mut told = Output::default();
        self.first.end_partition(partition, &mut told)?;
        self.pass(told, output)?;
        self.left = self.left.map(|left| left - 1);
        match self.left {
            None => self.second.end_partition(partition, output),
            Some(0) => self.second.end_partition(0, output),
            Some(_) => Ok(()),
        }
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.first.save(state)?;
        self.second.save(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.first.restore(state)?;
        self.second.restore(state)
    }

    fn state_bytes(&self) -> usize {
        self.first.state_bytes() + self.second.state_bytes()
    }
}

fn rank(counters: Arc<Counters>) -> Result<Chain<AssignWindow, Rank>, EngineError> {
    let first = assigned(Arc::clone(&counters));
    let input = Arc::clone(first.schema());
    let mut rank = rank_tests::spec(2, vec![col("v").sort(false, false)], false);
    let (start, end) = (WINDOW_START.to_owned(), WINDOW_END.to_owned());
    rank.time = RankTime::Window { start, end, grace_ns: 3 * MS, assigned: Some(tumble(20)) };
    let mut fields = crate::batch::visible_schema(&input).fields().to_vec();
    fields.push(Arc::new(Field::new("rn", DataType::Int64, false)));
    let schema = Arc::new(Schema::new(fields));
    let setting = RankInput { input, schema, partitions: 2, start: EventTime::MIN, state_limit_bytes: 1 << 30 };
    Ok(Chain { first, second: Rank::new(&rank, setting, counters)?, left: None })
}

fn fill(value: FillValue) -> Make {
    // What the rows' windows are does not matter to it, only where they begin.
    let fields = vec![
        Field::new("window_start", timestamp_type(), false),
        Field::new("window_end", timestamp_type(), false),
        Field::new("k", DataType::Int64, true),
        Field::new("a0", DataType::Float64, true),
    ];
    let schema: Arc<Schema> = Arc::new(Schema::new(fields));
    make(move |counters| {
        let spec = testing::spec(tumble(20), &[named(col("k"), "k")], vec![avg(col("f"))], 0, 2);
        let input = physical_schema(&spec.schema);
        let input = FillInput { input, schema: Arc::clone(&schema), partitions: 1, state_limit_bytes: 1 << 30 };
        let fill = FillSpec { window: tumble(20), keys: 1, value, empty_windows: 2 };
        let (first, second) = (Aggregate::new(spec, Arc::default())?, Fill::new(fill, input, counters)?);
        Ok(Chain { first, second, left: Some(2) })
    })
}

fn window_join(kind: JoinKind) -> Make {
    make(move |counters| {
        let width = 20 * MS;
        let end = cast(cast(col("ts"), DataType::Int64) / lit(width) * lit(width) + lit(width), timestamp_type());
        let (join, ends, told_from) = (contract_tests::inputs(kind), [end.clone(), end], EventTime(20 * MS));
        WindowJoin::new(WindowJoinSpec { join, ends, grace_ns: 0, told_from }, counters)
    })
}

fn interval_join(kind: JoinKind) -> Make {
    make(move |counters| {
        let (join, start) = (contract_tests::inputs(kind), EventTime(-10 * MS));
        let (least_ns, most_ns, kept) = (-10 * MS, 15 * MS, [true, false]);
        IntervalJoin::new(IntervalJoinSpec { join, least_ns, most_ns, kept, start }, counters)
    })
}

fn look_up(counters: Arc<Counters>) -> Result<LookupJoin, EngineError> {
    let fields = |names: &[usize]| Arc::new(visible().project(names).unwrap());
    let (left, right, both) = (fields(&[1, 2]), fields(&[3, 4]), fields(&[1, 2, 3, 4]));
    let spec = LookupSpec {
        table: "t".into(),
        inputs: [physical_schema(&visible()), physical_schema(&visible())],
        fields: [left, right],
        partitions: 1,
        on: vec![JoinKey { left: col("k") + lit(1i64), right: col("v"), nulls: false }],
        filter: None,
        kind: JoinKind::Left,
        schema: both,
        state_limit_bytes: 1 << 30,
    };
    LookupJoin::new(spec, counters)
}

fn track(counters: Arc<Counters>) -> Result<Track, EngineError> {
    let (mut spec, mut input) = track_tests::spec(60, 2, 1 << 30);
    let call = |column: &str, function| TrackCall { argument: "f".into(), column: column.into(), function };
    spec.calls.extend([
        call("mean", TrackFunction::Ewma { alpha: 0.3 }),
        call("band", TrackFunction::EwmaBand { alpha: 0.3, deviations: 2.0, min_count: 2 }),
        call("rate", TrackFunction::RateOfChange),
    ]);
    let mut fields = input.schema.fields().to_vec();
    fields.extend(["mean", "band", "rate"].map(|name| Arc::new(Field::new(name, DataType::Float64, true))));
    input.schema = Arc::new(Schema::new(fields));
    Track::new(&spec, input, counters)
}

fn top(function: RankFunction) -> Make {
    make(move |counters| {
        let mut spec = rank_tests::spec(2, vec![col("v").sort(false, false)], false);
        spec.function = function;
        spec.column = None;
        let mut input = rank_tests::input(true, 2, 1 << 30);
        let place = spec.place().map(|name| Field::new(name, DataType::Int64, false));
        let fields = [Field::new("k", DataType::Int64, true)].into_iter().chain(place);
        let fields = fields.chain([Field::new("v", DataType::Int64, true)]);
        input.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        input.ttl_ns = Some(40 * MS);
        RankRunning::new(&spec, input, counters)
    })
}

/// Every operator that keeps anything, by its kind and what is special about it.
fn operators() -> Vec<(&'static str, Make)> {
    let aggregate = |window| {
        make(move |counters| {
            let mut spec = testing::spec(window, &[named(col("k"), "k")], calls(), 5, 2);
            spec.start = EventTime(-40 * MS);
            Aggregate::new(spec, counters)
        })
    };
    let session = |start: i64| {
        make(move |counters| {
            let mut spec = session_tests::spec(6, 2, 2, Some(col("b")));
            spec.start = EventTime(start);
            Session::new(spec, counters)
        })
    };
    let first = |by_time: bool| {
        make(move |counters| {
            let order = if by_time { vec![col("ts").sort(true, false)] } else { Vec::new() };
            let mut input = rank_tests::input(true, 2, 1 << 30);
            input.ttl_ns = Some(40 * MS);
            Deduplicate::new(&rank_tests::spec(1, order, true), input, counters)
        })
    };
    let running = make(|counters| {
        let mut spec = running_tests::spec(Some(40), 1 << 30);
        spec.partitions = 2;
        AggregateRunning::new(spec, counters)
    });
    vec![
        ("aggregate, tumbling", aggregate(tumble(20))),
        ("aggregate, hopping", aggregate(hop(20, 5, 3))),
        ("sessions, all", session(i64::MIN)),
        ("sessions, of a fresh query", session(10 * MS)),
        ("count", make(|counters| CountWindow::new(count_window_tests::spec(6, 4, 2), counters))),
        ("running", running),
        ("rank", make(rank)),
        ("top, by number", top(RankFunction::RowNumber)),
        ("top, by rank", top(RankFunction::Rank)),
        ("top, by dense rank", top(RankFunction::DenseRank)),
        ("first, by arrival", first(false)),
        ("first, by time", first(true)),
        ("tracked", make(track)),
        ("filled", fill(FillValue::Previous)),
        ("interval, full", interval_join(JoinKind::Full)),
        ("interval, semi", interval_join(JoinKind::Semi)),
        ("window, full", window_join(JoinKind::Full)),
        ("window, anti", window_join(JoinKind::Anti)),
        ("look-up", make(look_up)),
        (
            "table",
            make(|counters| {
                KeepLatest::new("t", &physical_schema(&visible()), &["k".into(), "s".into()], 1 << 30, counters)
            }),
        ),
        ("by arrival", make(|_| Ok(ByArrival::new(&physical_schema(&visible()))))),
    ]
}

/// What is done to an operator behind a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Saved,
    Restored,
}

/// All that is told: rows with all that goes with them, batch by batch.
fn text(batches: &[StreamBatch]) -> Vec<String> {
    let of_batch = |batch: &StreamBatch| {
        let StreamBatch { kind, partition, first, next, watermark, arrival, idle, .. } = batch;
        let mut text = format!("{kind:?} {partition} {first:?}-{next:?} {watermark:?} {arrival:?} {idle}:");
        let hidden = batch.event_times().iter().zip(batch.watermarks());
        for (line, hidden) in lines(std::slice::from_ref(batch)).iter().zip(hidden) {
            let _ = write!(text, "\n  {line} {hidden:?}");
        }
        text
    };
    batches.iter().map(of_batch).collect()
}

fn saved(operator: &mut dyn Operator) -> State {
    let mut state = State::default();
    operator.save(&mut state).unwrap();
    state
}

/// What an operator tells of batches that come at 1, 2, 3 … ms.
fn told(make: &Make, batches: Vec<StreamBatch>, then: &[Then], ticks: bool) -> (Vec<String>, CountersSnapshot) {
    let counters = Arc::new(Counters::default());
    let mut operator = Checked::new(make(Arc::clone(&counters)), 2);
    operator.operator().as_mut().track_updates(ticks);
    let mut output = Output::default();
    for ((batch, then), at) in batches.into_iter().zip(then.iter().cycle()).zip(1..) {
        add(&counters.rows_in, batch.rows.num_rows());
        let mut batch = batch;
        batch.arrival = EventTime(at * MS);
        operator.process(batch, &mut output).unwrap();
        if ticks && at % 3 == 0 {
            operator.tick(&mut output).unwrap();
        }
        let inner = operator.operator();
        match then {
            Then::Nothing => {}
            Then::Saved => drop(saved(inner.as_mut())),
            Then::Restored => {
                let mut state = saved(inner.as_mut());
                *inner = make(Arc::clone(&counters));
                inner.restore(&mut state).unwrap();
                assert!(state.is_empty(), "all of a state is taken");
            }
        }
    }
    for partition in 0..2 {
        operator.end_partition(partition, &mut output).unwrap();
    }
    let mut told = text(&output.rows);
    told.extend(text(&output.updates));
    (told, counters.snapshot())
}

fn rows() -> impl Strategy<Value = Vec<(bool, Vec<Row>)>> {
    let row = (-60i64..120, prop::option::of(0i64..4), prop::option::of(-9i64..9));
    vec((any::<bool>(), vec(row, 0..12)), 1..25)
}

/// Batches of two partitions, in which event times go on by and by.
fn batches(rows: &[(bool, Vec<Row>)], delay: i64) -> Vec<StreamBatch> {
    let mut feed = Feed::new(delay, 2);
    let batch = |(at, (right, rows)): (i64, &(bool, Vec<Row>))| {
        let rows: Vec<Row> = rows.iter().map(|(time, key, value)| (time / 4 + at * 6, *key, *value)).collect();
        if rows.is_empty() { feed.idle(usize::from(*right)) } else { feed.batch(usize::from(*right), &rows) }
    };
    (0..).zip(rows).map(batch).collect()
}

fn thens() -> impl Strategy<Value = Vec<Then>> {
    vec(prop_oneof![Just(Then::Nothing), Just(Then::Saved), Just(Then::Restored)], 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_restored_goes_on_as_if_nothing_had_been(rows in rows(), delay in 0i64..25, then in thens()) {
        for (name, make) in operators() {
            let (expected, counted) = told(&make, batches(&rows, delay), &[Then::Nothing], false);
            let (found, recounted) = told(&make, batches(&rows, delay), &then, false);
            prop_assert_eq!(&found, &expected, "{}", name);
            prop_assert_eq!(recounted, counted, "{}", name);
        }
    }

    #[test]
    fn readers_of_running_results_do_not_notice_that_state_was_saved(rows in rows(), delay in 0i64..25) {
        for (name, make) in operators() {
            let (expected, _) = told(&make, batches(&rows, delay), &[Then::Nothing], true);
            let (found, _) = told(&make, batches(&rows, delay), &[Then::Saved], true);
            prop_assert_eq!(&found, &expected, "{}", name);
        }
    }

    #[test]
    fn what_is_restored_shows_running_results_as_they_stood(rows in rows(), delay in 0i64..25, ticks in any::<bool>()) {
        for (name, make) in operators() {
            let mut operator = make(Arc::default());
            operator.track_updates(ticks);
            let mut output = Output::default();
            for batch in batches(&rows, delay) {
                operator.process(batch, &mut output).unwrap();
                operator.tick(&mut output).unwrap();
            }
            let mut again = make(Arc::default());
            again.restore(&mut saved(operator.as_mut())).unwrap();
            again.track_updates(true);
            let sorted = |operator: &mut dyn Operator| testing::sorted_lines(&operator.snapshot().unwrap());
            prop_assert_eq!(sorted(again.as_mut()), sorted(operator.as_mut()), "{}", name);
        }
    }

    #[test]
    fn a_state_that_is_not_whole_is_refused(rows in rows(), which in any::<prop::sample::Index>(), short in any::<bool>()) {
        for (name, make) in operators() {
            let mut operator = make(Arc::default());
            let mut output = Output::default();
            batches(&rows, 5).into_iter().for_each(|batch| operator.process(batch, &mut output).unwrap());
            let mut parts: Vec<Part> = saved(operator.as_mut()).into_parts().collect();
            let at = which.index(parts.len());
            if short {
                parts.truncate(at);
            } else {
                parts.remove(at);
            }
            let found = make(Arc::default()).restore(&mut parts.into_iter().collect());
            // A part among others of its kind may not be missed before the end of them.
            prop_assert!(matches!(found, Err(EngineError::State(_))), "{name} without part {at}: {found:?}");
        }
    }
}

#[test]
fn a_state_of_another_operator_is_refused() {
    let rows: Vec<(bool, Vec<Row>)> = (0..12i64).map(|at| (at % 2 == 0, vec![(at, Some(at % 3), Some(at))])).collect();
    for (name, make) in operators() {
        let mut operator = make(Arc::default());
        let mut output = Output::default();
        batches(&rows, 5).into_iter().for_each(|batch| operator.process(batch, &mut output).unwrap());
        let state = saved(operator.as_mut());
        for (other, make) in operators() {
            let mut state = state.clone();
            let result = make(Arc::default()).restore(&mut state);
            let taken = result.is_ok() && state.is_empty();
            let alike = name.split(',').next() == other.split(',').next();
            assert!(alike || !taken, "{other} takes the state of {name}");
        }
    }
}

#[test]
fn every_aggregate_goes_on_from_its_state() {
    let rows: Vec<Row> = (0i64..60)
        .map(|i| ((i * 37) % 40, Some(i % 3), if i % 7 == 0 { None } else { Some((i * 53) % 23 - 9) }))
        .collect();
    let batches = || {
        let mut feed = Feed::new(15, 2);
        let batches = rows.chunks(7).enumerate().map(|(at, rows)| feed.batch(at % 2, rows));
        batches.collect::<Vec<_>>()
    };
    for call in functions_tests::all_calls() {
        for window in [tumble(10), hop(20, 5, 3)] {
            let spec = testing::spec(window, &[named(col("k"), "k")], vec![call.clone()], 0, 2);
            let make = make(move |counters| Aggregate::new(spec.clone(), counters));
            let (expected, _) = told(&make, batches(), &[Then::Nothing], false);
            for then in [Then::Saved, Then::Restored] {
                let (found, _) = told(&make, batches(), &[then], false);
                assert_eq!(found, expected, "{call} {then:?}");
            }
        }
    }
}
