//! `flights`: departures and arrivals of January 2013 in New York City, replayed.
//!
//! The data repeats every 31 days: the replay starts on 1 January 2013 at 7 in the morning local time, and after each
//! round goes on with the same flights 31 days later, without a break. It runs on a clock of its own, `speed` times as
//! fast as ours (600 unless said: ten minutes a second), from the moment the source is defined on.
//!
//! An event is reported some minutes after it happened, at most [`MAX_REPORT_DELAY`], each by a delay of its own that
//! is the same in every replay: so events come out of order. The watermark stays 15 minutes behind unless a WATERMARK
//! clause says otherwise, so that none is late.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, TimestampNanosecondArray};
use arrow::array::{UInt32Array, new_null_array};
use arrow::compute::{concat_batches, interleave, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType};
use async_trait::async_trait;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use squilla_engine::{Clock, Connector, ConnectorInfo, EngineError, EventTime, PartitionReader, ReadEvent};
use squilla_query::{CreateSource, Diagnostic};

use super::failed;
use crate::SourceEnv;
use crate::define::{Made, refuse_columns};
use crate::format::BATCH_ROWS;
use crate::options::Options;

/// See `data/README.md` for source and licence.
static DATA: &[u8] = include_bytes!("../../data/flights-2013-01.parquet");

const SECOND_NS: i64 = 1_000_000_000;
/// Length of a round.
const ROUND_NS: i64 = 31 * 86_400 * SECOND_NS;
/// Where the first round starts: midnight of 1 January 2013 in New York.
const BASE_NS: i64 = 1_357_016_400 * SECOND_NS;
/// How far into the first round the replay starts: the first flights leave after five.
const START_NS: i64 = 7 * 3_600 * SECOND_NS;
/// Longest time from an event to its report.
const MAX_REPORT_DELAY: Duration = Duration::from_secs(12 * 60);
/// How far the watermark stays behind.
const DELAY: Duration = Duration::from_secs(15 * 60);
const SPEED: f64 = 600.0;
const MAX_SPEED: f64 = 1e6;
/// How long a reader waits for an event.
const WAIT_NS: i64 = 100_000_000;

pub(super) const DESCRIPTION: &str =
    "replays departures and arrivals of January 2013 in New York City, out of order, on a clock of its own";
pub(super) const OPTIONS: [(&str, &str); 1] = [("speed", "how many times as fast as they were, 600 unless said")];

/// Columns of the data that are passed on as they are.
const KEPT: [(&str, DataType); 9] = [
    ("carrier", DataType::Utf8),
    ("flight", DataType::Int32),
    ("tailnum", DataType::Utf8),
    ("origin", DataType::Utf8),
    ("dest", DataType::Utf8),
    ("distance", DataType::Int32),
    ("dep_delay", DataType::Int32),
    // Known once the flight has arrived.
    ("arr_delay", DataType::Int32),
    ("air_time", DataType::Int32),
];
/// From this of the kept columns on, departures have null.
const KNOWN_LATER: usize = 7;

fn schema() -> SchemaRef {
    let mut fields =
        vec![Field::new("ts", squilla_query::timestamp_type(), true), Field::new("event", DataType::Utf8, true)];
    fields.extend(KEPT.map(|(name, data_type)| Field::new(name, data_type, true)));
    Arc::new(Schema::new(fields))
}

/// Replays flights.
#[derive(Debug)]
pub(crate) struct Flights {
    name: String,
    speed: f64,
    clock: Arc<dyn Clock>,
    /// When the replay started, by our clock.
    started: i64,
    options: Vec<(String, String)>,
}

pub(crate) fn define(
    create: &CreateSource,
    env: &SourceEnv,
    options: &mut Options<'_>,
) -> Result<Made, Vec<Diagnostic>> {
    let speed = match options.text("speed").map(|text| text.trim().parse::<f64>()) {
        None => SPEED,
        Some(Ok(speed)) if speed > 0.0 && speed <= MAX_SPEED => speed,
        Some(_) => {
            options.bad_value("speed", "the speed is not a number above 0", format!("at most {MAX_SPEED}"));
            SPEED
        }
    };
    refuse_columns(create, "flights")?;
    let connector = Flights {
        name: create.name.clone(),
        speed,
        clock: env.clock.clone(),
        started: env.clock.now().0,
        options: create.options.iter().map(|option| (option.name.clone(), option.value.clone())).collect(),
    };
    Ok(Made { schema: schema(), connector: Arc::new(connector), delay: DELAY })
}

