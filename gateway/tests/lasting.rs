//! Streams that outlast the process, which is killed without a warning.

mod process;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use process::Server;

/// Kills the process and starts another on the same folder.
fn killed(server: Server, folder: &Path) -> Server {
    drop(server);
    Server::start(folder)
}

/// Rows `(second, page)`, as NDJSON.
fn rows(seconds: std::ops::Range<u32>) -> String {
    let line = |second: u32| {
        let at = |half: &str| format!("2026-01-01T00:{:02}:{:02}{half}Z", second / 60, second % 60);
        format!("{{\"ts\":\"{}\",\"page\":\"/\"}}\n{{\"ts\":\"{}\",\"page\":\"/{}\"}}\n", at(""), at(".5"), second % 3)
    };
    seconds.map(line).collect()
}

/// So many rows of a stream from its first.
fn read(server: &Server, stream: &str, limit: usize) -> Vec<String> {
    let told = server.told(&["tail", stream, "--from", "earliest", "--limit", &limit.to_string()], "");
    told.lines().map(str::to_owned).collect()
}

const SOURCE: &str = "CREATE SOURCE clicks (ts TIMESTAMP, page TEXT, WATERMARK FOR ts AS ts)
    WITH (connector = 'http', durability = 'durable', idle_timeout = '1h')";

#[test]
fn acknowledged_rows_are_there_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path());
    server.told(&["sql", "-e", SOURCE], "");
    for round in 0..4 {
        server.told(&["push", "clicks"], &rows(round * 5..(round + 1) * 5));
        server = if round % 2 == 0 {
            killed(server, folder.path())
        } else {
            assert_eq!(server.stop(), Some(0));
            Server::start(folder.path())
        };
    }
    let described = server.told(&["sql", "-e", "DESCRIBE clicks"], "");
    assert!(described.contains("\"durability\",\"value\":\"durable\""), "{described}");
    assert!(described.contains("40 rows, "), "{described}");
    let kept = read(&server, "clicks", 40);
    let sent: Vec<String> = rows(0..20).lines().map(str::to_owned).collect();
    assert_eq!(kept.len(), sent.len());
    for (kept, sent) in kept.iter().zip(&sent) {
        assert_eq!(kept.replace(".500Z", ".5Z"), *sent);
    }
}

/// Posts a numbered request; the answer's body.
fn post(server: &Server, sequence: u64, body: String) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let url = format!("{}/api/v1/streams/clicks/events?producer_id=shop&sequence={sequence}", server.url);
    runtime.block_on(async {
        let answer = reqwest::Client::new().post(url).body(body).send().await.expect("an answer");
        answer.text().await.expect("a body")
    })
}

#[test]
fn a_numbered_request_that_is_sent_again_after_a_kill_is_not_doubled() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path());
    server.told(&["sql", "-e", SOURCE], "");
    for sequence in 0..4 {
        let body = || rows(sequence * 5..(sequence + 1) * 5);
        let told = post(&server, sequence.into(), body());
        assert!(told.contains("\"accepted\":10") && told.contains("\"duplicate\":false"), "{told}");
        server = killed(server, folder.path());
        let told = post(&server, sequence.into(), body());
        assert!(told.contains("\"accepted\":10") && told.contains("\"duplicate\":true"), "{told}");
    }
    let told = post(&server, 5, rows(0..1));
    assert!(told.contains("sequence_gap"), "{told}");
    let described = server.told(&["sql", "-e", "DESCRIBE clicks"], "");
    assert!(described.contains("40 rows, "), "{described}");
    // A source of that name that begins anew knows nobody.
    server.told(&["sql", "-e", "DROP SOURCE clicks"], "");
    server.told(&["sql", "-e", SOURCE], "");
    assert!(post(&server, 0, rows(0..1)).contains("\"duplicate\":false"));
}

