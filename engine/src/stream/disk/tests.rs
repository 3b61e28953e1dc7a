use std::path::Path;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Field, Int64Type, Schema};
use futures::FutureExt;

use super::record::Encoder;
use super::testing::TestVolume;
use super::*;
use crate::batch::{Memo, RowKind, physical_schema};
use crate::stream::GapReason;

const FOLDER: &str = "/logs/bids";

fn schema() -> SchemaRef {
    let fields = vec![Field::new("number", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
    physical_schema(&Schema::new(fields))
}

/// Rows whose numbers are their offsets.
fn batch(partition: u32, first: u64, rows: u64) -> StreamBatch {
    let numbers: Vec<i64> =
        (first..first + rows).map(|number| i64::try_from(number).expect("the volume is sound")).collect();
    let names: StringArray = numbers.iter().map(|number| (number % 3 != 0).then(|| format!("name {number}"))).collect();
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(numbers.clone()));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers)), Arc::new(names), times.clone(), times];
    StreamBatch {
        kind: RowKind::Append,
        partition,
        first: Offset(first),
        next: Offset(first + rows),
        rows: RecordBatch::try_new(schema(), columns).expect("the volume is sound"),
        watermark: EventTime(i64::try_from(first + rows).expect("the volume is sound")),
        arrival: EventTime(i64::try_from(first).expect("the volume is sound")),
        idle: false,
        memo: Memo::default(),
    }
}

fn options(durability: Durability, epoch: u64) -> DiskOptions {
    DiskOptions {
        folder: FOLDER.into(),
        schema: schema(),
        partitions: 2,
        durability,
        age: Duration::from_secs(3600),
        bytes: 1 << 30,
        epoch,
        whole_windows: false,
        carried: None,
    }
}

fn open(volume: &TestVolume, options: DiskOptions) -> Result<(Arc<DiskLog>, Resumed), DiskError> {
    DiskLog::open(Arc::new(volume.clone()), Arc::new(DiskBudget::new(1 << 40)), options)
}

fn append(log: &Arc<DiskLog>, batches: Vec<StreamBatch>) -> Result<u64, DiskError> {
    let commit = log.next_commit();
    let batches = batches.into_iter().map(Arc::new).collect();
    let append = Append { log: log.clone(), batches, commit, inputs: Vec::new(), marks: Vec::new(), now: EventTime(0) };
    log.append(&mut Encoder::default(), &append, &mut Vec::new())?;
    Ok(commit)
}

/// Appends, syncs, and lets readers read.
fn store(log: &Arc<DiskLog>, batches: Vec<StreamBatch>) -> Result<(), DiskError> {
    let commit = append(log, batches)?;
    log.sync()?;
    log.publish(commit);
    Ok(())
}

/// What a reader finds from a position on: the numbers of each partition, and the offsets that it lost.
fn read_from(log: &Arc<DiskLog>, position: &Position) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
    let mut reader = DiskReader::new(log, position);
    let mut numbers = vec![Vec::new(); 2];
    let mut lost = vec![Vec::new(); 2];
    loop {
        let found = reader.read(1).expect("the volume is sound");
        if found.is_empty() {
            return (numbers, lost);
        }
        for read in found {
            match read {
                DiskRead::Batch(batch) => {
                    let column = batch.rows.column(0).as_primitive::<Int64Type>();
                    let values = column.values().iter().map(|value| value.unsigned_abs());
                    numbers[batch.partition as usize].extend(values);
                }
                DiskRead::Lost { partition, from, to, .. } => lost[partition as usize].extend(from.0..to.0),
            }
        }
    }
}

fn read(log: &Arc<DiskLog>) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
    read_from(log, &Position { epoch: log.epoch(), offsets: BTreeMap::new() })
}

fn upto(end: u64) -> Vec<u64> {
    (0..end).collect()
}

/// Ten commits: two batches each in partition 0, one in partition 1.
fn filled(volume: &TestVolume) -> Arc<DiskLog> {
    let (log, _) = open(volume, options(Durability::Durable, 1)).expect("the volume is sound");
    for at in 0..5 {
        store(&log, vec![batch(0, at * 4, 1), batch(0, at * 4 + 1, 3)]).expect("the volume is sound");
        store(&log, vec![batch(1, at * 2, 2)]).expect("the volume is sound");
    }
    log
}

