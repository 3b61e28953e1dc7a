//! The kernels: each does a step of a row's way over and over, with what it needs made before.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{Int64Type, SchemaRef, TimestampNanosecondType};
use squilla_engine::operator::{Aggregate, AggregateSpec, Filter, Operator, Output};
use squilla_engine::{Connector, Counters, EventTime, Memo, Offset, ReadEvent, RowKind, StreamBatch, physical_schema};
use squilla_query::{Plan, Statement, analyze};
use squilla_sources::encode::write_ndjson;
use squilla_tests::files::connector;
use squilla_tests::generated::bids;
use squilla_tests::names::Names;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// All kernels.
pub(crate) const NAMES: [&str; 5] = ["decode", "filter", "panes", "merge", "encode"];

const EVENTS: usize = 60_000;
const BATCH_ROWS: usize = 8_192;
const COLUMNS: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, \
                       WATERMARK FOR date_time AS date_time";

/// A step of a row's way.
pub(crate) struct Kernel {
    rows: usize,
    round: Box<dyn FnMut()>,
}

impl Kernel {
    /// One of [`NAMES`].
    pub(crate) fn new(name: &str) -> Self {
        let batches: Vec<RecordBatch> = bids(EVENTS, BATCH_ROWS).collect();
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let round = match name {
            "decode" => decode(&batches),
            "filter" => filter(&batches),
            "panes" => aggregate(&batches, "count(*), sum(price)", "auction, tumble('1s')"),
            // Windows of 16 panes, so that most of the work is theirs.
            "merge" => aggregate(&batches, "count(*), max(price)", "bidder, hop('250 ms', '4s')"),
            "encode" => encode(batches),
            other => panic!("no kernel {other}: there are {}", NAMES.join(" ")),
        };
        Self { rows, round }
    }

    /// Rows of a round.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Does it once.
    pub(crate) fn round(&mut self) {
        (self.round)();
    }
}

/// Three of six fields out of lines of JSON in a file.
fn decode(batches: &[RecordBatch]) -> Box<dyn FnMut()> {
    let folder = tempfile::tempdir().expect("a folder for a file");
    let path = folder.path().join("bid.jsonl");
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    write(batches, &path);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let sql = format!("CREATE SOURCE bid ({COLUMNS}) WITH (connector = 'file', path = '{}')", path.display());
    let connector = runtime.block_on(connector(&sql));
    let mut read = Reading { runtime, connector, _folder: folder };
    Box::new(move || assert_eq!(read.all(), rows))
}

struct Reading {
    runtime: Runtime,
    connector: Arc<dyn Connector>,
    _folder: TempDir,
}

impl Reading {
    fn all(&mut self) -> usize {
        self.runtime.block_on(async {
            let mut readers = self.connector.open(&[0, 2, 5]).await.expect("the file is there");
            let mut read = 0;
            for reader in &mut readers {
                loop {
                    match reader.next().await.expect("the file can be read") {
                        ReadEvent::Batch { rows, .. } => read += rows.num_rows(),
                        ReadEvent::Empty => {}
                        ReadEvent::End => break,
                    }
                }
            }
            read
        })
    }
}

fn write(batches: &[RecordBatch], path: &Path) {
    let mut file = BufWriter::new(File::create(path).expect("the file can be written"));
    for batch in batches {
        let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
        let times = batch.column(5).as_primitive::<TimestampNanosecondType>();
        for row in 0..batch.num_rows() {
            writeln!(
                file,
                r#"{{"auction":{},"bidder":{},"price":{},"channel":"{}","url":"{}","date_time":{}}}"#,
                number(0, row),
                number(1, row),
                number(2, row),
                text(3, row),
                text(4, row),
                times.value(row) / 1_000_000
            )
            .expect("the file can be written");
        }
    }
    file.flush().expect("the file can be written");
}

/// The plan of a query over bids, and the columns that it reads.
fn plan(sql: &str) -> (Plan, SchemaRef) {
    let names = Names::of(&[&format!("CREATE SOURCE bid ({COLUMNS}) WITH (connector = 'file', path = 'none')")]);
    let Ok(Statement::Select(query)) = analyze(sql, &names) else { panic!("{sql} is right") };
    let mut below = query.plan.clone();
    while let [input] = below.inputs()[..] {
        below = Plan::clone(input);
    }
    let schema = below.schema().clone();
    (query.plan, schema)
}

