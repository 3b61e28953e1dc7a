//! Events of the Nexmark benchmark as the crate `nexmark` generates them, in files and as columns: the same number of
//! events gives the same ones.

use std::fs::{self, File};
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringBuilder, TimestampNanosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Event, EventType};
use squilla_query::timestamp_type;

/// Event time of the first event, in milliseconds since 1970.
const BASE_MS: u64 = 1_700_000_000_000;
/// Events of a second of event time.
const RATE: usize = 10_000;
/// Files, and so partitions, of each kind.
const FILES: usize = 2;
/// Bytes of a file that are written at once.
const WRITE_BYTES: usize = 1 << 20;

fn events(events: usize) -> impl Iterator<Item = Event> {
    let config = NexmarkConfig {
        base_time: BASE_MS,
        first_rate: RATE,
        next_rate: RATE,
        out_of_order_group_size: 1,
        ..NexmarkConfig::default()
    };
    EventGenerator::new(config).take(events)
}

/// Writes `bid-K.jsonl`, `auction-K.jsonl` and `person-K.jsonl` of so many events into a folder, two of each, by turns and
/// each in order of event time. The folder appears once it is whole. `wrote` is told the events so far.
///
/// # Errors
/// When files cannot be written.
pub fn write_files(count: usize, folder: &Path, mut wrote: impl FnMut(usize)) -> Result<()> {
    let unfinished = folder.with_extension("unfinished");
    fs::create_dir_all(&unfinished)?;
    let open = |name: &str| -> Result<Vec<BufWriter<File>>> {
        let paths = (0..FILES).map(|file| unfinished.join(format!("{name}-{file}.jsonl")));
        paths.map(|path| Ok(BufWriter::with_capacity(WRITE_BYTES, File::create(path)?))).collect()
    };
    let mut files = [open("person")?, open("auction")?, open("bid")?];
    let mut written = [0; 3];
    for (at, event) in events(count).enumerate() {
        let kind = match event.event_type() {
            EventType::Person => 0,
            EventType::Auction => 1,
            EventType::Bid => 2,
        };
        write_line(&event, &mut files[kind][written[kind] % FILES])?;
        written[kind] += 1;
        wrote(at + 1);
    }
    files.iter_mut().flatten().try_for_each(|file| file.flush())?;
    fs::rename(unfinished, folder)
}

/// Texts of these events need no escapes.
fn write_line(event: &Event, out: &mut impl Write) -> Result<()> {
    match event {
        Event::Person(e) => writeln!(
            out,
            r#"{{"id":{},"name":"{}","email_address":"{}","credit_card":"{}","city":"{}","state":"{}","date_time":{},"extra":"{}"}}"#,
            e.id, e.name, e.email_address, e.credit_card, e.city, e.state, e.date_time, e.extra
        ),
        Event::Auction(e) => writeln!(
            out,
            r#"{{"id":{},"item_name":"{}","description":"{}","initial_bid":{},"reserve":{},"date_time":{},"expires":{},"seller":{},"category":{},"extra":"{}"}}"#,
            e.id,
            e.item_name,
            e.description,
            e.initial_bid,
            e.reserve,
            e.date_time,
            e.expires,
            e.seller,
            e.category,
            e.extra
        ),
        Event::Bid(e) => writeln!(
            out,
            r#"{{"auction":{},"bidder":{},"price":{},"channel":"{}","url":"{}","date_time":{},"extra":"{}"}}"#,
            e.auction, e.bidder, e.price, e.channel, e.url, e.date_time, e.extra
        ),
    }
}

/// Fields of [`bids`].
pub fn bid_schema() -> SchemaRef {
    let field = |name, kind| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        field("auction", DataType::Int64),
        field("bidder", DataType::Int64),
        field("price", DataType::Int64),
        field("channel", DataType::Utf8),
        field("url", DataType::Utf8),
        field("date_time", timestamp_type()),
    ]))
}

/// The bids among so many events as batches of so many rows, in order of event time.
pub fn bids(count: usize, batch_rows: usize) -> impl Iterator<Item = RecordBatch> {
    let mut bids = events(count).filter_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        _ => None,
    });
    std::iter::from_fn(move || {
        let mut numbers: [Int64Builder; 3] = std::array::from_fn(|_| Int64Builder::with_capacity(batch_rows));
        let (mut channels, mut urls) = (StringBuilder::new(), StringBuilder::new());
        let mut times = TimestampNanosecondBuilder::with_capacity(batch_rows).with_data_type(timestamp_type());
        for bid in bids.by_ref().take(batch_rows) {
            for (builder, value) in numbers.iter_mut().zip([bid.auction, bid.bidder, bid.price]) {
                builder.append_value(i64::try_from(value).expect("ids are small"));
            }
            channels.append_value(&bid.channel);
            urls.append_value(&bid.url);
            times.append_value(i64::try_from(bid.date_time).expect("times are small") * 1_000_000);
        }
        let [mut auction, mut bidder, mut price] = numbers;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(auction.finish()),
            Arc::new(bidder.finish()),
            Arc::new(price.finish()),
            Arc::new(channels.finish()),
            Arc::new(urls.finish()),
            Arc::new(times.finish()),
        ];
        let batch = RecordBatch::try_new(bid_schema(), columns).expect("columns are of the schema");
        Some(batch).filter(|batch| batch.num_rows() > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_in_files_and_columns() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let mut last = 0;
        write_files(1_000, &data, |events| last = events).expect("files can be written");
        assert_eq!(last, 1_000);
        let lines = |name: &str| fs::read_to_string(data.join(name)).expect("it was written").lines().count();
        assert_eq!(lines("bid-0.jsonl") + lines("bid-1.jsonl"), 920);
        assert_eq!(lines("auction-0.jsonl") + lines("auction-1.jsonl"), 60);
        assert_eq!(lines("person-0.jsonl") + lines("person-1.jsonl"), 20);
        let batches: Vec<RecordBatch> = bids(1_000, 500).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [500, 420]);
    }
}