#[test]
fn what_was_written_is_read_in_the_order_of_its_commits() {
    let volume = TestVolume::default();
    let log = filled(&volume);
    assert_eq!(read(&log), (vec![upto(20), upto(10)], vec![vec![], vec![]]));
    let mut reader = DiskReader::new(&log, &log.first());
    let order: Vec<u32> = std::iter::from_fn(|| reader.read(1).expect("the volume is sound").pop())
        .map(|read| match read {
            DiskRead::Batch(batch) => batch.partition,
            DiskRead::Lost { .. } => panic!("nothing is lost"),
        })
        .collect();
    assert_eq!(order, [0, 0, 1].repeat(5));
    let position = Position { epoch: 1, offsets: BTreeMap::from([(0, (Offset(17), 0)), (1, (Offset(8), 0))]) };
    assert_eq!(read_from(&log, &position).0, [vec![17, 18, 19], vec![8, 9]]);
}

#[test]
fn a_batch_comes_back_as_it_was() {
    let volume = TestVolume::default();
    let (log, _) = open(&volume, options(Durability::Durable, 1)).expect("the volume is sound");
    let mut empty = batch(0, 3, 0);
    (empty.idle, empty.kind) = (true, RowKind::Final);
    store(&log, vec![batch(0, 0, 3), empty]).expect("the volume is sound");
    let found = DiskReader::new(&log, &log.first()).read(1 << 20).expect("the volume is sound");
    let batches: Vec<_> = found
        .iter()
        .map(|read| match read {
            DiskRead::Batch(batch) => batch,
            DiskRead::Lost { .. } => panic!("nothing is lost"),
        })
        .collect();
    let wanted = batch(0, 0, 3);
    assert_eq!(batches[0].rows, wanted.rows);
    let told = (batches[0].first, batches[0].next, batches[0].watermark, batches[0].arrival, batches[0].kind);
    assert_eq!(told, (wanted.first, wanted.next, wanted.watermark, wanted.arrival, wanted.kind));
    assert_eq!((batches[1].rows.num_rows(), batches[1].idle, batches[1].kind), (0, true, RowKind::Final));
    // Rows at the offset of a record without rows are not taken for it.
    store(&log, vec![batch(0, 3, 2)]).expect("the volume is sound");
    assert_eq!(read(&log).0[0], upto(5));
    // Readers at the same place share what one has decoded.
    let again = DiskReader::new(&log, &log.first()).read(1 << 20).expect("the volume is sound");
    assert!(matches!(&again[0], DiskRead::Batch(batch) if Arc::ptr_eq(batch, batches[0])));
}

#[test]
fn readers_see_what_was_published_only() {
    let volume = TestVolume::default();
    let log = filled(&volume);
    let commit = append(&log, vec![batch(0, 20, 2)]).expect("the volume is sound");
    assert_eq!(read(&log).0[0], upto(20));
    log.publish(commit);
    assert_eq!(read(&log).0[0], upto(22));
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let volume = TestVolume::default();
    let log = filled(&volume);
    log.close().expect("the volume is sound");
    drop(log);
    let (log, resumed) = open(&volume, options(Durability::Durable, 2)).expect("the volume is sound");
    let offsets = BTreeMap::from([(0, (Offset(20), 0)), (1, (Offset(10), 0))]);
    assert_eq!(resumed.position, Position { epoch: 1, offsets });
    assert_eq!(resumed.watermarks, [EventTime(20), EventTime(10)]);
    store(&log, vec![batch(0, 20, 5)]).expect("the volume is sound");
    assert_eq!(read(&log).0[0], upto(25));
}

#[test]
fn an_unclosed_log_gets_a_new_epoch_unless_readers_saw_synced_rows_only() {
    for (durability, epoch) in [(Durability::Durable, 1), (Durability::Buffered, 2)] {
        let volume = TestVolume::default();
        let (log, _) = open(&volume, options(durability, 1)).expect("the volume is sound");
        store(&log, vec![batch(0, 0, 5)]).expect("the volume is sound");
        drop(log);
        let (log, resumed) = open(&volume, options(durability, 2)).expect("the volume is sound");
        assert_eq!(resumed.position.epoch, epoch, "{durability:?}");
        let at = |offset| Position { epoch: 1, offsets: BTreeMap::from([(0, (Offset(offset), 0))]) };
        let known = log.translate(&at(5)).expect("the volume is sound");
        assert_eq!(known, Position { epoch, ..at(5) }, "what both epochs have is the same place");
        assert_eq!(log.translate(&at(6)).is_some(), epoch == 1, "{durability:?}: what was lost has no place");
    }
}