fn find<T>(plan: &Plan, found: &impl Fn(&Plan) -> Option<T>) -> Option<T> {
    found(plan).or_else(|| plan.inputs().into_iter().find_map(|input| find(input, found)))
}

/// The batches as a source hands them on.
fn stamped(batches: &[RecordBatch], schema: &SchemaRef) -> Vec<Vec<ArrayRef>> {
    let mut before = i64::MIN;
    let own = |batch: &RecordBatch| {
        let of = |name: &str| batch.column_by_name(name).expect("bids have it").clone();
        let times: TimestampNanosecondArray = of("date_time").as_primitive::<TimestampNanosecondType>().clone();
        let marks: Int64Array = times.values().iter().map(|time| std::mem::replace(&mut before, *time)).collect();
        let marks = marks.reinterpret_cast::<TimestampNanosecondType>();
        let columns = schema.fields().iter().map(|field| of(field.name()));
        columns.chain([Arc::new(times) as ArrayRef, Arc::new(marks)]).collect()
    };
    batches.iter().map(own).collect()
}

/// Feeds an operator, and drops what comes out.
fn feed(operator: &mut dyn Operator, input: &SchemaRef, batches: &[Vec<ArrayRef>]) -> usize {
    let (mut first, mut told) = (0, 0);
    let mut output = Output::default();
    for columns in batches {
        let rows = RecordBatch::try_new(Arc::clone(input), columns.clone()).expect("columns are of the schema");
        let next = first + rows.num_rows() as u64;
        let times = columns[columns.len() - 2].as_primitive::<TimestampNanosecondType>();
        let batch = StreamBatch {
            kind: RowKind::Append,
            partition: 0,
            first: Offset(first),
            next: Offset(next),
            watermark: EventTime(times.value(times.len() - 1)),
            arrival: EventTime(0),
            idle: false,
            memo: Memo::default(),
            rows,
        };
        operator.process(batch, &mut output).expect("the operator goes on");
        told += output.rows.drain(..).map(|batch| batch.rows.num_rows()).sum::<usize>();
        first = next;
    }
    operator.end_partition(0, &mut output).expect("the operator goes on");
    told + output.rows.iter().map(|batch| batch.rows.num_rows()).sum::<usize>()
}

fn filter(batches: &[RecordBatch]) -> Box<dyn FnMut()> {
    let (plan, schema) = plan(
        "SELECT auction, bidder, price, channel FROM bid WHERE auction % 7 = 0 AND channel = 'Google' AND price > 1000",
    );
    let predicate = find(&plan, &|plan| match plan {
        Plan::Filter { predicate, .. } => Some(predicate.clone()),
        _ => None,
    });
    let predicate = predicate.expect("the query has a filter");
    let (input, stamped) = (physical_schema(&schema), stamped(batches, &schema));
    let mut filter = Filter::new(&input, &predicate, Arc::default()).expect("the filter is right");
    Box::new(move || assert!(feed(&mut filter, &input, &stamped) > 0))
}

fn aggregate(batches: &[RecordBatch], calls: &str, keys: &str) -> Box<dyn FnMut()> {
    let (plan, schema) = plan(&format!("SELECT {calls} FROM bid GROUP BY {keys}"));
    let (input, stamped) = (physical_schema(&schema), stamped(batches, &schema));
    let spec = find(&plan, &|plan| match plan {
        Plan::Aggregate { window, keys, aggregates, grace_ns, schema, .. } => Some(AggregateSpec {
            input: Arc::clone(&input),
            window: *window,
            keys: keys.clone(),
            aggregates: aggregates.clone(),
            grace_ns: *grace_ns,
            schema: Arc::clone(schema),
            partitions: 1,
            start: EventTime::MIN,
            state_limit_bytes: usize::MAX,
        }),
        _ => None,
    });
    let spec = spec.expect("the query has an aggregate");
    Box::new(move || {
        let counters = Arc::<Counters>::default();
        let mut aggregate = Aggregate::new(spec.clone(), counters).expect("the aggregate is right");
        assert!(feed(&mut aggregate, &input, &stamped) > 0);
    })
}

fn encode(batches: Vec<RecordBatch>) -> Box<dyn FnMut()> {
    let mut out = Vec::new();
    Box::new(move || {
        for batch in &batches {
            out.clear();
            write_ndjson(batch, 0..batch.num_rows(), None, &mut out);
        }
        assert!(!out.is_empty());
    })
}
