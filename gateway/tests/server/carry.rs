//! Streams that go over to other columns while other streams and sinks read them.

use std::sync::Arc;

use serde_json::{Value, json};
use squilla_gateway::Service;

use crate::alter::{BEGIN, all_accounted, hit, publish, reader, refused, rows_until, told};
use crate::client::{TestServer, engine_config, open};

fn events(kind: &str) -> String {
    format!(
        "CREATE SOURCE hits (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
         WITH (connector = 'http', durability = '{kind}', idle_timeout = '10h')"
    )
}

/// Rows of so many seconds, one a second.
fn hits(seconds: std::ops::Range<i64>) -> Value {
    seconds.map(|second| hit(second, second)).collect::<Vec<_>>().into()
}

/// What a stream goes over to: other columns, and the same rows.
const COLUMNS: [&str; 4] = [
    "SELECT n % 3 AS third, n * 10 AS tenfold, n, ts FROM hits WHERE n >= 0",
    "SELECT n % 3 AS third, n, ts FROM hits WHERE n >= 0",
    "SELECT n, 'text' AS tenfold, ts, n % 3 AS third FROM hits WHERE n > -1",
    "SELECT n, n % 3 AS third, ts, 7 AS more FROM hits WHERE n >= 0",
];

/// What reads it, and what its rows must be once so many seconds have come.
struct Reads {
    name: &'static str,
    query: &'static str,
    wanted: fn(i64) -> Vec<Vec<i64>>,
}

const READS: [Reads; 5] = [
    Reads {
        name: "odd",
        query: "SELECT n FROM base WHERE n % 2 = 1",
        wanted: |end| (0..end).filter(|n| n % 2 == 1).map(|n| vec![n]).collect(),
    },
    Reads {
        name: "plain",
        query: "SELECT n, third FROM narrow",
        wanted: |end| (0..end).map(|n| vec![n, n % 3]).collect(),
    },
    Reads {
        name: "deep",
        query: "SELECT n + 0 AS n FROM odd",
        wanted: |end| (0..end).filter(|n| n % 2 == 1).map(|n| vec![n]).collect(),
    },
    Reads {
        name: "high",
        query: "SELECT n, third + 0 AS third FROM seen WHERE third > 0",
        wanted: |end| (0..end).filter(|n| n % 3 > 0).map(|n| vec![n, n % 3]).collect(),
    },
    Reads {
        name: "pairs",
        query: "SELECT a.n AS n, b.n AS m FROM base a JOIN hits b ON a.n = b.n + 1
                AND b.ts BETWEEN a.ts - INTERVAL '1 hour' AND a.ts + INTERVAL '1 hour'",
        wanted: |end| (1..end).map(|n| vec![n, n - 1]).collect(),
    },
];

async fn all_rows(service: &Service, name: &str, wanted: &[Vec<i64>]) {
    let mut of_stream = reader(service, &format!("SELECT * FROM {name}")).await;
    let mut rows = Vec::new();
    while rows.len() < wanted.len() {
        rows.append(&mut rows_until(&mut of_stream, |_| true).await);
    }
    rows.sort();
    assert_eq!(rows, wanted, "{name}");
}

async fn make(service: &Service, kind: &str) {
    told(service, &events(kind)).await;
    let with = format!("WITH (durability = '{kind}')");
    told(service, &format!("CREATE STREAM base {with} AS SELECT n, n % 3 AS third, ts FROM hits WHERE n >= 0")).await;
    told(service, "CREATE VIEW narrow AS SELECT n, third FROM base").await;
    for Reads { name, query, .. } in READS {
        if name == "high" {
            // A view of a stream that reads a view.
            told(service, "CREATE VIEW seen AS SELECT * FROM plain").await;
        }
        told(service, &format!("CREATE STREAM {name} {with} AS {query}")).await;
    }
}