#[test]
fn what_only_a_later_start_has_lost_has_no_place() {
    let volume = TestVolume::default();
    let store_from = |epoch: u64, first: u64, rows: u64| {
        let (log, resumed) = open(&volume, options(Durability::Buffered, epoch)).expect("the volume is sound");
        assert_eq!(resumed.position.offsets[&0], (Offset(first), 0));
        store(&log, vec![batch(0, first, rows)]).expect("the volume is sound");
        log
    };
    drop(store_from(1, 0, 5));
    drop(store_from(2, 5, 5));
    // Damage that takes rows of the first epoch.
    let path = volume.paths().into_iter().find(|path| path.extension().is_some_and(|it| it == "log"));
    volume.edit(&path.expect("there is a segment"), |bytes| {
        let middle = bytes.len() / 4;
        bytes.truncate(middle);
    });
    let (log, resumed) = open(&volume, options(Durability::Buffered, 3)).expect("the volume is sound");
    assert_eq!(resumed.position.offsets[&0], (Offset(0), 0));
    let at = |epoch, offset| Position { epoch, offsets: BTreeMap::from([(0, (Offset(offset), 0))]) };
    assert_eq!(log.translate(&at(1, 0)), Some(at(3, 0)));
    assert_eq!(log.translate(&at(1, 5)), None);
    assert_eq!(log.translate(&at(2, 5)), None);
}

#[test]
fn what_was_seen_after_a_kill_outlasts_a_power_cut() {
    for durability in [Durability::Durable, Durability::Buffered] {
        let volume = TestVolume::default();
        let (log, _) = open(&volume, options(durability, 1)).expect("the volume is sound");
        append(&log, vec![batch(0, 0, 5)]).expect("the volume is sound");
        drop(log);
        let (log, resumed) = open(&volume, options(durability, 2)).expect("the volume is sound");
        assert_eq!(resumed.position.offsets[&0], (Offset(5), 0), "{durability:?}: the file has it");
        drop(log);
        volume.cut_power(0);
        let (log, _) = open(&volume, options(durability, 3)).expect("the volume is sound");
        assert_eq!(read(&log).0[0], upto(5), "{durability:?}: it was seen");
    }
}

#[test]
fn retention_removes_whole_segments_and_readers_are_told() {
    let volume = TestVolume::default();
    let small = DiskOptions { bytes: 64 << 10, ..options(Durability::Durable, 1) };
    let (log, _) = open(&volume, small).expect("the volume is sound");
    for at in 0..100 {
        store(&log, vec![batch(0, at * 10, 10)]).expect("the volume is sound");
    }
    let first = log.first().offsets[&0].0.0;
    assert!(first > 0 && log.bytes() < (48 << 10), "{first}, {}", log.bytes());
    let (numbers, lost) = read(&log);
    assert_eq!((lost[0].clone(), numbers[0].clone()), (upto(first), (first..1000).collect()));
    let mut reader = DiskReader::new(&log, &Position { epoch: 1, offsets: BTreeMap::new() });
    let found = reader.read(1).expect("the volume is sound");
    assert!(matches!(found[0], DiskRead::Lost { reason: GapReason::Retention, .. }), "{found:?}");
    drop((log, reader));
    let small = DiskOptions { bytes: 64 << 10, ..options(Durability::Durable, 1) };
    let (log, _) = open(&volume, small).expect("the volume is sound");
    assert_eq!(read(&log).0[0], (first..1000).collect::<Vec<_>>(), "sealed segments are opened by their index");
    let since = log.since(EventTime(900)).expect("the volume is sound").expect("the volume is sound");
    assert!(read_from(&log, &since).0[0][0] <= 900 && since.offsets[&0].0.0 > 880, "{since:?}");
    assert_eq!(log.since(EventTime(1000)).expect("the volume is sound"), None);
}