#[async_trait]
impl Connector for Flights {
    fn info(&self) -> ConnectorInfo {
        ConnectorInfo {
            connector: "flights",
            label: Some("replay of real flights of January 2013 (nycflights13)".to_owned()),
            bounded: false,
            rereadable: false,
            can_wait: false,
            replay: true,
            options: self.options.clone(),
        }
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let columns = columns.to_vec();
        let speed = self.speed;
        let (clock, started) = (self.clock.clone(), self.started);
        let load = tokio::task::spawn_blocking(move || Round::load(&columns)).await;
        let round = load
            .map_err(|error| error.to_string())
            .and_then(|round| round.map_err(|error| error.to_string()))
            .map_err(|message| failed(&self.name, message, false))?;
        let mut reader = FlightsReader { round, clock, started, speed, rounds: 0, next: 0 };
        reader.skip_to(reader.position());
        Ok(vec![Box::new(reader)])
    }
}

/// All events of a round, in the order in which they are reported.
struct Round {
    schema: SchemaRef,
    /// When each is reported, since the start of the round.
    reported: Vec<i64>,
    /// The wanted columns. Event times are those of the first round.
    rows: RecordBatch,
    /// Which of the columns is the event time, if it is wanted.
    time: Option<usize>,
}

impl Round {
    fn load(columns: &[usize]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(DATA))?.build()?;
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        let flights = concat_batches(batches[0].schema_ref(), &batches)?;
        let mut events = events(&flights);
        events.sort_by_key(|event| (event.reported, event.flight, event.arrived));

        let schema: SchemaRef = Arc::new(schema().project(columns)?);
        let rows = columns.iter().map(|column| Self::column(*column, &flights, &events)).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(events.len()));
        Ok(Self {
            rows: RecordBatch::try_new_with_options(schema.clone(), rows, &options)?,
            schema,
            reported: events.iter().map(|event| event.reported).collect(),
            time: columns.iter().position(|column| *column == 0),
        })
    }

    fn column(column: usize, flights: &RecordBatch, events: &[Event]) -> Result<ArrayRef, arrow::error::ArrowError> {
        match column {
            0 => Ok(Arc::new(TimestampNanosecondArray::from_iter_values(events.iter().map(|event| event.time)))),
            1 => {
                let name = |event: &Event| if event.arrived { "arrived" } else { "departed" };
                Ok(Arc::new(StringArray::from_iter_values(events.iter().map(name))))
            }
            kept => {
                let kept = kept - 2;
                let values = flights.column_by_name(KEPT[kept].0).expect("the data has the columns that we gave it");
                if kept < KNOWN_LATER {
                    let flights = UInt32Array::from_iter_values(events.iter().map(|event| event.flight as u32));
                    return take(values, &flights, None);
                }
                let unknown = new_null_array(values.data_type(), 1);
                let place = |event: &Event| if event.arrived { (0, event.flight) } else { (1, 0) };
                interleave(&[values.as_ref(), unknown.as_ref()], &events.iter().map(place).collect::<Vec<_>>())
            }
        }
    }
}

/// A departure or an arrival.
struct Event {
    /// Row of the flight.
    flight: usize,
    arrived: bool,
    /// When it happens in the first round.
    time: i64,
    /// When it is reported, since the start of the round.
    reported: i64,
}

fn events(flights: &RecordBatch) -> Vec<Event> {
    let mut events = Vec::with_capacity(flights.num_rows() * 2);
    for (name, arrived) in [("departed", false), ("arrived", true)] {
        let times = flights.column_by_name(name).expect("the data has the columns that we gave it");
        let times = times.as_primitive::<TimestampMillisecondType>();
        for (flight, time) in times.iter().enumerate() {
            let Some(time) = time else { continue };
            let time = time * 1_000_000;
            let report = time - BASE_NS + report_delay(flight as u64 * 2 + u64::from(arrived));
            // What is reported after the round belongs to the next one's beginning.
            let past = report.div_euclid(ROUND_NS);
            events.push(Event { flight, arrived, time: time - past * ROUND_NS, reported: report.rem_euclid(ROUND_NS) });
        }
    }
    events
}

