//! Batches that cost next to nothing to make.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use squilla_query::timestamp_type;
use squilla_tests::held::Partition;

/// What the batches are rows of.
pub(crate) const SOURCE: &str = "CREATE SOURCE s (k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) \
                                 WITH (connector = 'file', path = 'none')";

const BATCH_ROWS: u64 = 8_192;
/// Event time of the first row, in nanoseconds since 1970: a day begins.
const START_NS: i64 = 1_699_920_000_000_000_000;
/// Batches of different keys and values, which come again and again.
const POOL: u64 = 64;
/// A step through numbers below a power of ten that meets each of them.
const STRIDE: u64 = 61_803_399;

fn schema() -> SchemaRef {
    let field = |name, kind| Field::new(name, kind, true);
    let fields = vec![field("k", DataType::Int64), field("v", DataType::Int64), field("ts", timestamp_type())];
    Arc::new(Schema::new(fields))
}

fn batch(schema: &SchemaRef, columns: [ArrayRef; 2], times: impl Iterator<Item = i64>) -> RecordBatch {
    let times = TimestampNanosecondArray::from_iter_values(times).with_data_type(timestamp_type());
    let [keys, values] = columns;
    RecordBatch::try_new(Arc::clone(schema), vec![keys, values, Arc::new(times)]).expect("columns are of the schema")
}

/// A number that looks drawn.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
}

fn number(value: u64) -> i64 {
    i64::try_from(value).expect("numbers here are small")
}

/// So many rows of drawn keys, in order of event time.
pub(crate) fn rows(rows: u64, part: u64, keys: u64, step_ns: i64) -> Partition {
    let drawn = |at: u64, salt: u64, below: u64| -> ArrayRef {
        let seeds = (0..BATCH_ROWS).map(|row| ((part * POOL + at) * BATCH_ROWS + row) * 2 + salt);
        Arc::new(Int64Array::from_iter_values(seeds.map(|seed| number(mixed(seed) % below))))
    };
    let pool: Vec<[ArrayRef; 2]> = (0..POOL).map(|at| [drawn(at, 0, keys), drawn(at, 1, 1_000)]).collect();
    let (pool, schema) = (Arc::new(pool), schema());
    Box::new(move || {
        let (pool, schema) = (Arc::clone(&pool), Arc::clone(&schema));
        Box::new((0..rows.div_ceil(BATCH_ROWS)).map(move |at| {
            let (from, len) = (at * BATCH_ROWS, BATCH_ROWS.min(rows - at * BATCH_ROWS));
            let columns = &pool[usize::try_from(at % POOL).expect("the pool is small")];
            let columns = columns.each_ref().map(|column| column.slice(0, usize::try_from(len).expect("a batch")));
            batch(&schema, columns, (from..from + len).map(|row| START_NS + number(row) * step_ns))
        }))
    })
}

/// Two rows of each of so many keys, a power of ten, all within seconds.
pub(crate) fn disordered_keys(keys: u64) -> Partition {
    Box::new(move || {
        let schema = schema();
        let rows = 2 * keys;
        Box::new((0..rows.div_ceil(BATCH_ROWS)).map(move |at| {
            let rows = at * BATCH_ROWS..(at * BATCH_ROWS + BATCH_ROWS).min(rows);
            let own = rows.clone().map(|row| number(row % keys * STRIDE % keys));
            let columns: [ArrayRef; 2] = [
                Arc::new(Int64Array::from_iter_values(own)),
                Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| number(mixed(row) % 1_000)))),
            ];
            batch(&schema, columns, rows.map(|row| START_NS + number(row)))
        }))
    })
}
