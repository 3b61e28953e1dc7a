use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type};
use squilla_engine::{EventTime, ManualClock, SourceDefinition};

use super::*;
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
