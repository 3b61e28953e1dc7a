//! Replays that stand and come step by step.

use serde_json::{Value, json};

use crate::client::{Client, TestServer};

const CREATE: &str = "CREATE SOURCE bids (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')";

/// A server whose source has had the rows `1..=rows`, in requests of seven.
async fn server(rows: i64) -> TestServer {
    let server = TestServer::start().await;
    server.execute(CREATE).await;
    publish(&server, 1..=rows).await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "0", "sql": "SELECT n FROM bids", "from": "earliest"})).await;
    // Who reads from the start knows when the rows are there.
    told(&mut client, rows as usize).await;
    server
}

async fn publish(server: &TestServer, numbers: std::ops::RangeInclusive<i64>) {
    let numbers: Vec<i64> = numbers.collect();
    for some in numbers.chunks(7) {
        let events: Value = some.iter().map(|n| json!({"n": n, "ts": n * 1_000})).collect();
        server.service.publish("bids", events.to_string().into()).await.expect("is taken");
    }
}

fn numbers(message: &Value) -> Vec<i64> {
    let rows = message["rows"].as_array().expect("rows");
    rows.iter().map(|row| row[0].as_i64().expect("a number")).collect()
}

/// The next rows, so many of them.
async fn told(client: &mut Client, count: usize) -> Vec<i64> {
    let mut told = Vec::new();
    while told.len() < count {
        let message = client.message().await;
        assert_eq!(message["type"], "rows", "{message}");
        told.extend(numbers(&message));
    }
    assert_eq!(told.len(), count, "{told:?}");
    told
}

/// The rows until it stands, and what says so.
async fn until_it_stands(client: &mut Client) -> (Vec<i64>, Value) {
    let mut told = Vec::new();
    loop {
        let message = client.message().await;
        match message["type"].as_str() {
            Some("rows") => told.extend(numbers(&message)),
            Some("pace") => return (told, message),
            _ => panic!("neither rows nor where it stands: {message}"),
        }
    }
}

