//! Rows to feed operators with, and what comes out as plain values: for tests.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use squilla_query::{AggregateCall, NamedExpr, WindowKind, WindowSpec, timestamp_type};

use super::aggregate::{Aggregate, AggregateSpec};
use super::check::Checked;
use super::{Operator, Output};
use crate::batch::{Memo, RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::stream::Offset;

/// A millisecond. Times of test rows are in milliseconds.
pub(crate) const MS: i64 = 1_000_000;

/// A row: event time in milliseconds, key, value.
pub(crate) type Row = (i64, Option<i64>, Option<i64>);

/// The visible fields of test rows: `ts`, `k`, `v`, and made of `v`: `f` (a half of it), `s`, `b` (whether it is even).
pub(crate) fn visible() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp_type(), true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Boolean, true),
    ]))
}

/// Stamps rows as a source does: with a watermark some time behind the greatest event time so far.
pub(crate) struct Feed {
    delay_ms: i64,
    partitions: Vec<(i64, u64)>,
}

impl Feed {
    /// A source of so many partitions, whose watermark follows `delay_ms` behind.
    pub(crate) fn new(delay_ms: i64, partitions: usize) -> Self {
        Self { delay_ms, partitions: vec![(i64::MIN, 0); partitions] }
    }

    /// The next batch of a partition.
    pub(crate) fn batch(&mut self, partition: usize, rows: &[Row]) -> StreamBatch {
        let (mut watermark, first) = self.partitions[partition];
        let mut watermarks = Vec::new();
        for (time, ..) in rows {
            watermarks.push(watermark);
            watermark = watermark.max(time.saturating_mul(MS).saturating_sub(self.delay_ms * MS));
        }
        let next = first + rows.len() as u64;
        self.partitions[partition] = (watermark, next);
        let times: Vec<i64> = rows.iter().map(|row| row.0.saturating_mul(MS)).collect();
        let values: Vec<Option<i64>> = rows.iter().map(|row| row.2).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(times.clone())),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            Arc::new(values.iter().copied().collect::<Int64Array>()),
            Arc::new(values.iter().map(|v| v.map(|v| v as f64 / 2.0)).collect::<Float64Array>()),
            Arc::new(values.iter().map(|v| v.map(|v| format!("s{v}"))).collect::<StringArray>()),
            Arc::new(values.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
            Arc::new(TimestampNanosecondArray::from(times)),
            Arc::new(TimestampNanosecondArray::from(watermarks)),
        ];
        StreamBatch {
            kind: RowKind::Append,
            partition: u32::try_from(partition).expect("a few partitions"),
            first: Offset(first),
            next: Offset(next),
            rows: RecordBatch::try_new(physical_schema(&visible()), columns).expect("the columns are the schema's"),
            watermark: EventTime(watermark),
            arrival: EventTime(0),
            idle: false,
            memo: Memo::default(),
        }
    }

    /// A batch that says that a partition is idle.
    pub(crate) fn idle(&mut self, partition: usize) -> StreamBatch {
        let mut batch = self.batch(partition, &[]);
        batch.idle = true;
        batch
    }
}

/// Windows of `size_ms` every `slide_ms`, shifted by `offset_ms`.
pub(crate) fn hop(size_ms: i64, slide_ms: i64, offset_ms: i64) -> WindowSpec {
    WindowSpec { kind: WindowKind::Hop { size_ns: size_ms * MS, slide_ns: slide_ms * MS }, offset_ns: offset_ms * MS }
}

/// Windows of `size_ms`.
pub(crate) fn tumble(size_ms: i64) -> WindowSpec {
    WindowSpec { kind: WindowKind::Tumble { size_ns: size_ms * MS }, offset_ns: 0 }
}

/// An expression under a name.
pub(crate) fn named(expr: datafusion_expr::Expr, name: &str) -> NamedExpr {
    NamedExpr { expr, name: name.into() }
}

/// An aggregate over test rows, its counters beside.
pub(crate) fn aggregate(
    window: WindowSpec,
    keys: &[NamedExpr],
    calls: Vec<datafusion_expr::Expr>,
    grace_ms: i64,
    partitions: u32,
) -> (Checked<Aggregate>, Arc<Counters>) {
    build(spec(window, keys, calls, grace_ms, partitions))
}

