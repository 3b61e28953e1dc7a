//! The ring: what commits it refuses, when it makes them wait, what a reader is told.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Schema;
use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::batch::{Memo, RowKind, StreamBatch, physical_schema};
use crate::clock::ManualClock;
use crate::stream::{GapReason, Read};

const ROWS: usize = 10;

fn stream(bytes: usize, clock: &Arc<ManualClock>) -> Arc<MemoryStream> {
    let limits = LogLimits { bytes, age: Duration::from_nanos(1_000) };
    let start = Position { epoch: 7, offsets: BTreeMap::new() };
    MemoryStream::new(physical_schema(&Schema::empty()), &start, 2, false, limits, clock.clone())
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(EventTime(0)))
}

/// Ten rows of a partition, at event times from `first` on.
fn batch(partition: u32, first: u64, arrival: i64) -> StreamBatch {
    batch_of(ROWS, partition, first, arrival)
}

fn batch_of(rows: usize, partition: u32, first: u64, arrival: i64) -> StreamBatch {
    let time = i64::try_from(first).expect("small");
    let times = Arc::new(TimestampNanosecondArray::from_iter_values((0..rows as i64).map(|row| time + row)));
    let columns: Vec<ArrayRef> = vec![times.clone(), times];
    StreamBatch {
        kind: RowKind::Append,
        partition,
        first: Offset(first),
        next: Offset(first + rows as u64),
        rows: RecordBatch::try_new(physical_schema(&Schema::empty()), columns).expect("the columns fit"),
        watermark: EventTime(time),
        arrival: EventTime(arrival),
        idle: false,
        memo: Memo::default(),
    }
}

fn commit(owner: &mut Owner, first: u64, arrival: i64) -> Commit {
    owner.sequence += 1;
    Commit {
        partition: owner.partition,
        generation: owner.generation,
        expected_sequence: owner.sequence - 1,
        outputs: vec![batch(owner.partition, first, arrival)],
        state: Some(Bytes::from(format!("state {first}"))),
        inputs: Vec::new(),
        marks: Vec::new(),
    }
}

#[tokio::test]
async fn a_commit_of_a_stale_owner_or_out_of_turn_has_no_effect() {
    let stream = stream(1 << 20, &clock());
    let mut old = stream.own(0).expect("it is there");
    stream.commit(commit(&mut old, 0, 0)).await.expect("it owns the partition");
    let mut new = stream.own(0).expect("it is there");
    assert_eq!((new.sequence, new.next, new.state.clone()), (1, Offset(10), Some(Bytes::from("state 0"))));
    let refused = stream.commit(commit(&mut old, 10, 0)).await;
    assert!(matches!(refused, Err(CommitError::StaleOwner { partition: 0 })));
    let mut twice = commit(&mut new, 10, 0);
    twice.expected_sequence = 0;
    let refused = stream.commit(twice).await;
    assert!(matches!(refused, Err(CommitError::Sequence { partition: 0, expected: 0, actual: 1 })));
    new.sequence = 1;
    let refused = stream.commit(commit(&mut new, 9, 0)).await;
    assert!(matches!(refused, Err(CommitError::Offset { partition: 0, given: 9, next: 10 })));
    assert!(matches!(stream.own(2), Err(CommitError::Partition(2))));
    assert_eq!(stream.facts().rows_total, 10);
    assert_eq!(stream.own(0).expect("it is there").state, Some(Bytes::from("state 0")));
}

