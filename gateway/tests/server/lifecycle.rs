//! How named streams and live queries end, rest and go on.

use reqwest::{Client as Http, StatusCode};
use serde_json::{Value, json};
use squilla_gateway::{Answer, Service};

use crate::alter::all_accounted;
use crate::client::{Client, Received, TestServer, engine_config, open};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    server
}

async fn post(server: &TestServer, sql: &str) -> (StatusCode, Value) {
    let sent = Http::new().post(server.url("/api/v1/statements")).json(&json!({"sql": sql})).send().await;
    let answer = sent.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_names_all_who_are_in_the_way_and_a_cascade_ends_them() {
    let server = server().await;
    server.execute("CREATE STREAM even AS SELECT n FROM events WHERE n % 2 = 0").await;
    server.execute("CREATE VIEW small AS SELECT n FROM even WHERE n < 10").await;
    server.execute("CREATE STREAM tiny AS SELECT n FROM small WHERE n < 3").await;
    server.execute("CREATE STREAM odd AS SELECT n FROM events WHERE n % 2 = 1").await;
    let mut client = Client::hello(&server).await;
    let of_tiny = client.subscribe(json!({"id": "tiny", "sql": "SELECT n + 1 AS m FROM tiny"})).await;
    let of_small = client.subscribe(json!({"id": "small", "sql": "SELECT n FROM small"})).await;
    client.subscribe(json!({"id": "odd", "stream": "odd"})).await;
    let (status, refused) = post(&server, "DROP STREAM even").await;
    let id = |subscribed: &Value| subscribed["query"].as_str().expect("an id").to_owned();
    let wanted = format!(
        "stream \"even\" is used by view \"small\", stream \"tiny\", live query \"{}\", live query \"{}\"",
        id(&of_tiny),
        id(&of_small)
    );
    assert_eq!((status, &refused["error"]["message"]), (StatusCode::CONFLICT, &json!(wanted)));
    assert_eq!(refused["error"]["span"], json!({"start": 12, "end": 16}));
    let (status, dropped) = post(&server, "DROP STREAM even CASCADE").await;
    assert_eq!(status, StatusCode::OK, "{dropped}");
    let told = dropped["results"][0]["message"].as_str().expect("a message");
    assert!(told.contains("view \"small\", stream \"tiny\", live query"), "{told}");
    let mut ended = [client.message().await, client.message().await];
    ended.sort_by_key(|message| message["id"].to_string());
    let told: Vec<_> = ended.iter().map(|message| (&message["id"], &message["code"], &message["message"])).collect();
    let (dropped, of) = (json!("dropped"), |name: &str| json!(format!("\"{name}\" was dropped")));
    // The view's reader reads what is below it.
    assert_eq!(told, [(&json!("small"), &dropped, &of("even")), (&json!("tiny"), &dropped, &of("tiny"))]);
    server.service.publish("events", json!([{"n": 2}, {"n": 5}]).to_string().into()).await.expect("is taken");
    assert_eq!(client.message().await["rows"], json!([[5]]), "what does not depend on it goes on");
    let names: Vec<String> = server.service.engine().streams().into_iter().map(|stream| stream.name).collect();
    assert_eq!(names, ["events", "odd"]);
    let left = server.service.engine().jobs();
    let left: Vec<_> = left.iter().filter(|job| job.status != "ended").map(|job| job.stream.as_deref()).collect();
    assert_eq!(left.iter().flatten().collect::<Vec<_>>(), [&"events", &"odd"], "{left:?}");
}

async fn publish(server: &TestServer, source: &str, events: Value) {
    server.service.publish(source, events.to_string().into()).await.expect("is taken");
}

/// What a statement says that it has done.
async fn told(service: &Service, sql: &str) -> String {
    match service.execute(sql).await {
        Ok(Answer::Done(told)) => told,
        other => panic!("{sql}: {other:?}"),
    }
}

/// Waits until so many rows wait for a stream that rests.
async fn waiting(service: &Service, name: &str, rows: u64) {
    let now = || service.engine().streams().into_iter().find(|stream| stream.name == name).and_then(|it| it.paused);
    while now().expect("it rests").waiting_rows < rows {
        tokio::task::yield_now().await;
    }
}

/// The next so many rows.
async fn rows(client: &mut Client, count: usize) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    while rows.len() < count {
        let message = client.message().await;
        rows.extend(message["rows"].as_array().unwrap_or_else(|| panic!("{message}")).iter().cloned());
    }
    rows
}

