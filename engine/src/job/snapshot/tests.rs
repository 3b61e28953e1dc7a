//! Snapshots that were damaged, cut, or never finished.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use super::{Begins, Point, Snapshot, Snapshots};
use crate::clock::EventTime;
use crate::counters::CountersSnapshot;
use crate::error::EngineError;
use crate::operator::{Part, State};
use crate::stream::{DiskBudget, Offset, Position, TestVolume};

const FOLDER: &str = "/streams/s/snapshots";

fn open(volume: &TestVolume) -> Snapshots {
    let budget = Arc::new(DiskBudget::new(1 << 40));
    Snapshots::open(Arc::new(volume.clone()), FOLDER.into(), budget).expect("it holds")
}

fn snapshot(number: u64) -> Snapshot {
    let at = |offset| Position { epoch: 7, offsets: BTreeMap::from([(0, (Offset(offset), 3))]) };
    let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let sums: ArrayRef = Arc::new(Int64Array::from(vec![number as i64, 2, 3]));
    let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("n", sums, true)]).expect("it holds");
    let begins = Begins { steps: vec![(EventTime::MIN, EventTime(4))], ..Begins::default() };
    let point = Point {
        plan: "p".into(),
        inputs: vec![at(number)],
        end: Some(at(number * 2)),
        begins,
        counters: CountersSnapshot { rows_in: number, ..CountersSnapshot::default() },
        fresh: false,
    };
    Snapshot { point, state: [Part::Note("[1,2]".into()), Part::Rows(rows)].into_iter().collect() }
}

fn same(found: Snapshot, number: u64) {
    let (wanted, mut state) = (snapshot(number), found.state);
    assert_eq!(found.point, wanted.point);
    assert_eq!(state.take::<Vec<i32>>().expect("it holds"), [1, 2]);
    let mut wanted: State = wanted.state;
    wanted.take::<Vec<i32>>().expect("it holds");
    assert_eq!(state.take_rows().expect("it holds"), wanted.take_rows().expect("it holds"));
    assert!(state.is_empty());
}

/// The newest that can be used.
fn newest(snapshots: &Snapshots) -> Option<Snapshot> {
    snapshots.generations().into_iter().find_map(|generation| snapshots.read(generation).ok())
}

#[test]
fn three_are_kept_and_read_again() {
    let volume = TestVolume::default();
    let snapshots = open(&volume);
    for number in 1..=5 {
        snapshots.write(snapshot(number)).expect("it holds");
    }
    volume.cut_power(0);
    let again = open(&volume);
    assert_eq!(again.generations(), [5, 4, 3]);
    assert_eq!(volume.paths().len(), 6);
    same(newest(&again).expect("it holds"), 5);
    same(again.read(3).expect("it holds"), 3);
    again.write(snapshot(6)).expect("it holds");
    assert_eq!(again.generations(), [6, 5, 4]);
}

#[test]
fn none_is_written_once_the_stream_is_dropped() {
    let volume = TestVolume::default();
    let snapshots = open(&volume);
    snapshots.write(snapshot(1)).expect("it holds");
    snapshots.end();
    snapshots.write(snapshot(2)).expect("it holds");
    assert_eq!((snapshots.generations(), volume.paths().len()), (vec![1], 2));
    assert!(snapshots.lies_in(Path::new("/streams/s")));
    assert!(!snapshots.lies_in(Path::new("/streams/s2")));
}

#[test]
fn a_damaged_one_gives_way_to_the_one_before_wherever_it_is_damaged() {
    let volume = TestVolume::default();
    let snapshots = open(&volume);
    snapshots.write(snapshot(1)).expect("it holds");
    snapshots.write(snapshot(2)).expect("it holds");
    for ending in ["manifest", "state"] {
        let path = Path::new(FOLDER).join(format!("{:020}.{ending}", 2));
        let whole = volume.edit(&path, |bytes| bytes.clone());
        for at in 0..whole.len() {
            for bit in 0..8 {
                volume.edit(&path, |bytes| bytes[at] ^= 1 << bit);
                let found = newest(&open(&volume)).expect("it holds");
                // The case of a hexadecimal digit says nothing.
                let number = found.point.counters.rows_in;
                assert!(number == 1 || ending == "manifest" && at < 8, "bit {bit} of byte {at} of the {ending}");
                same(found, number);
                volume.edit(&path, |bytes| bytes.clone_from(&whole));
            }
            volume.edit(&path, |bytes| bytes.truncate(at));
            same(newest(&open(&volume)).expect("it holds"), 1);
            volume.edit(&path, |bytes| bytes.clone_from(&whole));
        }
    }
    same(newest(&open(&volume)).expect("it holds"), 2);
}

#[test]
fn a_cut_of_power_at_any_moment_leaves_a_whole_one() {
    let mut done = false;
    for calls in 0.. {
        for torn in [0, 13, 1 << 20] {
            let volume = TestVolume::default();
            let snapshots = open(&volume);
            (1..=3).for_each(|number| _ = snapshots.write(snapshot(number)).expect("it holds"));
            volume.fail_after(Some(calls));
            done = snapshots.write(snapshot(4)).is_ok();
            volume.cut_power(torn);
            let again = open(&volume);
            let found = newest(&again).expect("it holds");
            let number = found.point.counters.rows_in;
            assert!(number == 4 || number == 3 && !done, "{number} after {calls} calls");
            same(found, number);
            // And it goes on.
            again.write(snapshot(5)).expect("it holds");
            same(newest(&open(&volume)).expect("it holds"), 5);
        }
        if done {
            return;
        }
    }
}

#[test]
fn a_full_disk_leaves_what_there_was() {
    let volume = TestVolume::default();
    let snapshots = open(&volume);
    snapshots.write(snapshot(1)).expect("it holds");
    volume.limit(Some(volume.paths().iter().map(|path| volume.edit(path, |bytes| bytes.len())).sum::<usize>() + 10));
    assert!(matches!(snapshots.write(snapshot(2)), Err(EngineError::Disk(_))));
    same(newest(&open(&volume)).expect("it holds"), 1);
    volume.limit(None);
    snapshots.write(snapshot(3)).expect("it holds");
    same(newest(&open(&volume)).expect("it holds"), 3);
    assert_eq!(snapshots.damaged(), 0);
}