#[test]
fn a_reader_is_told_exactly_what_retention_took_from_under_it() {
    let volume = TestVolume::default();
    let small = DiskOptions { bytes: 64 << 10, ..options(Durability::Durable, 1) };
    let (log, _) = open(&volume, small).expect("the volume is sound");
    let mut at = 0;
    let mut grow = |batches: u64| {
        for _ in 0..batches {
            store(&log, vec![batch(0, at, 10)]).expect("the volume is sound");
            at += 10;
        }
        at
    };
    grow(3);
    let mut reader = DiskReader::new(&log, &log.first());
    let mut seen: Vec<u64> = Vec::new();
    let mut lost = 0;
    let mut take = |reads: Vec<DiskRead>, reader_ends: &mut bool| {
        *reader_ends = reads.is_empty();
        for read in reads {
            match read {
                DiskRead::Batch(batch) => seen.extend(batch.first.0..batch.next.0),
                DiskRead::Lost { from, to, reason, .. } => {
                    assert_eq!(reason, GapReason::Retention);
                    lost += to.0 - from.0;
                    seen.extend(from.0..to.0);
                }
            }
        }
    };
    let mut ends = false;
    // Somewhat further than the reader is, then more than the log keeps, then a little again.
    for batches in [1, 2, 60, 200, 5] {
        grow(batches);
        for _ in 0..7 {
            take(reader.read(1).expect("the volume is sound"), &mut ends);
        }
    }
    while !ends {
        take(reader.read(1).expect("the volume is sound"), &mut ends);
    }
    assert!(lost > 0);
    assert_eq!(seen, upto(2710), "every row is read or told lost, once, in order");
}

/// What must hold of a damaged log: what is read was written, in order; what is missing before its end was told.
fn check_damaged(volume: &TestVolume, place: &str) -> Vec<Vec<u64>> {
    let (log, resumed) = open(volume, options(Durability::Durable, 2)).expect("the volume is sound");
    let (numbers, lost) = read(&log);
    for (partition, written) in [20, 10].into_iter().enumerate() {
        let next = resumed.position.offsets[&u32::try_from(partition).expect("the volume is sound")].0.0;
        let mut both: Vec<u64> = numbers[partition].iter().chain(&lost[partition]).copied().collect();
        both.sort_unstable();
        assert_eq!(both, upto(next), "{place}, partition {partition}: every row is read or told lost, once");
        assert!(numbers[partition].is_sorted(), "{place}");
        assert!(next <= written, "{place}");
        if resumed.cut_bytes > 0 {
            assert_eq!(resumed.position.epoch, 2, "{place}: readers may have seen what was cut");
        }
    }
    // And it goes on.
    let next = resumed.position.offsets[&0].0.0;
    store(&log, vec![batch(0, next, 2)]).expect("the volume is sound");
    assert!(read(&log).0[0].ends_with(&[next, next + 1]), "{place}");
    numbers
}

/// The segments, and what each holds.
fn files(volume: &TestVolume) -> Vec<PathBuf> {
    volume.paths().into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect()
}

#[test]
fn a_log_cut_anywhere_keeps_its_whole_commits() {
    let whole = TestVolume::default();
    filled(&whole);
    for path in files(&whole) {
        let length = whole.edit(&path, |bytes| bytes.len());
        for cut in 0..length {
            let volume = TestVolume::default();
            filled(&volume);
            volume.edit(&path, |bytes| bytes.truncate(cut));
            let numbers = check_damaged(&volume, &format!("{} cut to {cut}", path.display()));
            assert_eq!(numbers[0].len() % 4, 0, "a commit of two batches stays whole");
        }
    }
}

#[test]
fn a_log_with_any_bit_flipped_loses_the_record_only() {
    let whole = TestVolume::default();
    filled(&whole);
    for path in files(&whole) {
        let length = whole.edit(&path, |bytes| bytes.len());
        for at in 0..length {
            let volume = TestVolume::default();
            filled(&volume);
            volume.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            let place = format!("{}, byte {at}", path.display());
            let numbers = check_damaged(&volume, &place);
            let left: usize = numbers.iter().map(Vec::len).sum();
            assert!(left >= 30 - 4, "{place}: at most a commit goes, {left} rows are left");
        }
    }
}

#[test]
fn a_damaged_meta_file_costs_the_epoch_at_most() {
    let path = Path::new(FOLDER).join("stream.json");
    let whole = TestVolume::default();
    filled(&whole);
    let length = whole.edit(&path, |bytes| bytes.len());
    for at in 0..length {
        let volume = TestVolume::default();
        filled(&volume);
        volume.edit(&path, |bytes| bytes.truncate(at));
        let numbers = check_damaged(&volume, &format!("meta cut to {at}"));
        assert_eq!(numbers, [upto(20), upto(10)]);
    }
}

