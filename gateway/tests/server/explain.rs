//! What a query would run, and what it did.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use squilla_gateway::{Answer, Service};

use crate::client::{engine_config, open};

const SQL: &str = "SELECT title, count(*) AS n FROM plays WHERE outcome = 'ok' GROUP BY title, tumble('1s')";

async fn table(service: &Service, sql: &str) -> RecordBatch {
    match service.execute(sql).await.expect("it is carried out") {
        Answer::Table(table) => table,
        other => panic!("no table: {other:?}"),
    }
}

fn texts(table: &RecordBatch, column: &str) -> Vec<String> {
    let values = table.column_by_name(column).expect("the column is there").as_string::<i32>();
    values.iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

fn numbers(table: &RecordBatch, column: &str) -> Vec<Option<u64>> {
    table.column_by_name(column).expect("the column is there").as_primitive::<UInt64Type>().iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_without_windows_is_told_and_for_how_long() {
    let service = open(None, engine_config(), Vec::new()).await;
    let create = "CREATE SOURCE plays WITH (connector = 'generator', rows = 50)";
    service.execute(create).await.expect("a source");
    let create = "CREATE STREAM titles AS SELECT title, count(*) AS n FROM plays GROUP BY title STATE TTL '2 hours'";
    service.execute(create).await.expect("a stream");
    let described = table(&service, "DESCRIBE titles").await;
    let kept = "one group for each title, forgotten 7200s after its last row on live input";
    let keeps = texts(&described, "name").iter().position(|name| name == "keeps").expect("it is told");
    assert_eq!(texts(&described, "value")[keeps], kept);
    // Who reads the stream reads its groups, which live as long as it says.
    let chain = table(&service, "EXPLAIN SELECT * FROM titles").await;
    assert_eq!(texts(&chain, "state")[1], kept);
    assert!(numbers(&table(&service, "SHOW JOBS").await, "forgotten").iter().all(|count| *count == Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_draws_the_chain_and_analyze_counts_in_it() {
    let service = open(None, engine_config(), Vec::new()).await;
    let create = "CREATE SOURCE plays WITH (connector = 'generator', rows = 5000)";
    service.execute(create).await.expect("a source");

    let chain = table(&service, &format!("EXPLAIN {SQL}")).await;
    assert_eq!(texts(&chain, "job"), ["source", "filter", "aggregate", "project", "client"]);
    assert_eq!(texts(&chain, "reads"), ["", "1", "2", "3", "4"]);
    let source = &texts(&chain, "description")[0];
    assert!(source.contains("read are 2 of") && source.contains("outcome, title"), "{source}");
    let emits = texts(&chain, "emits");
    assert!(emits[2].contains("each window once"), "{emits:?}");

    assert_eq!(emits[4], "rows as the last job tells them");
    // The reader's, and no step: what is shared is the same.
    let limited = table(&service, &format!("EXPLAIN {SQL} LIMIT 7")).await;
    assert_eq!(texts(&limited, "emits")[4], "the first 7 rows as the last job tells them");
    assert_eq!(texts(&limited, "description"), texts(&chain, "description"));

    let done = table(&service, &format!("EXPLAIN ANALYZE '60s' {SQL}")).await;
    assert_eq!(texts(&done, "job"), ["source", "filter", "aggregate", "project", "client"]);
    let (rows_in, rows_out) = (numbers(&done, "rows_in"), numbers(&done, "rows_out"));
    assert_eq!((rows_in[0], rows_in[1], rows_out[0]), (Some(5000), Some(5000), Some(5000)));
    assert_eq!(rows_out[1], rows_in[2], "what the filter passes the aggregate gets");
    assert!(rows_out[1] < rows_in[1] && rows_out[1] > Some(0), "{rows_out:?}");
    assert_eq!(rows_in[4], rows_out[3], "the client gets all");
    let (bytes, busy) = (numbers(&done, "bytes_out"), numbers(&done, "busy_us"));
    assert!(bytes[0] > bytes[3] && bytes[3] > Some(0), "{bytes:?}");
    assert!(busy[..4].iter().all(|time| *time > Some(0)), "{busy:?}");
}