async fn check(service: &Service, end: i64) {
    for Reads { name, wanted, .. } in READS {
        all_rows(service, name, &wanted(end)).await;
    }
    all_accounted(service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_stream_goes_on_with_its_other_columns() {
    let service = open(None, engine_config(), Vec::new()).await;
    make(&service, "memory").await;
    told(&service, "CREATE STREAM sums AS SELECT window_start, sum(n) AS n FROM base GROUP BY tumble('10s')").await;
    let mut end = 0;
    for columns in COLUMNS {
        publish(&service, "hits", &hits(end..end + 7)).await;
        let answer = told(&service, &format!("ALTER STREAM base AS {columns}")).await;
        assert!(answer.contains("the new query goes on at the row at which the old one ended"), "{answer}");
        publish(&service, "hits", &hits(end + 7..end + 13)).await;
        end += 13;
        check(&service, end).await;
    }
    publish(&service, "hits", &hits(end..end + 13)).await;
    let mut of_sums = reader(&service, "SELECT * FROM sums").await;
    let rows = rows_until(&mut of_sums, |row| row[0] == BEGIN + 40).await;
    let wanted: Vec<Vec<i64>> = (0..5).map(|at| vec![BEGIN + at * 10, (at * 10..at * 10 + 10).sum()]).collect();
    assert_eq!(rows, wanted);
    // Who asks now finds what it has now.
    let mut of_base = reader(&service, "SELECT n, more FROM base").await;
    assert_eq!(rows_until(&mut of_base, |row| row[0] == end + 12).await.last(), Some(&vec![end + 12, 7]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_durable_stream_goes_on_over_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    let mut service: Arc<Service> = open(data.clone(), engine_config(), Vec::new()).await;
    make(&service, "durable").await;
    told(
        &service,
        "CREATE STREAM sums WITH (durability = 'durable') AS
         SELECT window_start, sum(n) AS n FROM base GROUP BY tumble('20s')",
    )
    .await;
    let mut end = 0;
    for (round, columns) in COLUMNS.iter().enumerate() {
        publish(&service, "hits", &hits(end..end + 7)).await;
        told(&service, &format!("ALTER STREAM base AS {columns}")).await;
        publish(&service, "hits", &hits(end + 7..end + 13)).await;
        end += 13;
        if round % 2 == 0 {
            check(&service, end).await;
            service.engine().shutdown().await;
        }
        drop(service);
        service = open(data.clone(), engine_config(), Vec::new()).await;
        publish(&service, "hits", &hits(end..end + 5)).await;
        end += 5;
        check(&service, end).await;
    }
    publish(&service, "hits", &hits(end..end + 12)).await;
    let mut of_sums = reader(&service, "SELECT * FROM sums").await;
    let rows = rows_until(&mut of_sums, |row| row[0] == BEGIN + 60).await;
    let wanted: Vec<Vec<i64>> = (0..4).map(|at| vec![BEGIN + at * 20, (at * 20..at * 20 + 20).sum()]).collect();
    assert_eq!(rows, wanted, "windows that were open when the columns changed are whole");
    service.engine().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_the_columns_that_others_read() {
    let server = TestServer::start().await;
    make(&server.service, "memory").await;
    let error = refused(&server, "ALTER STREAM base AS SELECT n, ts FROM hits").await;
    let wanted = "what would change is read by view \"narrow\", stream \"plain\"";
    assert_eq!((&error["code"], &error["message"]), (&json!("in_use"), &json!(wanted)), "{error}");
    assert!(error.to_string().contains("no column \\\"third\\\""), "{error}");
    let error = refused(&server, "ALTER STREAM base AS SELECT n, 'x' AS third, ts FROM hits").await;
    assert!(error.to_string().contains("it would give other rows"), "{error}");
    server.execute("PAUSE STREAM odd").await;
    let error = refused(&server, &format!("ALTER STREAM base AS {}", COLUMNS[0])).await;
    assert_eq!(error["message"], "\"base\" cannot be altered while \"odd\" reads it: it is paused");
    server.execute("RESUME STREAM odd").await;
    server.execute("CREATE STREAM counts AS SELECT third, count(*) AS c FROM base GROUP BY third").await;
    let error = refused(&server, &format!("ALTER STREAM base AS {}", COLUMNS[0])).await;
    let wanted = "\"base\" cannot be altered while \"counts\" reads it: its result changes, and would be made anew of the rows \
                  that come then";
    assert_eq!(error["message"], wanted);
    server.execute("DROP STREAM counts").await;
    server.execute(&format!("ALTER STREAM base AS {}", COLUMNS[0])).await;
    publish(&server.service, "hits", &hits(0..9)).await;
    check(&server.service, 9).await;
}