async fn step(client: &mut Client, rows: u64) -> (Vec<i64>, Value) {
    client.send(&json!({"type": "step", "id": "q", "rows": rows})).await;
    until_it_stands(client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_brings_its_rows_and_each_position_is_exact() {
    let server = server(40).await;
    for (sql, from, all) in [
        ("SELECT * FROM bids", json!("earliest"), (1..=40).collect::<Vec<i64>>()),
        ("SELECT n FROM bids", json!("earliest"), (1..=40).collect()),
        ("SELECT n FROM bids WHERE n % 3 = 0", json!("earliest"), (1..=13).map(|n| n * 3).collect()),
        ("SELECT n FROM bids SINCE EARLIEST UNTIL TIMESTAMP '1970-01-01 00:00:31'", Value::Null, (1..=30).collect()),
    ] {
        let mut client = Client::hello(&server).await;
        client.subscribe(json!({"id": "q", "sql": sql, "from": from, "paused": true})).await;
        let (mut got, mut at) = until_it_stands(&mut client).await;
        assert!(got.is_empty() && at["paused"] == true, "{sql}: {got:?} {at}");
        for rows in [1, 1, 4, 2] {
            let (some, pace) = step(&mut client, rows).await;
            assert_eq!(some.len() as u64, rows, "{sql}");
            got.extend(some);
            assert_eq!(got[..], all[..got.len()], "{sql}");
            at = pace;
            // Another reader goes on at just the next row.
            let mut other = Client::hello(&server).await;
            let sql = sql.replace(" SINCE EARLIEST", "");
            if sql.contains("UNTIL") {
                continue;
            }
            let again = json!({"id": "q", "sql": sql, "from": at["position"], "paused": true});
            assert_eq!(other.subscribe(again).await["recovered"], true);
            until_it_stands(&mut other).await;
            assert_eq!(step(&mut other, 2).await.0[..], all[got.len()..got.len() + 2], "{sql}");
        }
        client.send(&json!({"type": "continue", "id": "q"})).await;
        assert_eq!(until_it_stands(&mut client).await.1["paused"], false);
        got.extend(told(&mut client, all.len() - got.len()).await);
        assert_eq!(got, all, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_values_amid_a_batch_let_no_row_be_lost() {
    let server = server(20).await;
    for (sql, from_one, from_six, from_zero) in [
        ("SELECT n FROM bids WHERE n >= $least", [1, 2], [6, 7, 8], [1, 2, 3]),
        ("SELECT n FROM bids WHERE n % 2 = 1 AND n >= $least", [1, 3], [7, 9, 11], [1, 3, 5]),
    ] {
        for (least, expected) in [(6, from_six), (0, from_zero)] {
            let mut client = Client::hello(&server).await;
            let wanted = json!({"id": "q", "sql": sql, "params": {"least": 1}, "from": "earliest", "paused": true});
            client.subscribe(wanted).await;
            until_it_stands(&mut client).await;
            assert_eq!(step(&mut client, 2).await.0, from_one, "{sql}");
            client.send(&json!({"type": "set_params", "id": "q", "params": {"least": least}})).await;
            let changed = client.message().await;
            assert_eq!((&changed["type"], &changed["params"]), (&json!("params"), &json!({"least": least})));
            assert!(
                changed["position"].as_str().is_some_and(|at| at.ends_with(":0=0")),
                "it says from where: {changed}"
            );
            client.send(&json!({"type": "step", "id": "q", "rows": 3})).await;
            let mut told = Vec::new();
            while told.len() < 3 {
                told.extend(until_it_stands(&mut client).await.0);
            }
            assert_eq!(told, expected, "{sql} with {least}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_it_stands_follows() {
    let server = server(5).await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "q", "sql": "SELECT n FROM bids", "from": "earliest"})).await;
    assert_eq!(told(&mut client, 5).await, [1, 2, 3, 4, 5]);
    client.send(&json!({"type": "pause", "id": "q"})).await;
    let (rows, pace) = until_it_stands(&mut client).await;
    assert!(rows.is_empty());
    assert_eq!((&pace["paused"], &pace["event_time"]), (&json!(true), &json!("1970-01-01T00:00:05Z")));
    publish(&server, 6..=9).await;
    assert_eq!(step(&mut client, 3).await.0, [6, 7, 8]);
    // Steps wait for rows.
    client.send(&json!({"type": "step", "id": "q", "rows": 3})).await;
    assert_eq!(told(&mut client, 1).await, [9]);
    publish(&server, 10..=20).await;
    assert_eq!(until_it_stands(&mut client).await.0, [10, 11]);
    client.send(&json!({"type": "continue", "id": "q"})).await;
    assert_eq!(until_it_stands(&mut client).await.1["paused"], false);
    assert_eq!(told(&mut client, 9).await, (12..=20).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_come_step_by_step() {
    let server = server(40).await;
    let mut client = Client::hello(&server).await;
    let sql = "SELECT count(*) AS n, window_start FROM bids GROUP BY tumble('10s')";
    client.subscribe(json!({"id": "q", "sql": sql, "from": "earliest", "paused": true})).await;
    until_it_stands(&mut client).await;
    assert_eq!(step(&mut client, 1).await.0, [9]);
    assert_eq!(step(&mut client, 2).await.0, [10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_credit_wait_and_are_not_counted_twice() {
    let server = server(40).await;
    let mut client = Client::hello(&server).await;
    let asked = json!({"id": "q", "sql": "SELECT n FROM bids", "from": "earliest", "paused": true, "credit": 1});
    client.subscribe(asked).await;
    until_it_stands(&mut client).await;
    // The first frame overdraws the credit.
    client.send(&json!({"type": "step", "id": "q", "rows": 30})).await;
    let first = told_once(&mut client).await;
    client.send(&json!({"type": "step", "id": "q", "rows": 2})).await;
    client.send(&json!({"type": "credit", "id": "q", "bytes": 1_000_000})).await;
    let mut all = first;
    while all.len() < 32 {
        all.extend(until_it_stands(&mut client).await.0);
    }
    assert_eq!(all, (1..=32).collect::<Vec<i64>>());
}

async fn told_once(client: &mut Client) -> Vec<i64> {
    numbers(&client.message().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_can_be_ended() {
    let server = server(5).await;
    let mut client = Client::hello(&server).await;
    let asked = json!({"id": "q", "sql": "SELECT n FROM bids", "from": "earliest", "paused": true});
    let query = client.subscribe(asked).await["query"].as_str().expect("an id").to_owned();
    until_it_stands(&mut client).await;
    assert!(server.service.execute(&format!("PAUSE QUERY '{query}'")).await.is_err(), "its client does that");
    server.execute(&format!("KILL QUERY '{query}'")).await;
    assert_eq!(client.message().await["type"], "error");
}

/// Rows of about a kilobyte.
async fn publish_wide(server: &TestServer, numbers: std::ops::RangeInclusive<i64>) {
    let (numbers, pad): (Vec<i64>, String) = (numbers.collect(), "x".repeat(1_000));
    for some in numbers.chunks(500) {
        let events: Value = some.iter().map(|n| json!({"n": n, "pad": pad, "ts": n * 1_000})).collect();
        server.service.publish("bids", events.to_string().into()).await.expect("is taken");
    }
}

/// Reads until the row came that has the number `last`.
async fn until_row(client: &mut Client, last: i64) {
    loop {
        let message = client.message().await;
        if message["type"] == "rows" && numbers(&message).last() == Some(&last) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_takes_meanwhile_is_a_gap_of_its_rows() {
    // More than the log keeps, and more than what a job may have computed ahead.
    const ROWS: i64 = 20_000;
    for sql in ["SELECT * FROM bids", "SELECT n, pad FROM bids"] {
        let server = TestServer::start().await;
        let columns = "n BIGINT, pad VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts";
        server
            .execute(&format!("CREATE SOURCE bids ({columns}) WITH (connector = 'http', retention_size = '64KiB')"))
            .await;
        let mut other = Client::hello(&server).await;
        other.subscribe(json!({"id": "0", "sql": "SELECT n FROM bids"})).await;
        publish_wide(&server, 1..=3).await;
        until_row(&mut other, 3).await;
        let mut client = Client::hello(&server).await;
        client.subscribe(json!({"id": "q", "sql": sql, "from": "earliest", "paused": true})).await;
        until_it_stands(&mut client).await;
        assert_eq!(step(&mut client, 2).await.0, [1, 2], "{sql}");
        publish_wide(&server, 4..=ROWS).await;
        until_row(&mut other, ROWS).await;
        client.send(&json!({"type": "step", "id": "q", "rows": ROWS})).await;
        let (mut last, mut missed) = (2, 0);
        while last < ROWS {
            let message = client.message().await;
            if message["type"] == "gap" {
                assert_eq!(message["reason"], "retention", "{message}");
                let rows = message["rows"].as_i64().expect("it is counted");
                (last, missed) = (last + rows, missed + rows);
                continue;
            }
            for number in numbers(&message) {
                assert_eq!(number, last + 1, "{sql}");
                last = number;
            }
        }
        assert!(missed > 0, "{sql}");
    }
}
