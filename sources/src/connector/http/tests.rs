use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type};
use squilla_engine::{EventTime, ManualClock, SourceDefinition};

use super::*;
use crate::NumberedReport;
use crate::testing::{create, env_with};

fn env() -> SourceEnv {
    env_with(Arc::new(ManualClock::new(EventTime(0))), Vec::new())
}

async fn source(env: &SourceEnv) -> SourceDefinition {
    let columns = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)];
    let create = create("events", Some(columns), &[("connector", "http")]);
    crate::define_source(&create, env).await.expect("an http source")
}

async fn publish(env: &SourceEnv, body: &str) -> Result<PublishReport, PublishError> {
    env.publishers.publish("events", Bytes::copy_from_slice(body.as_bytes())).await
}

#[tokio::test]
async fn accepted_rows_reach_the_reader_and_rejected_ones_are_told() {
    let env = env();
    let definition = source(&env).await;
    let mut readers = definition.connector.open(&[0]).await.expect("opened");
    let report = publish(&env, "{\"a\":1}\n{\"a\":\"x\"}\nnonsense\n{\"a\":2,\"b\":\"y\"}").await.expect("taken");
    assert_eq!((report.accepted, report.rejected), (2, 2));
    assert_eq!(report.errors[0].line, 2);
    assert_eq!(report.errors[1].line, 3);
    let report = publish(&env, "[{\"a\":3},{\"a\":1.5},\n{\"a\":4}]").await.expect("taken");
    assert_eq!((report.accepted, report.rejected, report.errors[0].line), (2, 1, 2));
    // A single object over several lines.
    assert_eq!(publish(&env, "{\n  \"a\": 5\n}\n").await.expect("taken").accepted, 1);

    let ReadEvent::Batch { rows, undecodable, rejects, bytes, .. } = readers[0].next().await.expect("read") else {
        panic!("rows")
    };
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4, 5]);
    assert_eq!((rows.num_columns(), undecodable, rejects.len()), (1, 3, 3));
    assert!(bytes > 0);
}

#[tokio::test]
async fn a_reader_waits_and_is_woken() {
    let env = env();
    let definition = source(&env).await;
    let mut readers = definition.connector.open(&[0, 1]).await.expect("opened");
    assert!(matches!(readers[0].next().await, Ok(ReadEvent::Empty)));
    let (event, report) = tokio::join!(readers[0].next(), publish(&env, "{\"a\":1}"));
    assert!(matches!(event, Ok(ReadEvent::Batch { .. })));
    assert_eq!(report.expect("taken").accepted, 1);
}

#[tokio::test]
async fn a_full_queue_refuses_a_body_whole_until_it_was_read() {
    let env = env();
    let definition = source(&env).await;
    let body = "{\"a\":1}\n".repeat(QUEUE_ROWS / 2);
    let half = QUEUE_ROWS as u64 / 2;
    assert_eq!(publish(&env, &body).await.expect("room").accepted, half);
    assert_eq!(publish(&env, &body).await.expect("room").accepted, half);
    assert!(matches!(publish(&env, "{\"a\":2}").await, Err(PublishError::Full { limit: QUEUE_ROWS })));
    let mut readers = definition.connector.open(&[]).await.expect("opened");
    let mut read = 0;
    while let ReadEvent::Batch { rows, .. } = readers[0].next().await.expect("read") {
        read += rows.num_rows();
    }
    assert_eq!(read, QUEUE_ROWS);
    assert!(publish(&env, "{\"a\":2}").await.is_ok());
}

#[tokio::test]
async fn bodies_and_names_that_are_wrong() {
    let env = env();
    assert!(matches!(publish(&env, "{}").await, Err(PublishError::Unknown(_))));
    let definition = source(&env).await;
    for body in ["", "  \n", "[{\"a\":1}", "[{\"a\":1}] x", "[1,"] {
        assert!(matches!(publish(&env, body).await, Err(PublishError::Malformed(_))), "{body}");
    }
    assert_eq!(publish(&env, "[]").await.expect("nothing to take").accepted, 0);
    assert_eq!(publish(&env, "[1]").await.expect("a reject").rejected, 1);
    drop(definition);
    assert!(matches!(publish(&env, "{}").await, Err(PublishError::Unknown(_))));
    let mistakes = crate::define_source(&create("e", None, &[("connector", "http")]), &env).await;
    assert_eq!(mistakes.expect_err("no columns")[0].code, "needs_events");
}

async fn numbered(env: &SourceEnv, sequence: u64, body: &str) -> Result<NumberedReport, PublishError> {
    let numbered = Numbered { producer: "p".to_owned(), sequence };
    env.publishers.publish_numbered("events", Bytes::copy_from_slice(body.as_bytes()), numbered).await
}

fn before(accepted: u64, rejected: u64, sequence: u64) -> NumberedReport {
    NumberedReport::Before(ProducerMark { producer: "p".to_owned(), sequence, accepted, rejected })
}

