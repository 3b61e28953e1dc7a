//! A source that a test feeds, and plans made by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion_expr::{Expr, col, lit};
use squilla_engine::{
    Connector, ConnectorInfo, Durability, EngineError, EventTimeSpec, PartitionReader, ReadEvent, SourceDefinition,
    WatermarkSpec,
};
use squilla_query::{AggregateCall, Emit, NamedExpr, Plan, Query, WindowKind, WindowSpec, timestamp_type};
use tokio::sync::mpsc;

/// Nanoseconds.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// The test's end of the source.
pub(crate) struct Fed(mpsc::Sender<RecordBatch>);

impl Fed {
    /// Sends rows `(second, key, n)` as one batch.
    pub(crate) async fn send(&self, rows: &[(i64, &str, i64)]) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.0 * SECOND))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
        ];
        let batch = RecordBatch::try_new(schema(), columns).expect("the columns fit");
        self.0.send(batch).await.expect("the source runs");
    }
}

#[derive(Debug)]
struct Feed(Mutex<Option<mpsc::Receiver<RecordBatch>>>);

struct Reader(mpsc::Receiver<RecordBatch>);

#[async_trait]
impl Connector for Feed {
    fn info(&self) -> ConnectorInfo {
        ConnectorInfo {
            connector: "test",
            label: None,
            bounded: false,
            rereadable: false,
            can_wait: false,
            replay: false,
            options: Vec::new(),
        }
    }

    async fn open(&self, _: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let receiver = self.0.lock().expect("not poisoned").take().expect("opened once");
        Ok(vec![Box::new(Reader(receiver))])
    }
}

#[async_trait]
impl PartitionReader for Reader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        Ok(match self.0.recv().await {
            Some(rows) => {
                ReadEvent::Batch { rows, undecodable: 0, rejects: Vec::new(), bytes: 0, receipts: Vec::new() }
            }
            None => ReadEvent::End,
        })
    }
}

/// A source of one partition with a watermark delay of two seconds.
pub(crate) fn source(name: &str) -> (Fed, SourceDefinition) {
    let (sender, receiver) = mpsc::channel(4);
    let definition = SourceDefinition {
        name: name.to_owned(),
        schema: schema(),
        key: Vec::new(),
        event_time: EventTimeSpec::Column { index: 0, watermark: WatermarkSpec::Delay(2 * SECOND) },
        idle_timeout: Duration::from_secs(10),
        retention: Duration::from_secs(900),
        retention_bytes: 64 << 20,
        durability: Durability::Memory,
        resumes: false,
        connector: Arc::new(Feed(Mutex::new(Some(receiver)))),
    };
    (Fed(sender), definition)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp_type(), true),
        Field::new("key", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

pub(crate) fn scan() -> Plan {
    scan_of("events", &schema())
}

pub(crate) fn scan_of(relation: &str, schema: &SchemaRef) -> Plan {
    Plan::Scan { relation: relation.to_owned(), schema: schema.clone() }
}

pub(crate) fn filter(input: Plan, predicate: Expr) -> Plan {
    Plan::Filter { input: Arc::new(input), predicate }
}

pub(crate) fn count(name: &str) -> AggregateCall {
    let expr = datafusion_functions_aggregate::expr_fn::count(lit(1_i64));
    AggregateCall { expr, name: name.to_owned() }
}

pub(crate) fn sum(name: &str, of: Expr) -> AggregateCall {
    AggregateCall { expr: datafusion_functions_aggregate::expr_fn::sum(of), name: name.to_owned() }
}

/// Windows of ten seconds by key.
pub(crate) fn aggregate(input: Plan, aggregates: &[AggregateCall]) -> Plan {
    let mut fields = vec![
        Field::new("window_start", timestamp_type(), false),
        Field::new("window_end", timestamp_type(), false),
        Field::new("key", DataType::Utf8, true),
    ];
    fields.extend(aggregates.iter().map(|call| Field::new(&call.name, DataType::Int64, true)));
    Plan::Aggregate {
        input: Arc::new(input),
        window: WindowSpec { kind: WindowKind::Tumble { size_ns: 10 * SECOND }, offset_ns: 0 },
        keys: vec![NamedExpr { expr: col("key"), name: "key".into() }],
        aggregates: aggregates.to_vec(),
        grace_ns: 0,
        schema: Arc::new(Schema::new(fields)),
    }
}

pub(crate) fn query(plan: Plan) -> Query {
    Query {
        sql: "by hand".into(),
        plan,
        emit: Emit::OnWindowClose,
        since: None,
        until: None,
        limit: None,
        key: Vec::new(),
    }
}