#[tokio::test]
async fn small_batches_are_read_as_they_came_from_common_buffers() {
    let stream = stream(1 << 20, &clock());
    let mut owners = [stream.own(0).expect("it is there"), stream.own(1).expect("it is there")];
    for at in 0..200 {
        stream.commit(commit(&mut owners[at % 2], 10 * at as u64, at as i64)).await.expect("there is room");
    }
    let mut reader = stream.clone().reader(&Start::Earliest, false);
    let mut other = stream.clone().reader(&Start::Earliest, false);
    let mut buffers = BTreeMap::new();
    for at in 0..200 {
        let expected = batch(at % 2, 10 * u64::from(at), i64::from(at));
        let Some(Read::Batch(read)) = reader.try_next() else { panic!("batch {at} is there") };
        assert_eq!((&read.rows, read.first, read.next), (&expected.rows, expected.first, expected.next));
        assert_eq!(
            (read.partition, read.watermark, read.arrival),
            (expected.partition, expected.watermark, expected.arrival)
        );
        let Some(Read::Batch(same)) = other.try_next() else { panic!("batch {at} is there") };
        assert!(Arc::ptr_eq(&read, &same), "what one has computed of batch {at} the other finds");
        let column = read.rows.column(0).to_data();
        *buffers.entry(column.buffers()[0].data_ptr()).or_insert(0) += 1;
    }
    let mut sizes: Vec<i32> = buffers.into_values().collect();
    sizes.sort_unstable();
    assert_eq!(sizes[sizes.len() - 2..], [64, 64], "the first two times 64 lie together");
    assert_eq!(sizes.len(), 2 + 72);
}

#[tokio::test]
async fn batches_of_many_rows_keep_buffers_of_their_own() {
    for (rows, alone) in [(128, 72), (129, 200)] {
        let stream = stream(1 << 24, &clock());
        let mut owner = stream.own(0).expect("it is there");
        for at in 0..200 {
            let mut commit = commit(&mut owner, rows * at, at as i64);
            commit.outputs = vec![batch_of(rows as usize, 0, rows * at, at as i64)];
            stream.commit(commit).await.expect("there is room");
        }
        let mut reader = stream.clone().reader(&Start::Earliest, false);
        let mut buffers = BTreeMap::new();
        for at in 0..200 {
            let Some(Read::Batch(read)) = reader.try_next() else { panic!("batch {at} is there") };
            let column = read.rows.column(0).to_data();
            *buffers.entry(column.buffers()[0].data_ptr()).or_insert(0) += 1;
        }
        assert_eq!(buffers.values().filter(|batches| **batches == 1).count(), alone, "of {rows} rows");
    }
}

#[tokio::test]
async fn an_overtaken_reader_is_told_the_exact_gap() {
    let bytes = batch(0, 0, 0).bytes();
    let stream = stream(2 * bytes, &clock());
    let mut owner = stream.own(0).expect("it is there");
    let mut reader = stream.clone().reader(&Start::Earliest, false);
    for number in 0..6 {
        stream.commit(commit(&mut owner, number * 10, 0)).await.expect("nobody holds");
    }
    let Some(Read::Gap(gap)) = reader.try_next() else { panic!("rows were overtaken") };
    assert_eq!((gap.rows, gap.reason), (Some(30), GapReason::Retention));
    assert_eq!(gap.to.offsets[&0], (Offset(30), 0));
    let mut rows = 0;
    while let Some(Read::Batch(batch)) = reader.try_next() {
        rows += batch.rows.num_rows();
    }
    assert_eq!(rows + 30, 60);
    assert_eq!(stream.facts().evicted_event_time, EventTime(29));
}

#[tokio::test]
async fn what_comes_next_is_seen_without_going_there() {
    let stream = stream(1 << 20, &clock());
    let mut owner = stream.own(0).expect("it is there");
    for number in 0..3 {
        stream.commit(commit(&mut owner, number * 10, 0)).await.expect("there is room");
    }
    let mut reader = stream.clone().reader(&Start::Earliest, false);
    let seen = reader.upcoming(2);
    assert_eq!(seen.iter().map(|batch| batch.first).collect::<Vec<_>>(), [Offset(0), Offset(10)]);
    for batch in &seen {
        assert!(matches!(reader.try_next(), Some(Read::Batch(read)) if Arc::ptr_eq(&read, batch)));
    }
    stream.end(0);
    assert_eq!(reader.upcoming(9).len(), 1, "up to the end of the partition");
    assert!(matches!(reader.try_next(), Some(Read::Batch(_))));
    assert!(reader.upcoming(9).is_empty());
}

