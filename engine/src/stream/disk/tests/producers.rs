//! Publishers' requests in the log: there with their rows, or not there.

use super::*;
use crate::stream::{Arrived, ProducerMark};

fn mark(producer: &str, sequence: u64) -> ProducerMark {
    ProducerMark { producer: producer.to_owned(), sequence, accepted: 2, rejected: 0 }
}

/// Appends two rows as a request, syncs, and lets readers read.
fn publish(log: &Arc<DiskLog>, first: u64, marks: Vec<ProducerMark>) -> Result<(), DiskError> {
    let commit = log.next_commit();
    let batches = vec![Arc::new(batch(0, first, 1)), Arc::new(batch(0, first + 1, 1))];
    let append =
        Append { log: log.clone(), batches, commit, inputs: Vec::new(), marks, now: EventTime(first.cast_signed()) };
    log.append(&mut Encoder::default(), &append, &mut Vec::new())?;
    log.sync()?;
    log.publish(commit);
    Ok(())
}

fn small(bytes: u64, epoch: u64) -> DiskOptions {
    DiskOptions { bytes, ..options(Durability::Durable, epoch) }
}

/// The number of a producer's last request that the log remembers.
fn last(resumed: &Resumed, producer: &str) -> Option<u64> {
    resumed.producers.marks().iter().filter(|mark| mark.producer == producer).map(|mark| mark.sequence).max()
}

#[test]
fn they_are_remembered_as_long_as_the_log_is_there() {
    let volume = TestVolume::default();
    let (log, resumed) = open(&volume, small(64 << 10, 1)).expect("the volume is sound");
    assert!(resumed.producers.is_empty());
    publish(&log, 0, vec![mark("seldom", 41)]).expect("the volume is sound");
    for request in 1..200 {
        publish(&log, request * 2, vec![mark("often", request)]).expect("the volume is sound");
    }
    assert!(log.first().offsets[&0].0.0 > 2, "what held the first request is gone");
    let on_disk: usize = files(&volume).iter().map(|path| volume.edit(path, |bytes| bytes.len())).sum();
    assert_eq!(log.bytes(), on_disk as u64, "bytes are counted as they come and go");
    drop(log);
    for _ in 0..2 {
        let (log, resumed) = open(&volume, small(64 << 10, 2)).expect("the volume is sound");
        assert_eq!((last(&resumed, "often"), last(&resumed, "seldom")), (Some(199), Some(41)));
        assert_eq!(resumed.producers.arrived("often", 199), Arrived::Before(mark("often", 199)));
        assert_eq!(resumed.producers.arrived("seldom", 43), Arrived::Gap { expected: 42 });
        drop(log);
    }
}

#[test]
fn a_log_without_them_reads_as_before() {
    let volume = TestVolume::default();
    let log = filled(&volume);
    let inputs = vec![("clicks".to_owned(), Position { epoch: 7, offsets: BTreeMap::from([(0, (Offset(3), 0))]) })];
    let (commit, batches) = (log.next_commit(), vec![Arc::new(batch(0, 20, 1))]);
    let append =
        Append { log: log.clone(), batches, commit, inputs: inputs.clone(), marks: Vec::new(), now: EventTime(0) };
    log.append(&mut Encoder::default(), &append, &mut Vec::new()).expect("the volume is sound");
    log.sync().expect("the volume is sound");
    drop((append, log));
    let (_, resumed) = open(&volume, options(Durability::Durable, 2)).expect("the volume is sound");
    assert_eq!((resumed.inputs, resumed.producers.is_empty()), (inputs, true));
}

/// Fails each change of the volume in turn, cuts the power, opens the log again, and sends the last request again, as
/// its publisher does that was told nothing.
#[test]
fn a_request_that_is_sent_again_after_a_power_cut_is_there_once() {
    let steps = |volume: &TestVolume| -> (u64, Result<(), DiskError>) {
        let mut told = 0;
        let mut run = || {
            let (log, _) = open(volume, small(40 << 10, 1))?;
            for request in 0..8 {
                publish(&log, request * 2, vec![mark("p", request)])?;
                told = request + 1;
            }
            log.close()
        };
        let result = run();
        (told, result)
    };
    let volume = TestVolume::default();
    steps(&volume).1.expect("the volume is sound");
    for (fails_at, torn) in (0..volume.calls()).flat_map(|call| [0, 1, 77, 500, 5_000].map(|torn| (call, torn))) {
        let volume = TestVolume::default();
        volume.fail_after(Some(fails_at));
        let (told, _) = steps(&volume);
        volume.cut_power(torn);
        let place = format!("call {fails_at}, torn {torn}");
        let (log, resumed) = open(&volume, small(40 << 10, 2)).expect("the volume is sound");
        let next = resumed.position.offsets[&0].0.0;
        assert_eq!(last(&resumed, "p").map_or(0, |last| last + 1), next / 2, "{place}: rows and requests go together");
        assert!(next / 2 >= told, "{place}");
        if resumed.producers.arrived("p", told) == Arrived::Next {
            publish(&log, next, vec![mark("p", told)]).expect("the volume is sound");
        }
        assert_eq!(read(&log).0[0], upto((told + 1) * 2), "{place}");
    }
}

#[test]
fn rows_that_cannot_be_synced_are_cut_and_the_log_takes_no_more() {
    let volume = TestVolume::default();
    let (log, _) = open(&volume, small(1 << 20, 1)).expect("the volume is sound");
    publish(&log, 0, vec![mark("p", 0)]).expect("the volume is sound");
    volume.fail_syncs(true);
    let failed = publish(&log, 2, vec![mark("p", 1)]);
    assert!(matches!(failed, Err(DiskError::Broken { .. })), "{failed:?}");
    volume.fail_syncs(false);
    // The system would say that all is well now.
    assert!(matches!(log.sync(), Err(DiskError::Closed)));
    assert!(matches!(publish(&log, 2, vec![mark("p", 1)]), Err(DiskError::Closed)));
    assert!(log.close().is_err(), "it must not be taken for closed");
    assert_eq!(read(&log).0[0], upto(2), "nobody has seen the rows");
    drop(log);
    let (log, resumed) = open(&volume, small(1 << 20, 2)).expect("the volume is sound");
    assert_eq!((resumed.position.epoch, last(&resumed, "p")), (1, Some(0)), "readers miss nothing that they saw");
    publish(&log, 2, vec![mark("p", 1)]).expect("the volume is sound");
    assert_eq!(read(&log).0[0], upto(4), "sent again, they are there once");
}

#[test]
fn rows_that_can_neither_be_synced_nor_cut_are_known_when_they_are_sent_again() {
    let volume = TestVolume::default();
    let (log, _) = open(&volume, small(1 << 20, 1)).expect("the volume is sound");
    publish(&log, 0, vec![mark("p", 0)]).expect("the volume is sound");
    // The write goes well, and nothing does afterwards.
    volume.fail_after(Some(1));
    assert!(matches!(publish(&log, 2, vec![mark("p", 1)]), Err(DiskError::Broken { .. })));
    assert_eq!(read(&log).0[0], upto(2), "nobody has seen the rows");
    drop(log);
    volume.fail_after(None);
    let (log, resumed) = open(&volume, small(1 << 20, 2)).expect("the volume is sound");
    assert_eq!(resumed.producers.arrived("p", 1), Arrived::Before(mark("p", 1)));
    assert_eq!(read(&log).0[0], upto(4), "they were synced before they were shown");
    volume.cut_power(0);
    drop(log);
    let (log, _) = open(&volume, small(1 << 20, 3)).expect("the volume is sound");
    assert_eq!(read(&log).0[0], upto(4));
}
