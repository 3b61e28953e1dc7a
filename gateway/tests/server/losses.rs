//! The ledger: what was lost is told, with its reason, wherever people look.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use serde_json::{Value, json};
use squilla_gateway::Answer;

use crate::client::{Client, Received, TestServer};
use crate::resume::{publish, read, server, stopped, subscribe};

const BIDS: &str = "CREATE SOURCE bids (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
    WITH (connector = 'http', idle_timeout = '1h')";

async fn post(server: &TestServer, events: &str) {
    server.service.publish("bids", events.to_owned().into()).await.expect("is taken");
}

/// `(kind, name, reason, rows)` of `SHOW LOSSES`.
async fn losses(server: &TestServer) -> Vec<(String, String, String, u64)> {
    let Ok(Answer::Table(table)) = server.service.execute("SHOW LOSSES").await else { panic!("a table") };
    let text = |table: &RecordBatch, column: &str, row: usize| {
        table.column_by_name(column).expect("the column").as_string::<i32>().value(row).to_owned()
    };
    let rows = table.column_by_name("rows").expect("the column").as_primitive::<UInt64Type>();
    let row = |at| (text(&table, "kind", at), text(&table, "name", at), text(&table, "reason", at), rows.value(at));
    (0..table.num_rows()).map(row).collect()
}

