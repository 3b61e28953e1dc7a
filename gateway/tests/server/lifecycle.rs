//! How named streams and live queries end, rest and go on.

use reqwest::{Client as Http, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, TestServer};

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