/// Fails each change of the volume in turn, cuts the power, and opens the log again.
#[test]
fn a_power_cut_at_any_call_loses_no_synced_row() {
    let steps = |volume: &TestVolume| -> (u64, Result<(), DiskError>) {
        let mut synced = 0;
        let mut run = || {
            let small = DiskOptions { bytes: 40 << 10, ..options(Durability::Durable, 1) };
            let (log, _) = open(volume, small)?;
            for at in 0..6 {
                store(&log, vec![batch(0, at * 2, 1), batch(0, at * 2 + 1, 1)])?;
                synced = (at + 1) * 2;
            }
            log.close()
        };
        let result = run();
        (synced, result)
    };
    let volume = TestVolume::default();
    steps(&volume).1.expect("the volume is sound");
    let calls = volume.calls();
    for (fails_at, torn) in (0..calls).flat_map(|call| [0, 1, 77, 500].map(|torn| (call, torn))) {
        let volume = TestVolume::default();
        volume.fail_after(Some(fails_at));
        let (synced, result) = steps(&volume);
        assert!(result.is_err(), "call {fails_at} fails");
        volume.cut_power(torn);
        let small = DiskOptions { bytes: 40 << 10, ..options(Durability::Durable, 2) };
        let (log, resumed) = open(&volume, small).expect("the volume is sound");
        let next = resumed.position.offsets[&0].0.0;
        assert!(next >= synced && next % 2 == 0, "call {fails_at}, torn {torn}: {next} of {synced}");
        assert_eq!(read(&log).0[0], upto(next), "call {fails_at}, torn {torn}");
        store(&log, vec![batch(0, next, 2)]).expect("the volume is sound");
        assert_eq!(read(&log).0[0], upto(next + 2), "call {fails_at}, torn {torn}");
    }
}

#[test]
fn a_full_disk_refuses_at_every_byte_and_goes_on_when_there_is_room() {
    let volume = TestVolume::default();
    let (log, _) = open(&volume, options(Durability::Durable, 1)).expect("the volume is sound");
    store(&log, vec![batch(0, 0, 4)]).expect("the volume is sound");
    let used: usize = volume.paths().iter().map(|path| volume.edit(path, |bytes| bytes.len())).sum();
    for room in (0..700).step_by(7) {
        volume.limit(Some(used + room));
        let refused = append(&log, vec![batch(0, 4, 4), batch(0, 8, 4)]);
        assert!(matches!(refused, Err(DiskError::Full(_))), "{room}: {refused:?}");
        assert_eq!(read(&log).0[0], upto(4));
    }
    volume.limit(None);
    store(&log, vec![batch(0, 4, 4)]).expect("the volume is sound");
    assert_eq!(read(&log), (vec![upto(8), vec![]], vec![vec![], vec![]]));
}

#[test]
fn the_budget_refuses_before_anything_is_written() {
    let volume = TestVolume::default();
    let budget = Arc::new(DiskBudget::new(4000));
    let (log, _) = DiskLog::open(Arc::new(volume.clone()), budget.clone(), options(Durability::Durable, 1))
        .expect("the volume is sound");
    let mut at = 0;
    let refused = loop {
        match store(&log, vec![batch(0, at, 5)]) {
            Ok(()) => at += 5,
            Err(error) => break error,
        }
    };
    assert!(at > 0 && matches!(refused, DiskError::Budget { limit_bytes: 4000, .. }), "{refused:?}");
    assert!(refused.retryable());
    assert_eq!(read(&log).0[0], upto(at));
    assert_eq!(budget.bytes().0, log.bytes());
    drop(log);
    assert_eq!(budget.bytes().0, 0);
}

#[test]
fn other_columns_or_partitions_are_refused() {
    let volume = TestVolume::default();
    filled(&volume);
    let more = DiskOptions { partitions: 3, ..options(Durability::Durable, 1) };
    assert!(matches!(open(&volume, more), Err(DiskError::Other { what: "partitions", .. })));
    let other = physical_schema(&Schema::new(vec![Field::new("number", DataType::Int32, true)]));
    let other = DiskOptions { schema: other, ..options(Durability::Durable, 1) };
    assert!(matches!(open(&volume, other), Err(DiskError::Other { what: "columns", .. })));
    let keys = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let dictionary = physical_schema(&Schema::new(vec![Field::new("name", keys, true)]));
    let dictionary = DiskOptions { schema: dictionary, ..options(Durability::Durable, 1) };
    assert!(matches!(open(&TestVolume::default(), dictionary), Err(DiskError::Type { .. })));
}