/// The losses of a kind for a reason, once there are any.
async fn lost(server: &TestServer, kind: &str, reason: &str) -> u64 {
    let patience = std::time::Instant::now() + crate::client::PATIENCE;
    loop {
        let all = losses(server).await;
        let these = all.iter().filter(|(of, _, why, _)| of == kind && why == reason).map(|(.., rows)| *rows);
        let rows: u64 = these.sum();
        if rows > 0 {
            return rows;
        }
        assert!(std::time::Instant::now() < patience, "{kind} has lost nothing by {reason}: {all:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_loss_is_told_with_its_reason_and_outlives_who_had_it() {
    let server = TestServer::start().await;
    server.execute(BIDS).await;
    assert_eq!(losses(&server).await, []);
    server.execute("CREATE STREAM counts AS SELECT window_start, count(*) AS n FROM bids GROUP BY tumble('10s')").await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": "SELECT n FROM bids TABLESAMPLE BERNOULLI (0.0001)"})).await;
    post(
        &server,
        "{\"n\":1,\"ts\":\"2026-01-01T00:00:25Z\"}\nnonsense\n{\"n\":2}\n{\"n\":3,\"ts\":\"2026-01-01T00:00:03Z\"}",
    )
    .await;
    assert_eq!(lost(&server, "source", "rejected").await, 1);
    assert_eq!(lost(&server, "source", "no_event_time").await, 1);
    assert_eq!(lost(&server, "job", "late").await, 1, "the aggregate's");
    assert_eq!(lost(&server, "job", "sampled").await, 2);
    let answer = reqwest::get(server.url("/api/v1/losses")).await.expect("an answer").text().await.expect("a body");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let first = &answer["losses"][0];
    assert_eq!((&first["kind"], &first["name"], &first["rows"]), (&json!("source"), &json!("bids"), &json!(1)));
    assert!(first["since"].is_string() && first["meaning"].is_string(), "{answer}");
    let late = answer["losses"].as_array().expect("a list").iter().find(|loss| loss["reason"] == "late");
    assert!(late.is_some_and(|late| late["users"].to_string().contains("counts")), "{answer}");
    let metric = |metrics: &str, line: &str| assert!(metrics.contains(line), "{line} in {metrics}");
    let metrics =
        || async { reqwest::get(server.url("/metrics")).await.expect("an answer").text().await.expect("text") };
    metric(&metrics().await, "squilla_lost_rows_total{reason=\"rejected\"} 1\n");
    metric(&metrics().await, "squilla_lost_rows_total{reason=\"slow\"} 0\n");
    metric(&metrics().await, "squilla_lost_unknown_gaps_total{reason=\"epoch\"} 0\n");
    drop(client);
    server.execute("DROP SOURCE bids CASCADE").await;
    assert_eq!(lost(&server, "ended", "rejected").await, 1);
    assert_eq!(lost(&server, "ended", "late").await, 1);
    metric(&metrics().await, "squilla_lost_rows_total{reason=\"rejected\"} 1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_while_a_reader_was_away_is_counted_from_offsets() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = server(&folder).await;
    let options = "durability = 'durable', retention_size = '64KiB', idle_timeout = '1h'";
    let create = format!("CREATE SOURCE clicks (ts TIMESTAMP, n BIGINT) WITH (connector = 'http', {options})");
    first.execute(&create).await;
    publish(&first, 0..2).await;
    let mut client = Client::hello(&first).await;
    subscribe(&mut client, "SELECT n FROM clicks", &json!("earliest")).await;
    let (_, position) = read(&mut client, 2).await;
    drop(client);
    publish(&first, 2..202).await;
    stopped(first).await;

    let second = server(&folder).await;
    let mut client = Client::hello(&second).await;
    let subscribed = subscribe(&mut client, "SELECT n FROM clicks", &position).await;
    assert_eq!(subscribed["recovered"], false, "{subscribed}");
    let gap = client.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("retention")), "{gap}");
    let rows = gap["rows"].as_u64().expect("it is known how many");
    let next = client.message().await["rows"][0][0].as_u64().expect("a number");
    assert_eq!(next, 2 + rows, "the process that lost them knows nothing of it; offsets do");
    assert_eq!(lost(&second, "job", "retention").await, rows, "the job that reads for it counts them");
    drop(client);
    stopped(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_while_a_stream_did_not_run_is_counted_from_offsets() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = server(&folder).await;
    start
        .execute("CREATE SOURCE clicks (ts TIMESTAMP, n BIGINT) WITH (connector = 'http', durability = 'durable')")
        .await;
    start.execute("CREATE STREAM named WITH (durability = 'buffered') AS SELECT n FROM clicks WHERE n >= 0").await;
    // The stream has come so far, and no further: what it wrote later is taken away again.
    let (named, kept) = (folder.path().join("data/streams/named"), folder.path().join("kept"));
    let mut next = start;
    for rows in [0..3, 3..7] {
        publish(&next, rows.clone()).await;
        let mut client = Client::hello(&next).await;
        subscribe(&mut client, "SELECT n FROM named", &json!("earliest")).await;
        read(&mut client, rows.end as usize).await;
        drop(client);
        stopped(next).await;
        if !kept.exists() {
            copy(&named, &kept);
        }
        next = server(&folder).await;
        assert_eq!(losses(&next).await, [], "nothing came while it did not run");
    }
    stopped(next).await;
    std::fs::remove_dir_all(&named).expect("it is there");
    copy(&kept, &named);
    let last = server(&folder).await;
    assert_eq!(lost(&last, "stream", "restart").await, 4);
    stopped(last).await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("it is copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_windows_that_lack_rows_come_behind_the_share_that_they_have() {
    let server = TestServer::start().await;
    server.execute(BIDS).await;
    let mut client = Client::hello(&server).await;
    let sql = "SELECT window_start, count(*) AS n FROM bids GROUP BY tumble('10s')";
    client.subscribe(json!({"id": "1", "sql": sql})).await;
    let at = |second: u32| format!("{{\"n\":1,\"ts\":\"2026-01-01T00:00:{second:02}Z\"}}\n");
    let good: String = (0..8).map(at).collect();
    post(&server, &format!("{good}nonsense\nnonsense\n{}", at(10))).await;
    let mut told = Vec::new();
    loop {
        let Received::Message(message) = client.receive(true).await else { panic!("it is closed") };
        match message["type"].as_str() {
            Some("progress") => told.push(message["completeness"].as_f64().expect("a share")),
            Some("rows") => {
                assert_eq!(message["rows"][0][1], 8, "{message}");
                break;
            }
            _ => panic!("{message}"),
        }
    }
    let share = *told.last().expect("it is told before the rows");
    assert!((share - (1.0 - 2.0 / 11.0)).abs() < 1e-9, "{told:?}");
}