#[tokio::test]
async fn a_numbered_request_is_taken_once_and_in_turn() {
    let env = env();
    let definition = source(&env).await;
    let mut readers = definition.connector.open(&[0]).await.expect("opened");
    let taken = numbered(&env, 3, "{\"a\":1}\nnonsense").await.expect("taken");
    assert!(matches!(taken, NumberedReport::Taken(PublishReport { accepted: 1, rejected: 1, .. })), "{taken:?}");
    assert_eq!(numbered(&env, 3, "{\"a\":1}\nnonsense").await.expect("known"), before(1, 1, 3));
    let gap = numbered(&env, 5, "{\"a\":3}").await;
    assert!(matches!(gap, Err(PublishError::SequenceGap { sequence: 5, expected: 4, .. })), "{gap:?}");
    // Of many at the same time one is taken.
    let body = "{\"a\":2}\n".repeat(20_000);
    let all = futures::future::join_all((0..8).map(|_| numbered(&env, 4, &body))).await;
    let (taken, known): (Vec<_>, Vec<_>) =
        all.into_iter().map(|one| one.expect("taken or known")).partition(|one| *one != before(20_000, 0, 4));
    assert_eq!((taken.len(), known.len()), (1, 7));
    assert!(matches!(numbered(&env, 5, "[]").await.expect("taken"), NumberedReport::Taken(_)), "without rows");
    let mut rows = 0;
    let mut largest = 0;
    while let ReadEvent::Batch { rows: batch, .. } = readers[0].next().await.expect("read") {
        rows += batch.num_rows();
        largest = largest.max(batch.num_rows());
    }
    assert_eq!(rows, 20_001);
    assert!(largest >= 20_000, "a request is one batch: it is committed as a whole");
}

#[tokio::test]
async fn a_request_whose_sender_has_gone_is_known_when_it_comes_again() {
    let env = env();
    let create = create(
        "events",
        Some(vec![Field::new("a", DataType::Int64, true)]),
        &[("connector", "http"), ("durability", "durable")],
    );
    let definition = crate::define_source(&create, &env).await.expect("an http source");
    let mut readers = definition.connector.open(&[0]).await.expect("opened");
    // Who sent it waits for the receipt, and goes.
    let gone = tokio::time::timeout(std::time::Duration::from_millis(1), numbered(&env, 1, "{\"a\":1}")).await;
    assert!(gone.is_err());
    let event = readers[0].next().await.expect("read");
    let ReadEvent::Batch { receipts, .. } = event else { panic!("rows") };
    let again = numbered(&env, 1, "{\"a\":1}");
    let tell = async {
        for receipt in receipts {
            assert_eq!(receipt.mark.as_ref().map(|mark| mark.sequence), Some(1));
            receipt.told.send(Ok(())).expect("the request goes on without its sender");
        }
    };
    let (again, ()) = tokio::join!(again, tell);
    assert_eq!(again.expect("known"), before(1, 0, 1));
    // What is not committed was not taken.
    let (refused, event) = tokio::join!(numbered(&env, 2, "{\"a\":2}"), async {
        let event = readers[0].next().await;
        drop(event);
    });
    assert!(matches!(refused, Err(PublishError::NotStored(_))), "{refused:?}");
    let () = event;
    let (taken, ()) = tokio::join!(numbered(&env, 2, "{\"a\":2}"), async {
        let Ok(ReadEvent::Batch { receipts, .. }) = readers[0].next().await else { panic!("rows") };
        receipts.into_iter().for_each(|receipt| receipt.told.send(Ok(())).expect("it waits"));
    });
    assert!(matches!(taken, Ok(NumberedReport::Taken(_))), "{taken:?}");
    // Nobody reads any more.
    drop(readers);
    assert!(matches!(numbered(&env, 3, "{\"a\":3}").await, Err(PublishError::NotStored(_))));
    assert!(matches!(publish(&env, "{\"a\":3}").await, Err(PublishError::NotStored(_))));
    let _readers = definition.connector.open(&[0]).await.expect("opened");
    assert!(matches!(
        tokio::time::timeout(std::time::Duration::from_millis(1), publish(&env, "{\"a\":3}")).await,
        Err(_) | Ok(Ok(_))
    ));
}

#[tokio::test]
async fn a_source_goes_on_with_the_producers_of_its_log() {
    let env = env();
    let definition = source(&env).await;
    let mut producers = Producers::default();
    producers.take(ProducerMark { producer: "p".to_owned(), sequence: 8, accepted: 4, rejected: 2 });
    definition.connector.resume(producers);
    assert_eq!(numbered(&env, 8, "{}").await.expect("known"), before(4, 2, 8));
    let forgotten = numbered(&env, 2, "{}").await;
    assert!(matches!(forgotten, Err(PublishError::SequenceForgotten { expected: Some(9), .. })), "{forgotten:?}");
    assert!(matches!(numbered(&env, 9, "{}").await, Ok(NumberedReport::Taken(_))));
}