#[tokio::test]
async fn a_holding_reader_makes_commits_wait_and_its_end_lets_them_go_on() {
    let bytes = batch(0, 0, 0).bytes();
    let stream = stream(bytes, &clock());
    let mut owner = stream.own(0).expect("it is there");
    let mut reader = stream.clone().reader(&Start::Earliest, true);
    for number in 0..2 {
        stream.commit(commit(&mut owner, number * 10, 0)).await.expect("there is room");
    }
    let third = commit(&mut owner, 20, 0);
    let mut waiting = Box::pin(stream.commit(third));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(matches!(reader.next().await, Read::Batch(_)));
    waiting.await.expect("there is room");
    let fourth = commit(&mut owner, 30, 0);
    let mut waiting = Box::pin(stream.commit(fourth));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(reader);
    waiting.await.expect("nobody holds");
}

#[tokio::test]
async fn age_evicts_and_positions_say_what_is_kept() {
    let clock = clock();
    let stream = stream(1 << 20, &clock);
    let mut owner = stream.own(1).expect("it is there");
    stream.commit(commit(&mut owner, 0, 0)).await.expect("there is room");
    let at = |offset| Position { epoch: 7, offsets: BTreeMap::from([(1, (Offset(offset), 0))]) };
    assert!(stream.covers(&at(0)));
    clock.set(EventTime(2_000));
    stream.commit(commit(&mut owner, 10, 2_000)).await.expect("there is room");
    assert!(!stream.covers(&at(5)) && stream.covers(&at(10)) && !stream.covers(&at(21)));
    let mut reader = stream.clone().reader(&Start::Position(at(4)), false);
    let Some(Read::Gap(gap)) = reader.try_next() else { panic!("six rows are gone") };
    assert_eq!(gap.rows, Some(6));
    let stranger = Position { epoch: 8, ..at(10) };
    let mut reader = stream.clone().reader(&Start::Position(stranger), false);
    let Some(Read::Gap(gap)) = reader.try_next() else { panic!("the epoch is another") };
    assert_eq!((gap.rows, gap.reason), (None, GapReason::Epoch));
    assert!(matches!(reader.try_next(), Some(Read::Batch(_))));
}

#[tokio::test]
async fn readers_are_told_the_end_of_each_partition_and_of_the_stream_once() {
    let stream = stream(1 << 20, &clock());
    let mut reader = stream.clone().reader(&Start::Latest, false);
    stream.end(1);
    assert!(matches!(reader.next().await, Read::EndOfPartition(1)));
    assert!(reader.try_next().is_none());
    stream.end(0);
    assert!(matches!(reader.next().await, Read::EndOfPartition(0)));
    assert!(matches!(reader.next().await, Read::End));
    assert!(reader.try_next().is_none());
    assert_eq!(stream.facts().watermark, EventTime::MAX);
}

#[tokio::test]
async fn a_start_within_a_batch_passes_the_rows_before_it() {
    let stream = stream(1 << 20, &clock());
    let mut owner = stream.own(0).expect("it is there");
    for number in 0..3 {
        stream.commit(commit(&mut owner, number * 10, 0)).await.expect("there is room");
    }
    let position = Position { epoch: 7, offsets: BTreeMap::from([(0, (Offset(14), 0))]) };
    for start in [Start::Timestamp(EventTime(14)), Start::Position(position)] {
        let mut reader = stream.clone().reader(&start, false);
        assert_eq!(reader.position().offsets[&0], (Offset(14), 0), "{start:?}");
        let mut told = Vec::new();
        while let Some(Read::Batch(batch)) = reader.try_next() {
            told.push((batch.first, batch.next, batch.event_times().to_vec()));
        }
        let expected = [(Offset(14), Offset(20), (14..20).collect()), (Offset(20), Offset(30), (20..30).collect())];
        assert_eq!(told, expected, "{start:?}");
        assert_eq!(reader.position().offsets[&0], (Offset(30), 0));
    }
}