/// An aggregate over what another operator, of one partition, gives out.
pub(crate) fn aggregate_over(
    input: &impl Operator,
    window: WindowSpec,
    keys: &[NamedExpr],
    calls: Vec<datafusion_expr::Expr>,
) -> (Checked<Aggregate>, Arc<Counters>) {
    build(spec_over(Arc::clone(input.schema()), window, keys, calls, 0, 1))
}

fn build(spec: AggregateSpec) -> (Checked<Aggregate>, Arc<Counters>) {
    let partitions = spec.partitions;
    let counters = Arc::new(Counters::default());
    let operator = Aggregate::new(spec, Arc::clone(&counters)).expect("an aggregate");
    (Checked::new(operator, partitions as usize), counters)
}

/// What [`aggregate`] computes.
pub(crate) fn spec(
    window: WindowSpec,
    keys: &[NamedExpr],
    calls: Vec<datafusion_expr::Expr>,
    grace_ms: i64,
    partitions: u32,
) -> AggregateSpec {
    spec_over(physical_schema(&visible()), window, keys, calls, grace_ms, partitions)
}

fn spec_over(
    input: SchemaRef,
    window: WindowSpec,
    keys: &[NamedExpr],
    calls: Vec<datafusion_expr::Expr>,
    grace_ms: i64,
    partitions: u32,
) -> AggregateSpec {
    use datafusion_expr::ExprSchemable;
    let fields = datafusion_common::DFSchema::try_from(Arc::clone(&input)).expect("fields");
    let mut schema =
        vec![Field::new("window_start", timestamp_type(), false), Field::new("window_end", timestamp_type(), false)];
    let kind = |expr: &datafusion_expr::Expr| expr.get_type(&fields).expect("a type");
    schema.extend(keys.iter().map(|key| Field::new(&key.name, kind(&key.expr), true)));
    schema.extend(calls.iter().enumerate().map(|(idx, call)| Field::new(format!("a{idx}"), kind(call), true)));
    let aggregates =
        calls.into_iter().enumerate().map(|(idx, expr)| AggregateCall { expr, name: format!("a{idx}") }).collect();
    AggregateSpec {
        input,
        window,
        keys: keys.to_vec(),
        aggregates,
        grace_ns: grace_ms * MS,
        schema: Arc::new(Schema::new(schema)),
        partitions,
        start: EventTime::MIN,
        state_limit_bytes: 1 << 30,
    }
}

/// Feeds batches and ends all partitions; rows in are counted.
pub(crate) fn run(
    operator: &mut impl Operator,
    counters: &Counters,
    batches: Vec<StreamBatch>,
    partitions: u32,
) -> Output {
    let mut output = Output::default();
    for batch in batches {
        counters.rows_in.fetch_add(batch.rows.num_rows() as u64, Relaxed);
        operator.process(batch, &mut output).expect("it takes a batch");
    }
    for partition in 0..partitions {
        operator.end_partition(partition, &mut output).expect("it takes an end");
    }
    output
}

/// The visible rows of batches as text, a line each, columns parted by `|`; event times of windows in milliseconds.
pub(crate) fn lines(batches: &[StreamBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let rows = batch.visible();
        for row in 0..rows.num_rows() {
            let cells: Vec<String> = rows
                .columns()
                .iter()
                .enumerate()
                .map(|(idx, column)| match column.data_type() {
                    DataType::Timestamp(..) if idx < 2 => {
                        let times = column.as_any().downcast_ref::<TimestampNanosecondArray>().expect("nanoseconds");
                        (times.value(row) / MS).to_string()
                    }
                    _ => array_value_to_string(column, row).expect("a value"),
                })
                .collect();
            lines.push(cells.join("|"));
        }
    }
    lines
}

/// [`lines`] in order.
pub(crate) fn sorted_lines(batches: &[StreamBatch]) -> Vec<String> {
    let mut lines = lines(batches);
    lines.sort();
    lines
}