#[tokio::test]
async fn the_writer_commits_in_groups_and_syncs_before_it_tells() {
    let volume = TestVolume::default();
    let (log, _) = open(&volume, options(Durability::Durable, 1)).expect("the volume is sound");
    let writer = DiskWriter::start().expect("the volume is sound");
    let appends = (0..40).map(|at| {
        let commit = log.next_commit();
        let batches = vec![Arc::new(batch(0, at, 1))];
        let append =
            Append { log: log.clone(), batches, commit, inputs: Vec::new(), marks: Vec::new(), now: EventTime(0) };
        writer.append(append, true)
    });
    let before = volume.calls();
    let mut appended = futures::future::join_all(appends);
    {
        // The writer is at the first of them until all are handed over.
        let _held = volume.hold();
        assert!((&mut appended).now_or_never().is_none());
    }
    for result in appended.await {
        result.expect("the volume is sound");
    }
    assert!(volume.calls() - before < 80, "less than a sync a commit");
    volume.cut_power(0);
    let (log, resumed) = open(&volume, options(Durability::Durable, 2)).expect("the volume is sound");
    assert_eq!(
        (resumed.position.epoch, read(&log)),
        (1, (vec![upto(40), vec![]], vec![vec![], vec![]])),
        "{resumed:?}"
    );
}

#[tokio::test]
async fn a_buffered_log_is_on_disk_soon_and_counts_what_the_disk_refused() {
    let volume = TestVolume::default();
    let (log, _) = open(&volume, options(Durability::Buffered, 1)).expect("the volume is sound");
    let writer = DiskWriter::start().expect("the volume is sound");
    let append = |at| {
        let commit = log.next_commit();
        let batches = vec![Arc::new(batch(0, at, 1))];
        Append { log: log.clone(), batches, commit, inputs: Vec::new(), marks: Vec::new(), now: EventTime(0) }
    };
    writer.append(append(0), false).await.expect("the volume is sound");
    writer.flush(&log, false).await.expect("the volume is sound");
    volume.limit(Some(0));
    writer.append(append(1), false).await.expect("the volume is sound");
    // This one comes behind it: its answer tells that the other was tried.
    assert!(writer.append(append(2), true).await.is_err());
    assert!(log.refusing());
    assert_eq!(log.unstored_rows(), 1);
    volume.limit(None);
    writer.append(append(2), true).await.expect("the volume is sound");
    assert!(!log.refusing());
    assert_eq!(read(&log), (vec![vec![0, 2], vec![]], vec![vec![1], vec![]]));
    drop(writer);
    volume.cut_power(0);
    let (log, _) = open(&volume, options(Durability::Buffered, 2)).expect("the volume is sound");
    assert_eq!(read(&log).0[0], [0, 2], "what waited was synced when the writer ended");
}

mod producers;

#[test]
fn a_log_that_is_removed_leaves_no_file_in_the_folder_of_the_next() {
    let volume = TestVolume::default();
    // A segment for each few records: the next record begins one.
    let (log, _) =
        open(&volume, DiskOptions { bytes: 1 << 12, ..options(Durability::Buffered, 1) }).expect("the volume is sound");
    (0..8).for_each(|at| store(&log, vec![batch(0, at * 4, 4)]).expect("the volume is sound"));
    log.end();
    DiskLog::remove(&volume, Path::new(FOLDER)).expect("the volume is sound");
    let next = filled(&volume);
    let before = volume.list(&Path::new(FOLDER).join("p0")).expect("it is there");
    (8..40).for_each(|at| assert!(matches!(append(&log, vec![batch(0, at * 4, 4)]), Err(DiskError::Closed))));
    log.sync().and_then(|()| log.close()).expect("nothing is left to do");
    assert_eq!(volume.list(&Path::new(FOLDER).join("p0")).expect("it is there"), before);
    drop(next);
    let (next, resumed) = open(&volume, options(Durability::Durable, 3)).expect("the volume is sound");
    assert_eq!((resumed.cut_bytes, resumed.damaged_rows), (0, 0));
    assert_eq!(read(&next).0, vec![upto(20), upto(10)]);
}