/// The next progress that has something to notice, or none again.
async fn notices(client: &mut Client, some: bool) -> Value {
    loop {
        let Received::Message(message) = client.receive(true).await else { panic!("the socket is closed") };
        if message["type"] == "progress" && message["notices"].is_array() == some {
            return message["notices"].clone();
        }
        assert_eq!(message["type"], "progress", "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_paused_goes_on_where_it_was_and_its_readers_stay() {
    let server = server().await;
    server.execute("CREATE STREAM even AS SELECT n FROM events WHERE n % 2 = 0").await;
    server.execute("CREATE STREAM tens AS SELECT n / 10 AS m FROM even").await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": "SELECT m FROM tens"})).await;
    publish(&server, "events", json!([{"n": 20}])).await;
    assert_eq!(client.message().await["rows"], json!([[2]]));
    let (status, answer) = post(&server, "PAUSE STREAM even").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(told(&server.service, "PAUSE STREAM even").await.contains("paused already"));
    publish(&server, "events", json!([{"n": 30}, {"n": 31}, {"n": 40}])).await;
    let noticed = notices(&mut client, true).await;
    assert_eq!((&noticed[0]["kind"], &noticed[0]["of"]), (&json!("paused"), &json!("even")));
    waiting(&server.service, "even", 3).await;
    let (_, answer) = post(&server, "SHOW STREAMS; SHOW JOBS; DESCRIBE even").await;
    let table = |at: usize| answer["results"][at]["rows"].as_array().expect("rows").clone();
    let status = |name: &str| table(0).iter().find(|row| row[0] == name).map(|row| row[2].clone());
    assert_eq!((status("even"), status("tens")), (Some(json!("paused")), Some(json!("running"))));
    let jobs = table(1);
    assert!(jobs.iter().any(|row| row[4] == "even" && row.to_string().contains("\"paused\"")), "{answer}");
    let fact = |name: &str| table(2).iter().find(|row| row[1] == name).map(|row| row[2].clone());
    assert_eq!(fact("waiting"), Some(json!("3 rows")));
    assert!(fact("paused since").is_some());
    assert_eq!(told(&server.service, "RESUME STREAM even").await, "resumed stream \"even\": 3 rows had waited");
    assert_eq!(rows(&mut client, 2).await, [json!([3]), json!([4])]);
    notices(&mut client, false).await;
    assert!(told(&server.service, "RESUME STREAM even").await.contains("was not paused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_goes_on_from_latest_counts_what_it_skipped() {
    let server = server().await;
    server.execute("CREATE STREAM even AS SELECT n FROM events WHERE n % 2 = 0").await;
    let quarantine = reqwest::get(server.url("/api/v1/streams/even/quarantine")).await.expect("an answer");
    assert_eq!(quarantine.json::<Value>().await.expect("JSON"), json!({"quarantine": null}));
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "stream": "even"})).await;
    let paused = Http::new().post(server.url("/api/v1/streams/even/pause")).send().await.expect("an answer");
    assert_eq!(paused.status(), StatusCode::OK);
    publish(&server, "events", json!([{"n": 2}, {"n": 4}])).await;
    waiting(&server.service, "even", 2).await;
    let resumed = Http::new().post(server.url("/api/v1/streams/even/resume")).json(&json!({"from": "latest"})).send();
    let resumed: Value = resumed.await.expect("an answer").json().await.expect("JSON");
    let wanted = "resumed stream \"even\": 0 rows had waited; 2 rows were skipped, as SHOW LOSSES tells";
    assert_eq!(resumed["message"], wanted);
    publish(&server, "events", json!([{"n": 6}])).await;
    assert_eq!(client.message().await["rows"], json!([[6]]));
    let jobs = all_accounted(&server.service).await;
    assert_eq!(jobs.iter().map(|job| job.counters.skipped).sum::<u64>(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_was_open_when_its_stream_was_paused_is_whole() {
    let server = TestServer::start().await;
    server
        .execute("CREATE SOURCE hits (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')")
        .await;
    server.execute("CREATE STREAM sums AS SELECT window_start, sum(n) AS n FROM hits GROUP BY tumble('10s')").await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": "SELECT n FROM sums"})).await;
    let hit = |n: u64, second: u64| json!({"n": n, "ts": format!("2020-01-01T00:00:{second:02}Z")});
    publish(&server, "hits", json!([hit(1, 1), hit(2, 5)])).await;
    told(&server.service, "PAUSE STREAM sums").await;
    publish(&server, "hits", json!([hit(4, 7), hit(8, 11), hit(16, 25)])).await;
    waiting(&server.service, "sums", 3).await;
    // The same query, asked meanwhile, does not rest.
    let mut other = Client::hello(&server).await;
    let sql = "SELECT sum(n) AS n FROM hits SINCE EARLIEST GROUP BY tumble('10s')";
    other.subscribe(json!({"id": "1", "sql": sql})).await;
    assert_eq!(rows(&mut other, 2).await, [json!([7]), json!([8])]);
    told(&server.service, "RESUME STREAM sums").await;
    assert_eq!(rows(&mut client, 2).await, [json!([7]), json!([8])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_rests_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    let durable = "durability = 'durable'";
    {
        let service = open(data.clone(), engine_config(), Vec::new()).await;
        told(&service, &format!("CREATE SOURCE events (n BIGINT) WITH (connector = 'http', {durable})")).await;
        let stream = "AS SELECT n FROM events WHERE n % 2 = 0";
        told(&service, &format!("CREATE STREAM even WITH ({durable}) {stream}")).await;
        service.publish("events", json!([{"n": 2}]).to_string().into()).await.expect("is taken");
        while service.engine().streams().iter().any(|stream| stream.name == "even" && stream.rows < 1) {
            tokio::task::yield_now().await;
        }
        told(&service, "PAUSE STREAM even").await;
        service.publish("events", json!([{"n": 4}]).to_string().into()).await.expect("is taken");
        service.engine().shutdown().await;
    }
    let service = open(data.clone(), engine_config(), Vec::new()).await;
    service.publish("events", json!([{"n": 6}, {"n": 7}]).to_string().into()).await.expect("is taken");
    waiting(&service, "even", 3).await;
    assert_eq!(told(&service, "RESUME STREAM even").await, "resumed stream \"even\": 3 rows had waited");
    while service.engine().streams().iter().any(|stream| stream.name == "even" && stream.rows < 2) {
        tokio::task::yield_now().await;
    }
    service.engine().shutdown().await;
    drop(service);
    let service = open(data, engine_config(), Vec::new()).await;
    let even = service.engine().streams().into_iter().find(|stream| stream.name == "even").expect("it is there");
    assert_eq!((even.paused, even.log_rows), (None, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_query_that_was_paused_goes_on_where_it_was() {
    let server = server().await;
    let (mut client, mut other) = (Client::hello(&server).await, Client::hello(&server).await);
    let subscribed = client.subscribe(json!({"id": "1", "sql": "SELECT n FROM events WHERE n > 0"})).await;
    other.subscribe(json!({"id": "1", "sql": "SELECT n FROM events WHERE n > 0"})).await;
    let id = subscribed["query"].as_str().expect("an id").to_owned();
    told(&server.service, &format!("PAUSE QUERY '{id}'")).await;
    publish(&server, "events", json!([{"n": 1}, {"n": 0}, {"n": 2}])).await;
    assert_eq!(notices(&mut client, true).await[0]["of"], json!(id));
    let (_, answer) = post(&server, "SHOW QUERIES").await;
    assert_eq!(answer["results"][0]["rows"][0][6], "paused", "{answer}");
    told(&server.service, &format!("RESUME QUERY {id}")).await;
    assert_eq!(rows(&mut client, 2).await, [json!([1]), json!([2])]);
    assert_eq!(rows(&mut other, 2).await, [json!([1]), json!([2])]);
    let paused = Http::new().post(server.url(&format!("/api/v1/queries/{id}/pause"))).send().await;
    assert_eq!(paused.expect("an answer").status(), StatusCode::OK);
    notices(&mut client, true).await;
    publish(&server, "events", json!([{"n": 3}])).await;
    assert_eq!(rows(&mut other, 1).await, [json!([3])], "it does not rest");
    told(&server.service, &format!("RESUME QUERY {id} FROM LATEST")).await;
    let gap = client.message().await;
    assert_eq!((&gap["type"], &gap["rows"], &gap["reason"]), (&json!("gap"), &json!(1), &json!("skipped")));
    publish(&server, "events", json!([{"n": 4}])).await;
    assert_eq!(client.message().await["rows"], json!([[4]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_rest_is_refused_with_help() {
    let server = server().await;
    server.execute("CREATE STREAM totals AS SELECT n, count(*) AS c FROM events GROUP BY n").await;
    let mut client = Client::hello(&server).await;
    let running = client.subscribe(json!({"id": "1", "sql": "SELECT n, c FROM totals", "snapshot": false})).await;
    let query = format!("PAUSE QUERY {}", running["query"].as_str().expect("an id"));
    for (sql, code) in [
        ("PAUSE STREAM totals", "unsupported"),
        ("PAUSE STREAM events", "wrong_kind"),
        ("RESUME STREAM nothing", "unknown_relation"),
        ("PAUSE QUERY q0", "unknown_query"),
        (query.as_str(), "unsupported"),
    ] {
        let (_, answer) = post(&server, sql).await;
        assert_eq!(answer["error"]["code"], code, "{sql}: {answer}");
        assert!(answer["error"]["help"].is_string(), "{sql}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_query_becomes_a_stream_and_keeps_its_state() {
    let server = TestServer::start().await;
    server
        .execute("CREATE SOURCE hits (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')")
        .await;
    let hit = |n: u64, second: u64| json!({"n": n, "ts": format!("2020-01-01T00:00:{second:02}Z")});
    let mut client = Client::hello(&server).await;
    let sql = "SELECT window_start, sum(n) AS n FROM hits WHERE n < $most GROUP BY tumble('10s') EMIT EVERY '1s'";
    let running = client.subscribe(json!({"id": "1", "sql": sql, "params": {"most": 100}})).await;
    let id = running["query"].as_str().expect("an id").to_owned();
    publish(&server, "hits", json!([hit(1, 1), hit(2, 5), hit(500, 6)])).await;
    client.message().await;
    let jobs = |kind: &str| {
        let jobs = server.service.engine().jobs();
        jobs.into_iter().filter(|job| job.kind == kind).map(|job| job.id).collect::<Vec<_>>()
    };
    let before = jobs("aggregate");
    let promoted = Http::new().post(server.url(&format!("/api/v1/queries/{id}/promote")));
    let promoted: Value =
        promoted.json(&json!({"name": "sums"})).send().await.expect("an answer").json().await.expect("JSON");
    let wanted = format!("created stream \"sums\" from query \"{id}\", with what {} hold", before.join(", "));
    assert_eq!(promoted["message"], wanted);
    let mut reader = Client::hello(&server).await;
    reader.subscribe(json!({"id": "1", "sql": "SELECT n FROM sums"})).await;
    told(&server.service, &format!("KILL QUERY '{id}'")).await;
    publish(&server, "hits", json!([hit(4, 7), hit(8, 11)])).await;
    assert_eq!(reader.message().await["rows"], json!([[7]]));
    assert_eq!(jobs("aggregate"), before, "the same job goes on");
    let (_, refused) = post(&server, "CREATE STREAM more FROM QUERY 'q0'").await;
    assert_eq!(refused["error"]["code"], "unknown_query", "{refused}");
    let mut past = Client::hello(&server).await;
    let sql = "SELECT n, count(*) AS c FROM hits SINCE EARLIEST GROUP BY n";
    let private = past.subscribe(json!({"id": "1", "sql": sql})).await;
    let sql = format!("CREATE STREAM more FROM QUERY '{}'", private["query"].as_str().expect("an id"));
    let (_, refused) = post(&server, &sql).await;
    assert_eq!(refused["error"]["code"], "unsupported", "{refused}");
    assert!(refused["error"]["span"].is_object() && refused["error"]["help"].is_string(), "{refused}");
    let (_, refused) = post(&server, "CREATE STREAM hits FROM QUERY 'q0'").await;
    assert_eq!(refused["error"]["code"], "unknown_query", "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_query_is_there_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    {
        let service = open(data.clone(), engine_config(), Vec::new()).await;
        told(&service, "CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
        let Answer::Live(query) = service.execute("SELECT n FROM events SINCE '5m' WHERE n > 1").await.expect("live")
        else {
            panic!("it is a live query");
        };
        let running = service.engine().subscribe(&query, Default::default()).await.expect("it runs");
        let id = running.info().query.clone();
        told(&service, &format!("CREATE STREAM IF NOT EXISTS kept FROM QUERY '{id}'")).await;
        assert!(
            told(&service, &format!("CREATE STREAM IF NOT EXISTS kept FROM QUERY '{id}'")).await.contains("already")
        );
        drop(running);
        service.engine().shutdown().await;
    }
    let service = open(data, engine_config(), Vec::new()).await;
    let names: Vec<String> = service.engine().streams().into_iter().map(|stream| stream.name).collect();
    assert_eq!(names, ["events", "kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_that_lack_skipped_rows_are_told_as_partial() {
    let server = TestServer::start().await;
    server
        .execute("CREATE SOURCE hits (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')")
        .await;
    server.execute("CREATE STREAM sums AS SELECT window_start, sum(n) AS n FROM hits GROUP BY tumble('10s')").await;
    let hit = |n: u64, second: u64| json!({"n": n, "ts": format!("2020-01-01T00:00:{second:02}Z")});
    told(&server.service, "PAUSE STREAM sums").await;
    publish(&server, "hits", json!([hit(1, 1), hit(2, 5)])).await;
    waiting(&server.service, "sums", 2).await;
    told(&server.service, "RESUME STREAM sums FROM LATEST").await;
    let mut client = Client::hello(&server).await;
    let subscribed = client.subscribe(json!({"id": "1", "stream": "sums"})).await;
    assert_eq!(subscribed["complete_from"], "2020-01-01T00:00:05.000000001Z", "{subscribed}");
    publish(&server, "hits", json!([hit(4, 7), hit(8, 11)])).await;
    assert_eq!(rows(&mut client, 1).await[0][1], json!(4));
    let (_, losses) = post(&server, "SHOW LOSSES").await;
    let losses = losses["results"][0]["rows"].as_array().expect("rows").clone();
    assert!(losses.iter().any(|row| row[2] == "skipped" && row[3] == 2), "{losses:?}");
}