#[test]
fn a_chain_of_durable_streams_tells_every_row_once_whenever_it_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path());
    server.told(&["sql", "-e", SOURCE], "");
    let durable = "WITH (durability = 'durable')";
    let create = [
        format!("CREATE STREAM front {durable} AS SELECT ts, page FROM clicks WHERE page = '/'"),
        format!(
            "CREATE STREAM counts {durable} AS
             SELECT window_start, page, count(*) AS n FROM clicks GROUP BY tumble('2s'), page"
        ),
        format!("CREATE STREAM busy {durable} AS SELECT window_start, n FROM counts WHERE n > 1"),
        format!(
            "CREATE STREAM totals {durable} AS
             SELECT window_start, sum(n) AS n, count(*) AS pages FROM counts GROUP BY tumble('10s')"
        ),
        // Snapshots are taken of what it keeps.
        format!(
            "CREATE STREAM visits {durable} AS SELECT page, count(*) AS n FROM clicks GROUP BY page, session('1s')"
        ),
    ];
    for statement in &create {
        server.told(&["sql", "-e", statement], "");
    }
    let described = server.told(&["sql", "-e", "DESCRIBE totals"], "");
    assert!(described.contains("every row counts once"), "{described}");
    let described = server.told(&["sql", "-e", "DESCRIBE visits"], "");
    assert!(described.contains("every row counts once"), "{described}");
    for round in 0..6 {
        server.told(&["push", "clicks"], &rows(round * 20..round * 20 + 13));
        server = killed(server, folder.path());
        server.told(&["push", "clicks"], &rows(round * 20 + 13..(round + 1) * 20));
        // As soon as some of it is there.
        read(&server, "counts", 10);
        server = killed(server, folder.path());
    }
    // Closes the windows before it.
    server.told(&["push", "clicks"], &rows(200..201));
    let front = read(&server, "front", 121);
    assert_eq!(front.len(), 121);
    for (second, row) in front.iter().enumerate().take(120) {
        let wanted = format!("00:{:02}:{:02}Z", second / 60, second % 60);
        assert!(row.contains(&wanted), "{row} is not of second {second}");
    }
    // Sixty windows of two seconds: "/" twice, and two of the three other pages, or one.
    let mut counts = read(&server, "counts", 180);
    counts.sort();
    assert_eq!(counts.iter().filter(|row| row.contains("\"page\":\"/\"")).count(), 60, "{counts:#?}");
    let total: usize = counts
        .iter()
        .map(|row| row.rsplit_once(':').expect("it ends with n").1.trim_end_matches('}').parse::<usize>().expect("n"))
        .sum();
    assert_eq!(total, 240);
    counts.dedup();
    assert_eq!(counts.len(), 180);
    assert_eq!(read(&server, "busy", 60).len(), 60);
    // "/" comes every second, any other page every third.
    let mut visits = read(&server, "visits", 121);
    visits.sort();
    assert_eq!(visits.iter().filter(|row| row.contains("\"n\":1}")).count(), 120, "{visits:#?}");
    assert_eq!(visits.first().map(String::as_str), Some("{\"page\":\"/\",\"n\":120}"));
    let totals = read(&server, "totals", 12);
    for (at, row) in totals.iter().enumerate() {
        let start = format!("00:{:02}:{:02}Z", at * 10 / 60, at * 10 % 60);
        assert!(row.contains(&start) && row.contains("\"n\":20,\"pages\":15"), "{row}");
    }
}

#[test]
fn a_dropped_stream_leaves_nothing_and_its_name_begins_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", SOURCE], "");
    server.told(&["push", "clicks"], &rows(0..5));
    server.told(&["sql", "-e", "DROP SOURCE clicks"], "");
    server.told(&["sql", "-e", SOURCE], "");
    server.told(&["push", "clicks"], &rows(7..8));
    let server = killed(server, folder.path());
    let kept = read(&server, "clicks", 2);
    assert!(kept[0].contains("00:00:07Z"), "{kept:?}");
    let segments = fs::read_dir(folder.path().join("data/streams/clicks/p0")).expect("the log's folder").count();
    assert_eq!(segments, 1);
}

#[test]
fn what_cannot_last_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", SOURCE], "");
    let refused = |sql: &str| {
        let output = server.client(&["sql", "-e", sql], "");
        assert!(!output.status.success(), "{sql}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = refused("CREATE STREAM s WITH (durability = 'eternal') AS SELECT * FROM clicks");
    assert!(told.contains("cannot be \"eternal\""), "{told}");
    let told = refused("CREATE STREAM s WITH (durabilty = 'durable') AS SELECT * FROM clicks");
    assert!(told.contains("durability"), "{told}");
    let path = folder.path().join("a.json");
    fs::write(&path, "{\"n\":1}\n").expect("a file");
    let told = refused("CREATE SOURCE f WITH (connector = 'file', path = 'a.json', durability = 'durable')");
    assert!(told.contains("can be read again"), "{told}");
}

#[test]
fn what_a_dropped_stream_left_when_the_process_died_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", SOURCE], "");
    let kept = "CREATE STREAM \"Visits 1\" WITH (durability = 'durable') AS
        SELECT page, count(*) AS n FROM clicks GROUP BY page, session('1s')";
    server.told(&["sql", "-e", kept], "");
    server.told(&["push", "clicks"], &rows(0..5));
    drop(server);
    let streams = folder.path().join("data/streams");
    let names = || -> BTreeSet<String> {
        let found = fs::read_dir(&streams).expect("the folder").flatten();
        found.map(|entry| entry.file_name().into_string().expect("it is text")).collect()
    };
    let before = names();
    assert_eq!(before.len(), 2, "{before:?}");
    // As the process leaves it that ends between the catalog's change and the removal.
    fs::create_dir_all(streams.join("ghost/p0")).expect("a folder");
    fs::write(streams.join("ghost/p0/0.log"), "rows").expect("a file");
    let server = Server::start(folder.path());
    assert_eq!(names(), before);
    assert_eq!(read(&server, "clicks", 10).len(), 10);
}