/// Most reports come within two minutes, few take long.
fn report_delay(event: u64) -> i64 {
    let mixed = event.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let uniform = ((mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as f64 / f64::from(1 << 24);
    (uniform.powi(4) * MAX_REPORT_DELAY.as_nanos() as f64) as i64
}

struct FlightsReader {
    round: Round,
    clock: Arc<dyn Clock>,
    started: i64,
    speed: f64,
    /// Rounds that are over.
    rounds: i64,
    /// The event of the round that comes next.
    next: usize,
}

impl FlightsReader {
    /// The replay's time since the start of the first round.
    fn position(&self) -> i64 {
        let past = self.clock.now().0.saturating_sub(self.started).max(0);
        START_NS.saturating_add((past as f64 * self.speed) as i64)
    }

    /// Passes over events reported before a position.
    fn skip_to(&mut self, position: i64) {
        self.rounds = position.div_euclid(ROUND_NS);
        let inside = position.rem_euclid(ROUND_NS);
        self.next = self.round.reported.partition_point(|reported| *reported < inside);
    }

    /// Events of the round that are reported by now, at most a batch.
    fn due(&self) -> usize {
        let inside = self.position().saturating_sub(self.rounds.saturating_mul(ROUND_NS));
        let rest = &self.round.reported[self.next..];
        let batch = &rest[..rest.len().min(BATCH_ROWS)];
        batch.partition_point(|reported| *reported <= inside)
    }

    /// How long our clock runs until the next event is reported, in nanoseconds.
    fn wait(&self) -> i64 {
        let reported = self.rounds.saturating_mul(ROUND_NS).saturating_add(self.round.reported[self.next]);
        let left = reported.saturating_sub(self.position()).max(0) as f64 / self.speed;
        (left as i64).saturating_add(1).min(WAIT_NS)
    }

    fn take(&mut self, rows: usize) -> Result<ReadEvent, EngineError> {
        let mut columns = self.round.rows.slice(self.next, rows).columns().to_vec();
        if let Some(time) = self.round.time {
            let shift = self.rounds.saturating_mul(ROUND_NS);
            let times = columns[time].as_primitive::<arrow::datatypes::TimestampNanosecondType>();
            columns[time] = Arc::new(times.unary::<_, arrow::datatypes::TimestampNanosecondType>(|time| time + shift));
        }
        self.next += rows;
        if self.next == self.round.reported.len() {
            (self.rounds, self.next) = (self.rounds + 1, 0);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(self.round.schema.clone(), columns, &options)?;
        Ok(ReadEvent::Batch { rows, undecodable: 0, rejects: Vec::new(), bytes: 0, receipts: Vec::new() })
    }
}

#[async_trait]
impl PartitionReader for FlightsReader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        let mut due = self.due();
        if due == 0 {
            let now = self.clock.now().0;
            self.clock.sleep_until(EventTime(now.saturating_add(self.wait()))).await;
            due = self.due();
        }
        if due == 0 { Ok(ReadEvent::Empty) } else { self.take(due) }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimestampNanosecondType;
    use squilla_engine::{EventTimeSpec, ManualClock, WatermarkSpec};

    use super::*;
    use crate::testing::{create, env_with};

    async fn batch(reader: &mut Box<dyn PartitionReader>) -> RecordBatch {
        match reader.next().await.expect("read") {
            ReadEvent::Batch { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_round_is_out_of_order_but_never_late_and_goes_on_in_the_next() {
        let clock = Arc::new(ManualClock::new(EventTime(0)));
        let env = env_with(clock.clone(), Vec::new());
        let create = create("flights", None, &[("connector", "flights"), ("speed", "1000")]);
        let definition = crate::define_source(&create, &env).await.expect("flights");
        let watermark = WatermarkSpec::Delay(15 * 60 * SECOND_NS);
        assert_eq!(definition.event_time, EventTimeSpec::Column { index: 0, watermark });
        assert!(definition.connector.info().replay);

        let mut readers = definition.connector.open(&[0, 1, 3, 9]).await.expect("opened");
        // Two and a half rounds.
        clock.set(EventTime(ROUND_NS / 1000 * 5 / 2));
        let (mut latest, mut late, mut disorder, mut rows) = (i64::MIN, 0, 0, 0);
        let mut last = i64::MIN;
        while rows < 120_000 {
            let batch = batch(&mut readers[0]).await;
            rows += batch.num_rows();
            let events = batch.column(1).as_string::<i32>();
            assert!(events.iter().zip(0..).all(|(event, row)| {
                event == Some("arrived") || arrow::array::Array::is_null(batch.column(3).as_ref(), row)
            }));
            for time in batch.column(0).as_primitive::<TimestampNanosecondType>().values() {
                late += usize::from(*time < latest.saturating_sub(15 * 60 * SECOND_NS));
                disorder += usize::from(*time < last);
                latest = latest.max(*time);
                last = *time;
            }
        }
        assert_eq!(late, 0);
        assert!(disorder > 10_000, "{disorder} of {rows} rows are out of order");
        assert!(latest > BASE_NS + 2 * ROUND_NS);
    }

    #[tokio::test]
    async fn events_come_when_their_time_has_come() {
        let clock = Arc::new(ManualClock::new(EventTime(0)));
        let env = env_with(clock.clone(), Vec::new());
        let create = create("flights", None, &[("connector", "flights")]);
        let definition = crate::define_source(&create, &env).await.expect("flights");
        let mut readers = definition.connector.open(&[]).await.expect("opened");
        clock.set(EventTime(SECOND_NS));
        // Ten minutes in the morning.
        let rows = batch(&mut readers[0]).await.num_rows();
        assert!((1..60).contains(&rows), "{rows} rows");
        // Who opens it later sees what comes then.
        let mut later = definition.connector.open(&[]).await.expect("opened");
        let mut next = later[0].next();
        let waits = futures::poll!(&mut next).is_pending();
        drop(next);
        assert!(waits);
        clock.set(EventTime(2 * SECOND_NS));
        assert_eq!(batch(&mut later[0]).await.num_rows(), batch(&mut readers[0]).await.num_rows());
    }
}
